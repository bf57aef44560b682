"""Choosing a candidate: limits, trials and placements, on a study whose truth is
known.
"""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_study import (
    TRUE_COST,
    TRUE_GAIN,
    MadeStudy,
    everywhere,
    recipe,
    recommended,
    taking,
    usual,
)

from nas_attn.answer.answer import answer_of
from nas_attn.answer.answer_text import answer_lines
from nas_attn.answer.choosing import Chosen, choice_sentences, choose, key_among
from nas_attn.answer.criteria import Criteria
from nas_attn.answer.next_step import next_of
from nas_attn.answer.reading import snapshot
from nas_attn.answer.rounds import RIVALS, next_round, to_confirm
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import StudyError, UserError


def chosen(now: Snapshot, **criteria: Any) -> Chosen:
    return choose(
        answer_of(now),
        Criteria(**criteria),
        lambda placement: key_among(now, placement) or "unknown",
    )


def scored(now: Snapshot):
    return [view for view in now.candidates if view.state == "scored" and view.latency is not None]


def test_nothing_said_is_the_recommended_one(now: Snapshot) -> None:
    assert chosen(now).view.key == recommended(now).key


def test_a_candidate_goes_by_its_label_too(now: Snapshot) -> None:
    assert all(chosen(now, placement=view.label).view.key == view.key for view in scored(now))


@pytest.mark.parametrize("limit", [1.0, 1.06, 1.11, 1.3, 2.0])
def test_within_a_latency_nothing_is_better(now: Snapshot, limit: float) -> None:
    view = chosen(now, max_latency_ratio=limit).view
    assert view.latency.ratio <= limit
    best = max(v.estimates["accuracy"].mean for v in scored(now) if v.latency.ratio <= limit)
    assert view.estimates["accuracy"].mean == best
    assert chosen(now, max_latency_ms=limit * now.latency.reference_ms * (1 + 1e-12)).view == view


def test_the_stricter_of_two_latencies_counts(now: Snapshot) -> None:
    loose, strict = 2.0, 1.06
    both = chosen(
        now, max_latency_ratio=loose, max_latency_ms=strict * now.latency.reference_ms
    ).view
    assert (
        both
        == chosen(now, max_latency_ratio=strict).view
        != chosen(now, max_latency_ratio=loose).view
    )


def test_of_those_that_reach_an_accuracy_the_fastest(now: Snapshot) -> None:
    means = sorted(v.estimates["accuracy"].mean for v in scored(now))
    limit = means[len(means) // 2]
    view = chosen(now, min_accuracy=limit).view
    assert view.estimates["accuracy"].mean >= limit
    assert view.latency.ratio == min(
        v.latency.ratio for v in scored(now) if v.estimates["accuracy"].mean >= limit
    )
    within = chosen(now, min_accuracy=limit, max_latency_ratio=2.0).view
    assert within.estimates["accuracy"].mean == means[-1], (
        "with a latency given, the best within it"
    )


@pytest.mark.parametrize(
    ("criteria", "said"),
    [
        (
            {"max_latency_ratio": 0.9},
            r"is within 0\.9 times .*: the nearest is the bare backbone with .*1\.000 times",
        ),
        (
            {"max_latency_ms": 0.5},
            r"is within 0\.5 ms on Test CPU 3000: the nearest is the bare backbone with",
        ),
        (
            {"min_accuracy": 0.99},
            r"reaches an accuracy of 99\.00 %: the nearest is .* with 7\d\.\d\d %, 1\.\d+ times",
        ),
        (
            {"min_accuracy": 0.99, "max_latency_ratio": 1.06},
            r"reaches an accuracy of 99\.00 % within 1\.06 times",
        ),
        ({"trial": 99}, "has no trial 99: it has 0 to 18"),
        ({"placement": "stage1=cbam"}, "has not tried 'stage1=cbam': nas-attn resume"),
    ],
)
def test_where_there_is_none_the_nearest_is_named(
    now: Snapshot, criteria: dict[str, Any], said: str
) -> None:
    with pytest.raises(StudyError, match=said):
        chosen(now, **criteria)


@pytest.mark.parametrize(
    ("criteria", "said"),
    [
        ({"trial": 1, "placement": "none"}, "trial and placement"),
        ({"trial": 1, "max_latency_ratio": 1.1}, "max_latency_ratio and trial"),
        ({"max_latency_ratio": float("nan")}, "max_latency_ratio = nan"),
        ({"max_latency_ms": -1.0}, "max_latency_ms = -1"),
        ({"min_accuracy": 70.0}, "min_accuracy = 70"),
    ],
)
def test_criteria_that_cannot_be(criteria: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        Criteria(**criteria)


def test_doubts_are_named(now: Snapshot) -> None:
    worse = next(v for v in now.candidates if v.beats_none is not None and v.beats_none < 0.5)
    assert any(
        "the bare backbone" in s for s in choice_sentences(now, chosen(now, trial=worse.trial))
    )


def test_an_interval_beyond_the_limit_is_named(now: Snapshot) -> None:
    view = next(v for v in scored(now) if v.latency.high > v.latency.ratio)
    limit = (view.latency.ratio + view.latency.high) / 2
    alone = dataclasses.replace(now, candidates=(view,))
    assert "exceeds the limit" in " ".join(
        choice_sentences(alone, chosen(alone, max_latency_ratio=limit))
    )


CBAM = "cbam(reduction=16, spatial_kernel_size=7)"


def labelled(lines: list[str]) -> dict[str, str]:
    return {line[:10].strip(): line[10:] for line in lines if re.match(r"[A-Z][a-z ]{9}\S", line)}


def test_it_names_the_gain_a_cheaper_one_and_the_next_step(now: Snapshot) -> None:
    lines = answer_lines(answer_of(now), "")
    assert lines[0].startswith("Take cbam at ")
    said = labelled(lines)
    assert "not tested" in said["Sure"]
    assert "points" in said["Faster"]
    assert "nas-attn test made" in "\n".join(lines)
    assert "nas-attn show made --why" in said["Reasons"]
    view, best = answer_of(now).faster.view, recommended(now)
    assert view.beats_none >= 0.7
    assert view.latency.high < best.latency.low


def test_the_text_and_the_table_of_the_front_agree(now: Snapshot) -> None:
    found = answer_of(now)
    gains = [one.view.gains["accuracy"].mean for one in (found.taken, found.faster)]
    assert found.taken.gain.mean == pytest.approx(gains[0])
    assert found.over(found.taken, found.faster).mean == pytest.approx(gains[0] - gains[1])


def test_what_was_tested_is_said_to_be(tmp_path: Path) -> None:
    made = usual(tmp_path)
    made.validation({"key-002": everywhere(CBAM), "key-000": "none"}, gain={"key-002": 0.05})
    lines = answer_lines(answer_of(snapshot(made.store)))
    said = labelled(lines)
    assert "tested, +4." in lines[0]
    assert "8 trainings each" in said["Sure"]
    assert any(line.strip() == "nas-attn retrain made" for line in lines)
    made.validation({"key-002": everywhere(CBAM), "key-000": "none"}, gain={"key-002": 0.0})
    twice = labelled(answer_lines(answer_of(snapshot(made.store))))
    assert "16 trainings each in 2 tests" in twice["Sure"], "the first test stays"
    instead = taking(snapshot(made.store), "key-001")
    assert any(line.strip() == "nas-attn test made" for line in answer_lines(instead)), (
        "another network was tested"
    )
    assert choose(instead, Criteria(), str).view.key == "key-001", "it is what the answer takes"
    made.validation({"key-002": everywhere(CBAM), "key-000": "none"}, gain={"key-002": -0.05})
    last = snapshot(made.store)
    assert answer_of(last).taken_key == "key-000", (
        "three tests that cancel out leave the bare backbone"
    )
    said = labelled(answer_lines(answer_of(last)))
    assert "24 trainings each in 3 tests" in said["Sure"]
    assert said["Next"].startswith("continue the search"), "after a negative answer"


def test_where_nothing_convinces_it_names_the_best_bet_and_what_a_test_of_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0004)
    begun = snapshot(usual(tmp_path, searched=3, seed=2).store)
    assert next_of(answer_of(begun)).purpose == "continue", "it may still find another"
    ended = {**begun.counts, "running": 0}
    now = dataclasses.replace(begun, planned=len(begun.candidates), waiting=0, counts=ended)
    lines = answer_lines(answer_of(now), " --storage x")
    assert lines[0].startswith("Keep the bare backbone")
    step = next_of(answer_of(now))
    assert step.purpose == "decide"
    assert 2 < step.step.seeds <= 32
    assert step.step.seeds == step.step.seeds
    assert step.seconds > 0
    (typed,) = (line.strip() for line in lines if "nas-attn test" in line)
    assert typed.endswith("--storage x")
    another = next_of(taking(now, "key-001"))
    assert another.purpose != "decide", "it is of another network"
    assert now.training_s(6) == pytest.approx(2 * now.training_s(3))


def test_without_scores_it_says_why_there_is_none(tmp_path: Path) -> None:
    first, *_ = answer_lines(answer_of(snapshot(MadeStudy(tmp_path).store)))
    assert "3 epochs" in first


def test_a_bare_backbone_alone_is_no_answer(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate("none", baseline="none", seeds=2)
    study.sessions()
    first, *_ = answer_lines(answer_of(snapshot(study.store)))
    assert "only the bare backbone" in first


def met(now: Snapshot, seed: int = 0) -> list[str]:
    return [str(view.placement) for view in next_round(now, np.random.default_rng(seed))]


def test_no_attention_the_recommended_a_faster_one_and_the_best_uniform_one_meet(
    tmp_path: Path,
) -> None:
    now = snapshot(usual(tmp_path, searched=20, seed=5).store)
    placements = met(now)
    assert placements[0] == "none"
    assert placements[1] == str(recommended(now).placement)
    assert len(placements) == len(set(placements)) == 2 + RIVALS
    best = max(
        (view for view in now.baselines if view.baseline != "none"), key=lambda view: view.values[0]
    )
    assert {str(best.placement), str(answer_of(now).faster.placement)} <= set(placements)
    assert met(now) == placements, "any worker that decides it decides the same"


def test_a_cost_as_the_first_objective_makes_nobody_the_best_that_is_only_the_cheapest(
    tmp_path: Path,
) -> None:
    studies = {}
    for first, second in (("accuracy", "latency"), ("latency", "accuracy")):
        (folder := tmp_path / first).mkdir()
        studies[first] = snapshot(usual(folder, recipe(objectives=[first, second])).store)
    now = studies["latency"]
    accuracies = {
        view.baseline: view.estimates["accuracy"].mean for view in now.baselines if not view.is_bare
    }
    uniform = now.best_uniform
    assert uniform.baseline == max(accuracies, key=lambda name: accuracies[name])
    assert uniform.latency_ratio > min(
        view.latency_ratio for view in now.baselines if not view.is_bare
    )
    assert [view.key for view in to_confirm(now)] == [
        view.key for view in to_confirm(studies["accuracy"])
    ]
    assert met(now) == met(studies["accuracy"])


def test_where_none_is_recommended_the_most_promising_one_meets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0)
    now = snapshot(usual(tmp_path, searched=20).store)
    assert str(recommended(now).placement) == "none"
    placements = met(now)
    assert placements[0] == "none"
    assert len(placements) == 2 + RIVALS
    assert len({rival for seed in range(40) for rival in met(now, seed)}) > len(placements), (
        "rivals are drawn"
    )


def test_only_those_that_may_be_recommended_take_part(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate("none", baseline="none", seeds=2)
    assert met(snapshot(study.store)) == []
    study.candidate(everywhere("se(reduction=8)"), baseline="uniform se(reduction=8)", seeds=2)
    study.candidate("stage1=se(reduction=8)", state="pruned", rungs=1)
    study.sessions()
    now = snapshot(study.store)
    assert met(now) == ["none", everywhere("se(reduction=8)")]
    tight = now.recipe.model_copy(
        update={"limits": now.recipe.limits.model_copy(update={"max_latency_ratio": 1.0})}
    )
    assert (now.best_uniform, dataclasses.replace(now, recipe=tight).best_uniform) == (
        now.candidates[1],
        None,
    )


@pytest.mark.parametrize(
    ("gain", "cost", "joins"), [(0.03, 0.02, True), (-0.06, 0.02, False), (0.03, 0.9, False)]
)
def test_a_control_joins_if_it_may_be_better_and_is_not_slower(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, cost: float, joins: bool
) -> None:
    made, control = usual(tmp_path), everywhere("dwconv")
    monkeypatch.setitem(TRUE_GAIN, "dwconv", gain)
    monkeypatch.setitem(TRUE_COST, "dwconv", cost)
    made.candidate(control, baseline="control dwconv", seeds=2)
    made.sessions()
    now = snapshot(made.store)
    rounds = [met(now, seed) for seed in range(20)]
    assert {len(placements) for placements in rounds} == {2 + RIVALS}
    assert {control in placements for placements in rounds} == {joins}
