from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.answer.means import with_capacity
from nas_attn.answer.reasons import placement_reasons
from nas_attn.answer.recommending import (
    Contender,
    Reason,
    Recommendation,
    expected_loss,
    promising,
    recommend,
)
from nas_attn.model import Evidence, ScoredRun, fit
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement
from nas_attn.storage.records import Latency

NOISE = (-0.0021, 0.0008, 0.0013, -0.0006, 0.0017, -0.0012)


def texts(table: Iterable[str]) -> dict[str, Placement]:
    return {name: parse(f"stage1={name.replace(' ', '_')}") for name in table}


def runs_of(
    table: dict[str, tuple[float, float]], *, runs: int = 3, backbones: int = 1
) -> list[ScoredRun]:
    """Of name -> (value, latency ratio); runs that spread by about 0.0015, each seed moves all by
    0.01.
    """
    return [
        ScoredRun(
            name, s, 0, value + 0.01 * (s % 3) + NOISE[(i + 2 * s + i * s) % 6], s % backbones
        )
        for i, (name, (value, _)) in enumerate(table.items())
        for s in range(runs)
    ]


def model(
    table: dict[str, tuple[float, float]],
    *,
    metric: str = "accuracy",
    lower: bool = False,
    **more: int,
) -> Evidence | None:
    return fit(runs_of(table, **more), texts(table), metric=metric, lower_is_better=lower)


def contenders(table: dict[str, tuple[float, float]], evidence: Evidence) -> list[Contender]:
    """All of them on the front; `dwconv` and `conv` are controls."""
    baselines = {
        "none": "none",
        "uniform se": "uniform se",
        "dwconv": "control dwconv",
        "conv": "control conv",
    }
    latencies = {
        name: Latency(ratio, 0.99 * ratio, 1.01 * ratio, 4.0, 6)
        for name, (_, ratio) in table.items()
    }
    found, known = texts(table), evidence.estimates
    return [
        Contender(n, found[n], baselines.get(n), known[n], latency, True)
        for n, latency in latencies.items()
    ]


def decide(
    table: dict[str, tuple[float, float]],
    *,
    limit: float | None = None,
    worth: float | None = None,
    **more: Any,
) -> Recommendation | None:
    """Decides among name -> (value, latency ratio)."""
    evidence = model(table, **more)
    if evidence is None:
        return None
    of = contenders(table, evidence)
    return recommend(of, evidence, max_latency_ratio=limit, worth=worth)


def test_a_limit_that_no_placement_meets_is_named() -> None:
    found = decide(SPREAD, limit=1.05)
    assert found is not None
    assert found.key == "none"
    assert (found.rule.reason, found.rule.limit) == (Reason.OUT_OF_REACH, 1.05)
    assert found.rule.fastest == pytest.approx(1.10)


SPREAD = {
    "none": (0.70, 1.0),
    "uniform se": (0.71, 1.2),
    "a": (0.72, 1.3),
    "b": (0.73, 1.6),
    "c": (0.69, 1.1),
}


def test_without_a_limit_the_largest_likely_gain_wins() -> None:
    best = decide(SPREAD)
    assert best.key == "b"
    assert best.against_none.gain.probability > 0.99
    assert best.against_none.latency_ratio == pytest.approx(1.6)
    assert best.against_uniform.gain.mean == pytest.approx(0.02, abs=0.004)
    assert best.cheaper.key == "a", "the most promising of the faster ones"
    assert best.more_accurate is None, (
        "nothing is given up for latency that is known to cost more than what counts"
    )
    assert best.slower is None


def test_a_limit_is_kept() -> None:
    assert decide(SPREAD, limit=1.35).key == "a"
    assert decide(SPREAD, limit=0.9) is decide({}) is None


def test_the_fastest_that_loses_less_than_what_counts_is_taken_and_what_more_would_buy_is_said() -> (
    None
):
    best = decide(SPREAD | {"b": (0.7202, 1.6)})
    assert best.key == "a"
    assert best.against_none.gain.probability >= 0.7
    assert best.more_accurate.key == "b"
    assert best.more_accurate.gain.mean < best.worth.size
    assert best.slower.key == "b"
    assert best.slower.latency.ratio == pytest.approx(1.6)
    within = decide(SPREAD | {"b": (0.7202, 1.6)}, limit=1.7)
    assert within.key == "a"
    assert "1.7 times" in placement_reasons(within)[0]


def test_what_counts_is_a_tenth_of_the_gain_or_of_the_noise() -> None:
    clear, noisy = decide(SPREAD), decide({"none": (0.70, 1.0), "a": (0.7055, 1.3)})
    assert clear.worth.size == pytest.approx(0.1 * clear.against_none.gain.mean)
    evidence = model({"none": (0.70, 1.0), "a": (0.7055, 1.3)})
    assert noisy.worth.size == pytest.approx(0.1 * evidence.noise.paired_sd)
    none, a = contenders({"none": (0.70, 1.0), "a": (0.7055, 1.3)}, evidence)
    assert 0 < expected_loss(evidence, a, none) < 0.01


@pytest.mark.parametrize(("worth", "key"), [(0.001, "b"), (0.015, "a"), (0.05, "none")])
def test_what_is_worth_having_decides_and_may_be_said(worth: float, key: str) -> None:
    best = decide(SPREAD, worth=worth)
    assert (best.key, best.worth.size) == (key, worth)
    if key == "none":
        assert best.best_bet.key == "b"
        assert best.rule.reason is Reason.TOO_SMALL


@pytest.mark.parametrize("a", [0.6990, 0.7004, 0.7008])
def test_only_what_is_more_likely_to_help_than_not_is_a_bet(a: float) -> None:
    best = decide({"none": (0.70, 1.0), "a": (a, 1.3)})
    assert best.key == "none"
    assert promising(best.best_bet.gain) == (best.best_bet.gain.probability >= 0.5)


def test_a_cheaper_one_that_loses_a_little_more_is_named() -> None:
    best = decide({"none": (0.70, 1.0), "a": (0.7296, 1.3), "b": (0.73, 1.6), "c": (0.7262, 1.1)})
    assert best.key == "a"
    assert best.cheaper.key == "c"
    assert best.cheaper.latency.ratio == pytest.approx(1.1)


def test_even_odds_are_no_reason_to_pay_latency() -> None:
    best = decide(
        {"none": (0.7300, 1.0), "uniform se": (0.7302, 1.2), "a": (0.7303, 1.3), "b": (0.7301, 1.1)}
    )
    assert best.key == "none"
    assert "The most promising placement, " in " ".join(placement_reasons(best))


def test_nobody_pays_latency_for_an_equal_estimate_however_uncertain_both_are() -> None:
    """Their expected losses are large, since either may be better; what the faster one gives up is
    next to nothing.
    """
    table = {"none": (0.700, 1.0), "slow": (0.7095, 2.92), "fast": (0.7100, 1.31)}
    evidence = model(table)
    of = {one.key: one for one in contenders(table, evidence)}
    best = recommend(list(of.values()), evidence, max_latency_ratio=None, worth=0.0005)
    assert best.key == "fast"
    assert expected_loss(evidence, of["slow"], of["fast"]) > best.worth.size, "why it was not taken"


@pytest.mark.parametrize("cheaper", [False, True])
def test_the_bare_network_is_pushed_out_only_by_what_is_surely_cheaper(cheaper: bool) -> None:
    table = {"none": (0.7000, 1.0), "simam": (0.7004, 1.0)}
    evidence = model(table)
    macs = {"none": 100.0, "simam": 90.0 if cheaper else 100.0}
    of = [
        dataclasses.replace(one, latency=None, costs=(macs[one.key],), on_front=one.key != "none")
        for one in contenders(table, evidence)
    ]
    best = recommend(of, evidence, max_latency_ratio=None)
    assert best.key == ("simam" if cheaper else "none")


def test_nobody_is_recommended_on_one_run_once_others_have_more() -> None:
    table = {"none": (0.70, 1.0), "uniform se": (0.72, 1.2), "a": (0.723, 1.3)}
    runs = [run for run in runs_of(table) if run.seed == 0 or run.key != "a"]
    evidence = fit(runs, texts(table), metric="accuracy")
    known = contenders(table, evidence)
    assert recommend(known, evidence, max_latency_ratio=None).key == "uniform se"
    assert recommend(known[::2], evidence, max_latency_ratio=None).key == "a"


def test_a_gain_is_one_on_new_images_where_results_per_image_are_known() -> None:
    rng = np.random.default_rng(0)
    ease, images, way = rng.random(4000), 4000, 0.05
    runs = []
    for name, (value, _) in SPREAD.items():
        ways = way * rng.standard_normal(images)
        for seed in range(8):
            right = ease + ways + 0.01 * rng.standard_normal(images) < value
            runs.append(
                ScoredRun(
                    name, seed, 0, float(right.mean()), 0, np.packbits(right).tobytes(), images
                )
            )
    evidence = fit(runs, texts(SPREAD), metric="accuracy")
    contenders = [
        Contender(
            n, texts(SPREAD)[n], n if n == "none" else None, evidence.estimates[n], None, True
        )
        for n in SPREAD
    ]
    gain = recommend(contenders, evidence, max_latency_ratio=None).against_none.gain
    differ = (
        2 * way / np.sqrt(np.pi)
    )  # share of the images about which two placements' ways disagree
    assert gain.high - gain.low > 0.8 * 2 * 1.96 * np.sqrt(differ / images), (
        "more seeds do not narrow it further"
    )


def test_the_best_uniform_baseline_can_win_and_says_so() -> None:
    best = decide({"none": (0.70, 1.0), "uniform se": (0.73, 1.2), "a": (0.71, 1.3)})
    assert (best.key, best.against_uniform) == ("uniform se", None)
    assert "the best uniform baseline: " in " ".join(placement_reasons(best))


def test_lower_can_be_better() -> None:
    best = decide(
        {"none": (0.9, 1.0), "uniform se": (0.8, 1.2), "a": (0.5, 1.3)}, metric="loss", lower=True
    )
    assert best.key == "a"
    assert best.against_none.gain.mean == pytest.approx(0.4, abs=0.02)
    assert best.against_none.gain.low < 0.4 < best.against_none.gain.high


values = st.floats(0.5, 0.9).map(lambda v: round(v, 3))


@settings(max_examples=15, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from(["none", "uniform se", *"abcd"]),
        st.tuples(values, st.floats(1, 2)),
        min_size=1,
    )
)
def test_what_is_recommended_is_better_than_no_attention_with_seventy_percent(
    table: dict[str, tuple[float, float]],
) -> None:
    best = decide(table)
    assert placement_reasons(best)
    assert all("\n" not in sentence for sentence in placement_reasons(best))
    if best.against_none is not None:
        assert best.against_none.gain.probability >= 0.7


def answered(
    limit: float | None = None, worth: float = 0, **table: tuple[float, float]
) -> Recommendation:
    """The recommendation among name -> (accuracy, latency ratio), with what the controls say."""
    evidence = model(table)
    known = contenders(table, evidence)
    controls = [(c, evidence.gain(c.key, "none")) for c in known if c.key in ("dwconv", "conv")]
    able = [c for c in known if c.key not in ("dwconv", "conv")]
    found = recommend(able, evidence, max_latency_ratio=limit)
    return with_capacity(found, able, controls, evidence, max_latency_ratio=limit, worth=worth)


def test_a_control_that_gains_more_makes_attention_needless() -> None:
    best = answered(none=(0.70, 1.0), se=(0.73, 1.2), dwconv=(0.76, 1.2), conv=(0.71, 1.1))
    assert best.key == "se", "a control is never recommended"
    assert (best.capacity.key, best.capacity.lead.gain.worse > 0.95) == ("dwconv", True)
    assert (best.in_reach, best.instead, best.taken) == (True, "dwconv", "dwconv")
    over = answered(1.21, none=(0.70, 1.0), se=(0.73, 1.2), dwconv=(0.76, 1.22))
    assert (over.in_reach, over.instead, over.taken) == (False, None, "se"), "over the limit"
    for limit, taken in ((1.3, "dwconv"), (None, "se")):
        slower = answered(limit, none=(0.70, 1.0), se=(0.73, 1.1), dwconv=(0.76, 1.29))
        assert slower.taken == taken, "the limit says what more latency may cost"
        assert slower.capacity.dearer


def test_attention_that_gains_more_than_any_control_at_its_latency_buys_more() -> None:
    best = answered(none=(0.70, 1.0), se=(0.75, 1.2), dwconv=(0.71, 1.1), conv=(0.80, 1.6))
    assert best.capacity.key == "dwconv", "the better control costs more latency"
    assert best.capacity.lead.gain.probability > 0.95
    alone = answered(none=(0.70, 1.0), se=(0.75, 1.2))
    assert alone.capacity is None


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
    assert best.key == "none"
    assert (best.capacity.gain.probability > 0.99) == helps, "the odds are of the larger network"
    assert (best.instead == "dwconv") == taken
    assert best.in_reach == (limit != 1.05), (
        "also where it is not known to help: further runs may show it"
    )


def test_a_control_of_unknown_latency_is_within_no_limit_and_above_none() -> None:
    table = {"none": (0.70, 1.0), "se": (0.69, 1.2), "dwconv": (0.76, 1.1)}
    evidence = model(table)
    bare, se, layer = contenders(table, evidence)
    gain = evidence.gain("dwconv", "none")
    assert gain is not None
    control = dataclasses.replace(layer, latency=None), gain
    for limit in (None, 1.3):
        found = recommend([bare, se], evidence, max_latency_ratio=limit)
        best = with_capacity(found, [bare, se], [control], evidence, max_latency_ratio=limit)
        assert (best.in_reach, best.taken, best.capacity.dearer) == (False, "none", False)
