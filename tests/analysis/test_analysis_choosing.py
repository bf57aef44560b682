"""Choosing a candidate: limits, the knee, trials and placements, on a study whose truth is known."""

import dataclasses
import runpy
from pathlib import Path

import pytest

from nas_attn.analysis.choosing import Chosen, choose, key_among
from nas_attn.analysis.criteria import Criteria
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.errors import StudyError, UserError
from nas_attn.study.reading import snapshot

made_study = runpy.run_path(str(Path(__file__).parents[1] / "made_study.py"))


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(made_study["usual"](tmp_path_factory.mktemp("made")).store)


def chosen(now: Snapshot, **criteria: object) -> Chosen:
    return choose(now, Criteria(**criteria), lambda placement: key_among(now, placement) or "unknown")


def scored(now: Snapshot):
    return [view for view in now.candidates if view.state == "scored" and view.latency is not None]


def test_nothing_said_is_the_recommended_one(now: Snapshot) -> None:
    assert chosen(now).view.key == now.recommendation.key


@pytest.mark.parametrize("limit", [1.0, 1.06, 1.11, 1.3, 2.0])
def test_within_a_latency_nothing_is_better(now: Snapshot, limit: float) -> None:
    view = chosen(now, max_latency_ratio=limit).view
    assert view.latency.ratio <= limit
    best = max(v.estimates["accuracy"].mean for v in scored(now) if v.latency.ratio <= limit)
    assert view.estimates["accuracy"].mean == best
    assert chosen(now, max_latency_ms=limit * now.latency.reference_ms * (1 + 1e-12)).view == view


def test_the_stricter_of_two_latencies_counts(now: Snapshot) -> None:
    loose, strict = 2.0, 1.06
    both = chosen(now, max_latency_ratio=loose, max_latency_ms=strict * now.latency.reference_ms).view
    assert both == chosen(now, max_latency_ratio=strict).view != chosen(now, max_latency_ratio=loose).view


def test_of_those_that_reach_an_accuracy_the_fastest(now: Snapshot) -> None:
    means = sorted(v.estimates["accuracy"].mean for v in scored(now))
    limit = means[len(means) // 2]
    view = chosen(now, min_accuracy=limit).view
    assert view.estimates["accuracy"].mean >= limit
    assert view.latency.ratio == min(v.latency.ratio for v in scored(now) if v.estimates["accuracy"].mean >= limit)
    within = chosen(now, min_accuracy=limit, max_latency_ratio=2.0).view
    assert within.estimates["accuracy"].mean == means[-1], "with a latency given, the best within it"


@pytest.mark.parametrize(
    ("criteria", "said"),
    [
        (
            {"max_latency_ratio": 0.9},
            r"is within 0\.9 times the backbone's latency: nearest is none with .*1\.000 times",
        ),
        ({"max_latency_ms": 0.5}, r"is within 0\.5 ms on Test CPU 3000: nearest is none with"),
        ({"min_accuracy": 0.99}, r"reaches an accuracy of 99\.00 %: nearest is .* with 7\d\.\d\d %, 1\.\d+ times"),
        ({"min_accuracy": 0.99, "max_latency_ratio": 1.06}, r"reaches an accuracy of 99\.00 % within 1\.06 times"),
        ({"trial": 99}, "has no trial 99: it has 0 to 18"),
        ({"placement": "stage1=cbam"}, "has not tried 'stage1=cbam': resume the study"),
    ],
)
def test_where_there_is_none_the_nearest_is_named(now: Snapshot, criteria: dict[str, object], said: str) -> None:
    with pytest.raises(StudyError, match=said):
        chosen(now, **criteria)


@pytest.mark.parametrize(
    ("criteria", "said"),
    [
        ({"trial": 1, "knee": True}, "knee and trial"),
        ({"trial": 1, "max_latency_ratio": 1.1}, "max_latency_ratio and trial"),
        ({"max_latency_ratio": float("nan")}, "max_latency_ratio = nan"),
        ({"max_latency_ms": -1.0}, "max_latency_ms = -1"),
        ({"min_accuracy": 70.0}, "min_accuracy = 70"),
    ],
)
def test_criteria_that_cannot_be(criteria: dict[str, object], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Criteria(**criteria)


def front_of(now: Snapshot, values: list[tuple[float, float]]) -> Snapshot:
    """A study whose front has these values."""
    views = [
        dataclasses.replace(view, values=value, on_front=True, tied_with=())
        for view, value in zip(now.candidates, values, strict=False)
    ]
    return dataclasses.replace(now, candidates=tuple(views))


def test_the_knee_lies_farthest_below_the_line_between_the_ends(now: Snapshot) -> None:
    knee = front_of(now, [(0.70, 1.0), (0.71, 1.4), (0.78, 1.2), (0.80, 2.0)])
    assert chosen(knee, knee=True).view.trial == 2


@pytest.mark.parametrize("values", [[(0.7, 1.0), (0.8, 2.0)], [(0.7, 1.0), (0.71, 1.9), (0.8, 2.0)]])
def test_a_front_without_a_knee_says_so(now: Snapshot, values: list[tuple[float, float]]) -> None:
    with pytest.raises(StudyError, match="has no knee"):
        chosen(front_of(now, values), knee=True)


def test_ties_and_doubts_are_named(now: Snapshot) -> None:
    a, b = now.front[:2]
    tied = dataclasses.replace(a, tied_with=(b.key,))
    views = tuple(tied if view.key == a.key else view for view in now.candidates)
    choice = chosen(dataclasses.replace(now, candidates=views), trial=a.trial)
    assert [view.key for view in choice.alike] == [b.key]
    assert f"Cannot be told apart from it in any objective: {b.label}." in choice.sentences
    worse = next(v for v in now.candidates if v.beats_none is not None and v.beats_none < 0.5)
    assert any("the bare backbone" in s for s in chosen(now, trial=worse.trial).sentences)


def test_an_interval_beyond_the_limit_is_named(now: Snapshot) -> None:
    view = next(v for v in scored(now) if v.latency.high > v.latency.ratio)
    limit = (view.latency.ratio + view.latency.high) / 2
    alone = dataclasses.replace(now, candidates=(view,))
    assert "exceeds the limit" in " ".join(chosen(alone, max_latency_ratio=limit).sentences)
