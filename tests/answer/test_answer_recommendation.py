from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made_study import recipe

from nas_attn.answer.answer import (
    Answer,
    Lacking,
    Reason,
    answer_of,
    promising,
    required_from,
)
from nas_attn.answer.reasons import reasons, rule_text
from nas_attn.answer.snapshot import STATES, CandidateView, Means, Snapshot
from nas_attn.model import Evidence, ScoredRun, fit
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement
from nas_attn.storage.records import Latency

NOISE = (-0.0021, 0.0008, 0.0013, -0.0006, 0.0017, -0.0012)


Table = dict[str, tuple[float, float]]


def texts(table: Iterable[str]) -> dict[str, Placement]:
    return {name: parse(f"stage1={name.replace(' ', '_')}") for name in table}


def runs_of(table: Table, *, runs: int = 3) -> list[ScoredRun]:
    """Of name -> (value, latency ratio); runs that spread by about 0.0015, each seed moves all by
    0.01.
    """
    return [
        ScoredRun(name, s, 0, value + 0.01 * (s % 3) + NOISE[(i + 2 * s + i * s) % 6])
        for i, (name, (value, _)) in enumerate(table.items())
        for s in range(runs)
    ]


def model(table: Table, *, metric: str = "accuracy", lower: bool = False) -> Evidence:
    found = fit(runs_of(table), texts(table), metric=metric, lower_is_better=lower)
    assert found is not None
    return found


BASELINES = {"none": "none", "uniform se": "uniform se", "dwconv": "control dwconv"}


def view(table: Table, trial: int, evidence: Evidence) -> CandidateView:
    """A candidate that is on the front; `dwconv` and `conv` are larger networks."""
    name = [*table][trial]
    ratio = table[name][1]
    gain = None if name == "none" or "none" not in table else evidence.gain(name, "none")
    return CandidateView(
        key=name,
        placement=texts(table)[name],
        trial=trial,
        state="scored",
        baseline=BASELINES.get(name),
        reason="",
        cost=None,
        latency=Latency(ratio, 0.99 * ratio, 1.01 * ratio, 4.0, 6),
        scores=(),
        rung=0,
        estimates={evidence.metric: evidence.estimates[name]},
        beats_none=None if gain is None else gain.probability,
        values=(evidence.estimates[name].mean, ratio),
        on_front=True,
        gains={} if gain is None else {evidence.metric: gain},
        means=Means.NOTHING if name == "none" else MEANS.get(name, Means.ATTENTION),
        on_front_of_placements=True,
    )


MEANS = {"dwconv": Means.LARGER, "conv": Means.LARGER}


def study(
    evidence: Evidence,
    views: Iterable[CandidateView],
    *,
    limit: float | None = None,
    worth: float | None = None,
) -> Snapshot:
    """A study of these candidates that starts from a trained backbone."""
    made = recipe(
        training={"start": "backbone", "rungs": [3]},
        limits={"max_latency_ratio": limit} if limit else {},
        answer={"worth": worth} if worth else {},
    )
    candidates = tuple(views)
    return Snapshot(
        study="made",
        created_at=0.0,
        recipe=made,
        versions={},
        objectives=("accuracy", "latency"),
        primary=evidence.metric,
        counts=dict.fromkeys(STATES, 0) | {"scored": len(candidates)},
        candidates=candidates,
        backbone=(),
        noise={evidence.metric: evidence.noise},
        longer=None,
        latency=None,
        test_readings=(),
        validations=(),
        pooled=(),
        planned=len(candidates),
        constants=(),
        cautions=(),
        retrained=(),
        elsewhere=(),
        evidence={evidence.metric: evidence},
        searched={},
    )


def decide(
    table: Table, *, limit: float | None = None, worth: float | None = None, **more: Any
) -> Answer:
    """Decides among name -> (value, latency ratio)."""
    evidence = model(table, **more)
    views = [view(table, trial, evidence) for trial in range(len(table))]
    return answer_of(study(evidence, views, limit=limit, worth=worth))


def test_a_limit_that_no_placement_meets_is_named() -> None:
    found = decide(SPREAD, limit=1.05)
    assert found.taken_key == "none"
    assert found.reason is Reason.OUT_OF_REACH
    assert "1.10" in rule_text(found)


SPREAD = {
    "none": (0.70, 1.0),
    "uniform se": (0.71, 1.2),
    "a": (0.72, 1.3),
    "b": (0.73, 1.6),
    "c": (0.69, 1.1),
}


def test_without_a_limit_the_largest_likely_gain_wins() -> None:
    best = decide(SPREAD)
    assert best.taken is not None
    assert (best.taken_key, best.taken.ratio) == ("b", pytest.approx(1.6))
    assert best.taken.gain.probability > 0.99
    assert best.faster is not None
    assert best.faster.key == "a", "the most promising of the faster ones"
    assert best.slower is None


def test_a_limit_is_kept() -> None:
    assert decide(SPREAD, limit=1.35).taken_key == "a"


def test_the_fastest_that_loses_less_than_what_counts_is_taken_and_what_more_would_buy_is_said() -> (
    None
):
    best = decide(SPREAD | {"b": (0.7202, 1.6)})
    assert best.reason is Reason.FASTEST
    assert best.taken is not None
    assert (best.taken.key, best.bet and best.bet.key) == ("a", "b")
    assert best.taken.gain.probability >= 0.7
    assert best.slower is not None
    assert (best.slower.key, best.slower.ratio) == ("b", pytest.approx(1.6))
    within = decide(SPREAD | {"b": (0.7202, 1.6)}, limit=1.7)
    assert within.taken_key == "a"
    assert "1.7 times" in rule_text(within)


def test_what_counts_is_a_tenth_of_the_gain_or_of_the_noise() -> None:
    clear = decide(SPREAD)
    noisy = decide({"none": (0.70, 1.0), "a": (0.7055, 1.3)})
    assert clear.taken is not None
    assert clear.worth == pytest.approx(0.1 * clear.taken.gain.mean)
    noise = model({"none": (0.70, 1.0), "a": (0.7055, 1.3)}).noise
    assert noise.paired_sd is not None
    assert noisy.worth == pytest.approx(0.1 * noise.paired_sd)


@pytest.mark.parametrize(("worth", "key"), [(0.001, "b"), (0.015, "a"), (0.05, "none")])
def test_what_is_worth_having_decides_and_may_be_said(worth: float, key: str) -> None:
    best = decide(SPREAD, worth=worth)
    assert (best.taken_key, best.worth) == (key, worth)
    if key == "none":
        assert best.bet is not None
        assert (best.bet.key, best.reason) == ("b", Reason.TOO_SMALL)


@pytest.mark.parametrize("a", [0.6990, 0.7004, 0.7008])
def test_only_what_is_more_likely_to_help_than_not_is_a_bet(a: float) -> None:
    best = decide({"none": (0.70, 1.0), "a": (a, 1.3)})
    assert best.taken_key == "none"
    assert best.bet is not None
    assert promising(best.bet.gain) == (best.bet.gain.probability >= 0.5)


def test_a_cheaper_one_that_loses_a_little_more_is_named() -> None:
    best = decide({"none": (0.70, 1.0), "a": (0.7296, 1.3), "b": (0.73, 1.6), "c": (0.7262, 1.1)})
    assert best.taken_key == "a"
    assert best.faster is not None
    assert (best.faster.key, best.faster.ratio) == ("c", pytest.approx(1.1))


def test_even_odds_are_no_reason_to_pay_latency() -> None:
    best = decide(
        {"none": (0.7300, 1.0), "uniform se": (0.7302, 1.2), "a": (0.7303, 1.3), "b": (0.7301, 1.1)}
    )
    assert best.taken_key == "none"
    assert "70 %" in " ".join(reasons(best))


def test_nobody_pays_latency_for_an_equal_estimate_however_uncertain_both_are() -> None:
    """What the faster one gives up is next to nothing, though either may be better."""
    table = {"none": (0.700, 1.0), "slow": (0.7095, 2.92), "fast": (0.7100, 1.31)}
    assert decide(table, worth=0.0005).taken_key == "fast"


@pytest.mark.parametrize("cheaper", [False, True])
def test_the_bare_network_is_pushed_out_only_by_what_is_surely_cheaper(cheaper: bool) -> None:
    table = {"none": (0.7000, 1.0), "simam": (0.7004, 1.0)}
    evidence = model(table)
    macs = {"none": 100.0, "simam": 90.0 if cheaper else 100.0}
    views = []
    for trial, name in enumerate(table):
        cost = {"params": 1.0, "macs": macs[name], "memory": 1.0}
        one = dataclasses.replace(view(table, trial, evidence), latency=None, cost=cost)
        views.append(dataclasses.replace(one, on_front_of_placements=name != "none"))
    now = dataclasses.replace(study(evidence, views), objectives=("accuracy", "macs"))
    assert answer_of(now).taken_key == ("simam" if cheaper else "none")


def test_nobody_is_recommended_on_one_run_once_others_have_more() -> None:
    table = {"none": (0.70, 1.0), "uniform se": (0.72, 1.2), "a": (0.723, 1.3)}
    runs = [run for run in runs_of(table) if run.seed == 0 or run.key != "a"]
    evidence = fit(runs, texts(table), metric="accuracy")
    assert evidence is not None
    views = [view(table, trial, evidence) for trial in range(3)]
    assert answer_of(study(evidence, views)).taken_key == "uniform se"
    assert answer_of(study(evidence, views[::2])).taken_key == "a"


def test_lower_can_be_better() -> None:
    best = decide(
        {"none": (0.9, 1.0), "uniform se": (0.8, 1.2), "a": (0.5, 1.3)}, metric="loss", lower=True
    )
    assert best.taken is not None
    assert best.taken.key == "a"
    assert best.taken.gain.mean == pytest.approx(0.4, abs=0.02)
    assert best.taken.gain.low < 0.4 < best.taken.gain.high


values = st.floats(0.5, 0.9).map(lambda v: round(v, 3))


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["uniform se", *"abcd"]), st.tuples(values, st.floats(1, 2)), min_size=1
    )
)
def test_what_is_recommended_is_better_than_no_attention_with_seventy_percent(table: Table) -> None:
    best = decide({"none": (0.7, 1.0)} | table)
    assert reasons(best)
    assert all("\n" not in sentence for sentence in reasons(best))
    if best.taken is not None:
        assert best.taken.gain.probability >= required_from("backbone") == 0.7


def test_without_the_bare_backbone_nothing_is_recommended() -> None:
    found = decide({"a": (0.71, 1.2), "b": (0.72, 1.3)})
    assert (found.lacking, found.taken_key) == (Lacking.BARE_NOT_SCORED, None)


def answered(limit: float | None = None, worth: float = 0, **table: tuple[float, float]) -> Answer:
    """The answer among name -> (accuracy, latency ratio)."""
    return decide(table, limit=limit, worth=worth)


def test_a_control_that_gains_more_makes_attention_needless() -> None:
    best = answered(none=(0.70, 1.0), se=(0.73, 1.2), dwconv=(0.76, 1.2), conv=(0.71, 1.1))
    assert best.chosen is not None
    assert best.larger is not None
    assert (best.chosen.key, best.larger.key, best.taken_key) == ("se", "dwconv", "dwconv")
    over = answered(1.21, none=(0.70, 1.0), se=(0.73, 1.2), dwconv=(0.76, 1.22))
    assert (over.in_reach, over.taken_key) == (False, "se"), "over the limit"
    for limit, taken in ((1.3, "dwconv"), (None, "se")):
        slower = answered(limit, none=(0.70, 1.0), se=(0.73, 1.1), dwconv=(0.76, 1.29))
        assert slower.taken_key == taken, "the limit says what more latency may cost"


def test_attention_that_gains_more_than_any_control_at_its_latency_buys_more() -> None:
    best = answered(none=(0.70, 1.0), se=(0.75, 1.2), dwconv=(0.71, 1.1), conv=(0.80, 1.6))
    assert best.larger is not None
    assert best.larger.key == "dwconv", "the better control costs more latency"
    assert best.taken_key == "se"
    assert answered(none=(0.70, 1.0), se=(0.75, 1.2)).larger is None


@pytest.mark.parametrize(
    ("control", "limit", "worth", "helps", "taken"),
    [
        (0.76, None, 0, 1, 1),
        (0.76, 1.3, 0, 1, 1),
        (0.76, 1.05, 0, 1, 0),
        (0.69, 1.3, 0, 0, 0),
        (0.76, 1.3, 0.1, 1, 0),
    ],
)
def test_beside_the_bare_backbone_more_network_is_taken_if_it_helps_within_the_limit(
    control: float, limit: float | None, worth: float, helps: int, taken: int
) -> None:
    best = answered(limit, worth, none=(0.70, 1.0), se=(0.69, 1.2), dwconv=(control, 1.1))
    assert best.chosen is None
    assert best.larger is not None
    assert (best.larger.gain.probability > 0.99) == helps, "the odds are of the larger network"
    assert (best.taken_key == "dwconv") == taken
    assert best.in_reach == (limit != 1.05), (
        "also where it is not known to help: further runs may show it"
    )


def test_a_control_of_unknown_latency_is_within_no_limit_and_above_none() -> None:
    table = {"none": (0.70, 1.0), "se": (0.69, 1.2), "dwconv": (0.76, 1.1)}
    evidence = model(table)
    bare, se, layer = (view(table, trial, evidence) for trial in range(3))
    control = dataclasses.replace(layer, latency=None)
    for limit in (None, 1.3):
        best = answer_of(study(evidence, [bare, se, control], limit=limit))
        assert (best.in_reach, best.taken_key) == (False, "none")
