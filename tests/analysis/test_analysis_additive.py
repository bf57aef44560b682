from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.additive import (
    Feature,
    Features,
    Observation,
    features,
    fit,
    latency_observations,
    predict_latency,
)
from nas_attn.records import Latency

TYPES = {"se": ("reduction=4", "reduction=8"), "cbam": ("kernel=3", "kernel=7"), "ela": ("t", "b", "s"), "simam": ("",)}


class World:
    """Placements whose true value is additive up to a small, fixed deviation of each."""

    def __init__(self, seed: int, lack: float = 0.008) -> None:
        self.rng = np.random.default_rng(seed)
        self.lack = lack
        self.cost = {(s, t): abs(self.rng.normal(0.15, 0.08)) for s in range(1, 5) for t in TYPES}
        self.knob = {(s, t, k): self.rng.normal(0, 0.02) for s in range(1, 5) for t in TYPES for k in TYPES[t]}

    def placement(self) -> Features:
        found = []
        for stage in range(1, 5):
            name = str(self.rng.choice(["none", *TYPES]))
            if name != "none":
                found.append(Feature(f"stage{stage}", name, str(self.rng.choice(TYPES[name]))))
        return tuple(found)

    def effect(self, feature: Feature) -> float:
        stage = int(feature.site[5])
        return self.cost[stage, feature.type] + self.knob[stage, feature.type, feature.knobs]

    def truth(self, placement: Features) -> float:
        deviation = (zlib.crc32(repr(placement).encode()) / 2**32 - 0.5) * math.sqrt(12) * self.lack
        return 1 + sum(map(self.effect, placement)) + deviation

    def observe(self, count: int, noise: float = 0.008) -> list[Observation]:
        found = []
        for _ in range(count):
            placement = self.placement()
            found.append((placement, self.truth(placement) + self.rng.normal(0, noise), 1 / noise**2))
        return found


def test_features_of_a_placement_are_its_choices_at_their_sites() -> None:
    assert features("stage3@stage=ela(kernel_size=7, groups=16) stage1=none stage2.block1=se(reduction=8)") == (
        Feature("stage2.block1", "se", "reduction=8"),
        Feature("stage3@stage", "ela", "kernel_size=7, groups=16"),
    )
    assert features("stage1=none") == ()


def test_unseen_placements_are_predicted_within_the_stated_error() -> None:
    world = World(0)
    model = fit(world.observe(120))
    errors, stated = [], []
    for _ in range(300):
        placement = world.placement()
        value, error = model.predict(placement)
        errors.append(value - world.truth(placement))
        stated.append(error)
    assert np.sqrt(np.mean(np.square(errors))) < 0.02  # placements range over 0.6
    assert 0.90 <= np.mean(np.abs(errors) < 1.96 * np.array(stated)) <= 0.995
    assert 0.7 < model.cv_error / math.hypot(0.008, 0.012) < 1.4
    assert model.intercept == pytest.approx(1, abs=0.02)


def test_effects_of_choices_come_out_by_site() -> None:
    world = World(1)
    observations = world.observe(250)
    model = fit(observations)
    seen = sorted({feature for placement, _, _ in observations for feature in placement})
    assert len(seen) == 4 * sum(map(len, TYPES.values()))
    off = []
    for feature in seen:
        effect, error = model.sum([((feature,), 1.0)])
        off.append((effect - world.effect(feature)) / error)
    assert np.mean(np.abs(off) < 3) > 0.9
    some = seen[::5]
    effect, error = model.sum([((feature,), 1 / len(some)) for feature in some])
    assert effect == pytest.approx(np.mean([world.effect(feature) for feature in some]), abs=4 * error)


def test_a_wrong_measurement_is_flagged_and_does_not_bend_the_model() -> None:
    world = World(2)
    observations = world.observe(100)
    clean = fit(observations)
    placement, value, weight = observations[17]
    spoilt = fit([*observations[:17], (placement, value + 0.4, weight), *observations[18:]])
    assert spoilt.outliers == (17,)
    assert abs(spoilt.predict(placement)[0] - clean.predict(placement)[0]) < 0.04  # a tenth of what was added


def test_what_was_never_seen_is_predicted_from_its_kin_with_a_larger_error() -> None:
    world = World(3)
    observations = [o for o in world.observe(150) if Feature("stage2", "cbam", "kernel=7") not in o[0]]
    model = fit(observations)
    seen, unseen, alien = (
        model.predict((Feature("stage2", name, knobs),))
        for name, knobs in (("cbam", "kernel=3"), ("cbam", "kernel=7"), ("other", ""))
    )
    assert seen[1] < unseen[1] < alien[1]
    assert abs(unseen[0] - world.truth((Feature("stage2", "cbam", "kernel=7"),))) < 3 * unseen[1]


def test_pure_noise_gives_no_effects() -> None:
    world = World(4)
    rng = np.random.default_rng(4)
    model = fit([(world.placement(), 0.86 + rng.normal(0, 0.009), 1 / 0.009**2) for _ in range(60)])
    predictions = [model.predict(world.placement())[0] for _ in range(50)]
    assert np.std(predictions) < 0.006  # the raw spread is 0.009
    assert model.lack_of_fit < 0.005


def test_first_use_of_a_type_is_told_apart_from_its_every_use() -> None:
    rng = np.random.default_rng(5)
    observations: list[Observation] = []
    for _ in range(150):
        sites = [s for s in range(1, 5) if rng.random() < 0.25]
        placement = tuple(Feature(f"stage{s}", "se", "reduction=8") for s in sites)
        value = 1 + 0.1 * len(sites) + (0.2 if sites else 0) + rng.normal(0, 0.005)
        observations.append((placement, value, 1 / 0.005**2))
    model = fit(observations, first_use=True)
    assert model.cv_error < 0.008
    assert fit(observations).cv_error > 0.03
    one, two = (
        model.predict(tuple(Feature(f"stage{s}", "se", "reduction=8") for s in range(1, n + 1)))[0] for n in (1, 2)
    )
    assert one - model.intercept == pytest.approx(0.3, abs=0.05)
    assert two - one == pytest.approx(0.1, abs=0.05)


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.01, 100), st.floats(-50, 50))
def test_scale_and_offset_of_the_value_pass_through(seed: int, factor: float, offset: float) -> None:
    world = World(seed)
    observations = world.observe(30)
    moved = [(placement, factor * value + offset, weight / factor**2) for placement, value, weight in observations]
    probe = world.placement()
    value, error = fit(observations).predict(probe)
    other, other_error = fit(moved).predict(probe)
    assert other == pytest.approx(factor * value + offset, rel=1e-4, abs=1e-4 * factor)
    assert other_error == pytest.approx(factor * error, rel=1e-3)


def test_latencies_become_observations_and_predictions_become_latencies() -> None:
    world = World(6)
    texts, latencies = {}, {}
    for index in range(60):
        placement = world.placement()
        texts[str(index)] = (
            " ".join(f"{f.site}={f.type}({f.knobs})" if "=" in f.knobs else f"{f.site}={f.type}" for f in placement)
            or "none"
        )
        ratio = world.truth(placement)
        latencies[str(index)] = Latency(ratio, ratio * 0.98, ratio * 1.02, 3.0, 6)
    latencies["guess"] = Latency(9.0, 8.0, 10.0, 3.0, 0, measured=False)
    texts["guess"] = "stage1=se(reduction=4)"
    observations = latency_observations(latencies, texts)
    assert len(observations) == 60
    assert observations[0][2] == pytest.approx(1 / (0.02 * observations[0][1] / 1.96) ** 2, rel=1e-6)
    predicted = predict_latency(fit(observations), features("stage1=se(reduction=4)"), 3.0)
    assert not predicted.measured
    assert predicted.sessions == 0
    assert predicted.low < predicted.ratio < predicted.high
    assert predicted.ms == pytest.approx(3.0 * predicted.ratio)


@pytest.mark.parametrize(
    "observations",
    [[], [((), 1.0, 1.0)] * 2, [((), math.nan, 1.0)] * 3, [((), 1.0, 0.0)] * 3, [((), 1.0, math.inf)] * 3],
)
def test_observations_that_cannot_be_fitted_are_refused(observations: list[Observation]) -> None:
    with pytest.raises(ValueError, match="additive model needs"):
        fit(observations)
