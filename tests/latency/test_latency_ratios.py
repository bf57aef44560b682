from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from runs_made import session
from runs_made import sessions as drawn

from nas_attn.latency import ratios as times
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE, Placement
from nas_attn.storage.records import Latency, Session


def test_the_estimate_is_the_median_over_sessions_with_the_studys_reference_time() -> None:
    sessions = [
        session({"a": math.log(r)}, reference_ms=ms)
        for r, ms in ((1.1, 2.0), (1.2, 9.0), (1.3, 3.0))
    ]
    latency = times.estimate(sessions)["a"]
    assert latency.ratio == pytest.approx(1.2)
    assert latency.reference_ms == 3.0
    assert latency.ms == pytest.approx(3.6)
    assert latency.sessions == 3
    assert latency.measured
    assert times.estimate([]) == {}


@pytest.mark.parametrize("count", [1, 2, 5, 6, 12])
def test_intervals_cover_the_truth_at_every_number_of_sessions(count: int) -> None:
    """Other candidates of the study show the spread between sessions; nominal is 95 %."""
    truth = {key: 0.1 * i for i, key in enumerate("abcdef")}
    hits = []
    for seed in range(40):
        others = drawn(8, {"x": 0.5, "y": 0.2}, 0.02, seed + 10_000)
        found = times.estimate([*others, *drawn(count, truth, 0.02, seed)])
        hits += [
            found[key].low <= math.exp(value) <= found[key].high for key, value in truth.items()
        ]
    assert 0.90 <= np.mean(hits) <= 0.999


@pytest.mark.parametrize(("spread", "tolerance"), [(0.01, 0.01), (0.02, 0.01), (0.03, 0.02)])
def test_intervals_cover_the_truth_where_measuring_stops_at_a_narrow_one(
    spread: float, tolerance: float
) -> None:
    """A narrow interval by chance ends the measuring; nominal is 95 %."""
    hits = []
    for seed in range(300):
        sessions: list[Session] = []
        possible = iter(drawn(times.MAX_SESSIONS, {"a": 0.3}, spread, seed))
        while times.open_keys(sessions, ["a"], tolerance=tolerance):
            sessions.append(next(possible))
        found = times.estimate(sessions)["a"]
        hits.append(found.low <= math.exp(0.3) <= found.high)
    assert np.mean(hits) >= 0.93


def test_more_sessions_narrow_the_interval_until_it_is_enough() -> None:
    sessions = drawn(40, {"a": 0.3}, 0.02, 1)
    widths = [times.estimate(sessions[:n])["a"].half_width for n in (2, 8, 40)]
    assert widths[0] > widths[1] > widths[2]
    assert not times.needs_more(times.estimate(sessions)["a"], 0.02)
    assert times.needs_more(times.estimate(sessions[:2])["a"], 0.01)


def test_what_was_never_measured_needs_measuring() -> None:
    assert times.needs_more(None, 0.02)
    assert times.needs_more(Latency(1.1, 1.1, 1.1, 2.0, 0, measured=False), 0.02)
    assert times.needs_more(times.estimate([session({"a": 0.1})])["a"], 0.02), (
        "one session is not taken for certain"
    )


def test_sessions_with_a_bad_control_are_dropped_and_counted() -> None:
    good = [session({"a": 0.1}, control=c) for c in (0.001, -0.002, 0.003, -0.001, 0.002, 0.004)]
    bad = session({"a": 0.9}, control=0.08)
    assert times.dropped([*good, bad]) == (bad,)
    assert times.estimate([*good, bad]) == times.estimate(good)


@pytest.mark.parametrize(
    "controls", [(0.0, 0.0001, -0.0001, 0.0, 0.009), (0.02, -0.03, 0.025, -0.02, 0.05)]
)
def test_sessions_within_one_percent_or_as_noisy_as_all_others_are_kept(
    controls: tuple[float, ...],
) -> None:
    assert times.dropped([session({"a": 0.1}, control=control) for control in controls]) == ()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-0.2, 0.2), min_size=1, max_size=15))
def test_intervals_contain_their_middle(values: list[float]) -> None:
    sessions = [session({"a": value, "b": -value}) for value in values]
    for latency in times.estimate(sessions).values():
        assert latency.low <= latency.ratio <= latency.high


def faster(sessions: list[Session], one: str, other: str | None) -> float:
    found = times.estimate(sessions)
    return times.probability_faster(found[one], None if other is None else found[other])


def test_which_is_faster_is_certain_where_sessions_agree_and_open_where_they_do_not() -> None:
    sessions = drawn(8, {"a": 0.10, "b": 0.2, "twin": 0.10}, 0.01, 0)
    assert faster(sessions, "a", "b") > 0.99
    assert faster(sessions, "a", "b") == pytest.approx(1 - faster(sessions, "b", "a"))
    assert 0.01 < faster(sessions, "a", "twin") < 0.99
    assert faster(sessions, "a", None) < 0.01


def test_equal_candidates_are_rarely_called_different() -> None:
    calls = [faster(drawn(8, {"a": 0.2, "b": 0.2}, 0.02, seed), "a", "b") for seed in range(150)]
    assert np.mean([p > 0.975 or p < 0.025 for p in calls]) < 0.09
    assert np.mean(calls) == pytest.approx(0.5, abs=0.06)


def test_candidates_that_never_met_are_compared_by_their_estimates() -> None:
    apart = [*drawn(4, {"a": 0.1}, 0.01, 1), *drawn(4, {"b": 0.2}, 0.01, 2)]
    assert faster(apart, "a", "b") > 0.99


def test_the_spread_between_sessions_is_recovered() -> None:
    sessions = drawn(30, {"a": 0.1, "b": 0.5}, 0.03, 3)
    assert times.session_spread(sessions) == pytest.approx(0.03, rel=0.25)


def test_the_neediest_are_measured_first_and_never_beyond_their_share() -> None:
    sessions = [*drawn(8, {"sure": 0.1}, 0.001, 0), *drawn(3, {"open": 0.2}, 0.08, 1)]
    keys = ["sure", "open", "new"]
    assert times.open_keys(sessions, keys, tolerance=0.02, max_sessions=9) == ["new", "open"]
    assert times.open_keys(sessions, keys, tolerance=0.02, max_sessions=3) == ["new"]
    assert times.open_keys(sessions, ["sure"], tolerance=0.02, max_sessions=9) == []


TYPES = {
    "se": ("reduction=4", "reduction=8"),
    "cbam": ("kernel=3", "kernel=7"),
    "ela": ("t=1", "b=1"),
    "simam": ("",),
}


class World:
    """Placements whose true latency is additive up to a small, fixed deviation of each."""

    def __init__(self, seed: int, lack: float = 0.008) -> None:
        self.rng = np.random.default_rng(seed)
        self.lack = lack
        self.cost = {(s, t): abs(self.rng.normal(0.15, 0.08)) for s in range(1, 5) for t in TYPES}
        self.knob = {
            (s, t, k): self.rng.normal(0, 0.02)
            for s in range(1, 5)
            for t in TYPES
            for k in TYPES[t]
        }

    def placement(self) -> Placement:
        found = []
        for stage in range(1, 5):
            name = str(self.rng.choice(["none", *TYPES]))
            if name != "none":
                knobs = str(self.rng.choice(TYPES[name]))
                found.append(f"stage{stage}={name}({knobs})" if knobs else f"stage{stage}={name}")
        return parse(" ".join(found))

    def effect(self, part: str) -> float:
        site, _, choice = part.partition("=")
        name, _, knobs = choice.removesuffix(")").partition("(")
        return float(self.cost[int(site[5:]), name] + self.knob[int(site[5:]), name, knobs])

    def truth(self, placement: Placement) -> float:
        text = str(placement)
        deviation = (zlib.crc32(text.encode()) / 2**32 - 0.5) * math.sqrt(12) * self.lack
        return 1 + sum(self.effect(part) for part in text.split() if part != "none") + deviation

    def observe(self, count: int, noise: float = 0.008) -> list[times.Measured]:
        texts = {self.placement() for _ in range(count)}
        return [
            (text, self.truth(text) + self.rng.normal(0, noise), 1.96 * noise)
            for text in sorted(texts, key=str)
        ]


def test_unseen_placements_are_predicted_within_the_stated_error() -> None:
    found = list[tuple[float, float]]()
    for world in map(World, range(4)):
        model, texts = (
            times.LatencyModel(world.observe(120)),
            [world.placement() for _ in range(300)],
        )
        found += [
            (v - world.truth(text), error)
            for text, (v, error) in zip(texts, model.predict(texts), strict=True)
        ]
        assert 0.7 < model.cv_error / math.hypot(0.008, 0.012) < 1.6
    errors, stated = np.array(found).T
    assert np.sqrt(np.mean(errors**2)) < 0.025  # placements range over 0.6
    assert 0.88 <= np.mean(np.abs(errors) < 1.96 * stated) <= 0.999


def test_effects_of_choices_come_out_by_site() -> None:
    world = World(1)
    measured = world.observe(250)
    seen = sorted({part for text, _, _ in measured for part in map(str, text.assignments)})
    assert len(seen) == 4 * sum(map(len, TYPES.values()))
    found = times.LatencyModel(measured).sums([[(parse(part), 1.0), (BARE, -1.0)] for part in seen])
    off = [
        (effect - world.effect(part)) / error
        for part, (effect, error) in zip(seen, found, strict=True)
    ]
    assert np.mean(np.abs(off) < 3) > 0.9


def test_a_wrong_measurement_is_flagged() -> None:
    world = World(2)
    measured = world.observe(100)
    text, value, half = measured[17]
    assert times.LatencyModel(measured).outliers == set()
    assert times.LatencyModel(
        [*measured[:17], (text, value + 0.4, half), *measured[18:]]
    ).outliers == {text}


def test_what_was_never_seen_is_predicted_from_its_kin_with_a_larger_error() -> None:
    world = World(3)
    model = times.LatencyModel(
        [one for one in world.observe(150) if "stage2=cbam(kernel=7)" not in str(one[0])]
    )
    seen, unseen, alien = model.predict(
        [parse(f"stage2={choice}") for choice in ("cbam(kernel=3)", "cbam(kernel=7)", "gam")]
    )
    assert seen[1] < min(unseen[1], alien[1])
    assert abs(unseen[0] - world.truth(parse("stage2=cbam(kernel=7)"))) < 3 * unseen[1]


def test_pure_noise_gives_no_effects() -> None:
    world = World(4)
    rng = np.random.default_rng(4)
    texts = sorted({world.placement() for _ in range(60)}, key=str)
    model = times.LatencyModel(
        [(text, 0.86 + rng.normal(0, 0.009), 1.96 * 0.009) for text in texts]
    )
    assert (
        np.std([value for value, _ in model.predict([world.placement() for _ in range(50)])])
        < 0.006
    )


@settings(max_examples=4, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 100), st.floats(0, 50))
def test_scale_and_offset_of_the_value_pass_through(
    seed: int, factor: float, offset: float
) -> None:
    world = World(seed)
    measured = world.observe(30)
    moved = [(text, factor * value + offset, factor * half) for text, value, half in measured]
    probe = world.placement()
    (value, error), (other, other_error) = (
        times.LatencyModel(rows).predict([probe])[0] for rows in (measured, moved)
    )
    assert other == pytest.approx(factor * value + offset, abs=0.5 * factor * error)
    assert other_error == pytest.approx(factor * error, rel=0.3)


def test_predictions_become_latencies() -> None:
    world = World(6)
    texts = {str(index): world.placement() for index in range(60)}
    ratios = {key: world.truth(text) for key, text in texts.items()}
    latencies = {key: Latency(r, r * 0.98, r * 1.02, 3.0, 6) for key, r in ratios.items()}
    latencies["guess"] = Latency(9.0, 8.0, 10.0, 3.0, 0, measured=False)
    texts |= {
        "guess": parse("stage1=se(reduction=4)"),
        "new": parse("stage1=se(reduction=4) stage2=simam"),
    }
    found = times.with_predictions(latencies, texts)
    predicted = found["new"]
    assert found.keys() == texts.keys()
    assert not predicted.measured
    assert predicted.sessions == 0
    assert predicted.low < predicted.ratio < predicted.high
    assert predicted.ratio == pytest.approx(world.truth(texts["new"]), abs=0.1)
    assert predicted.ms == pytest.approx(3.0 * predicted.ratio)
    few = dict(list(latencies.items())[:5])
    assert times.latency_model(few, texts) is None
    assert times.with_predictions(few, texts) == few
    assert times.suspicious(few, texts) == []
