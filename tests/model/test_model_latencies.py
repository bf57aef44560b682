"""What placements take that nobody measured, and what each choice costs."""

from __future__ import annotations

import math
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nas_attn.analysis.latency import LatencyModel, Measured, latency_model, suspicious, with_predictions
from nas_attn.records import Latency

TYPES = {"se": ("reduction=4", "reduction=8"), "cbam": ("kernel=3", "kernel=7"), "ela": ("t=1", "b=1"), "simam": ("",)}


class World:
    """Placements whose true latency is additive up to a small, fixed deviation of each."""

    def __init__(self, seed: int, lack: float = 0.008) -> None:
        self.rng = np.random.default_rng(seed)
        self.lack = lack
        self.cost = {(s, t): abs(self.rng.normal(0.15, 0.08)) for s in range(1, 5) for t in TYPES}
        self.knob = {(s, t, k): self.rng.normal(0, 0.02) for s in range(1, 5) for t in TYPES for k in TYPES[t]}

    def placement(self) -> str:
        found = []
        for stage in range(1, 5):
            name = str(self.rng.choice(["none", *TYPES]))
            if name != "none":
                knobs = str(self.rng.choice(TYPES[name]))
                found.append(f"stage{stage}={name}({knobs})" if knobs else f"stage{stage}={name}")
        return " ".join(found) or "none"

    def effect(self, part: str) -> float:
        site, _, choice = part.partition("=")
        name, _, knobs = choice.removesuffix(")").partition("(")
        return float(self.cost[int(site[5:]), name] + self.knob[int(site[5:]), name, knobs])

    def truth(self, text: str) -> float:
        deviation = (zlib.crc32(text.encode()) / 2**32 - 0.5) * math.sqrt(12) * self.lack
        return 1 + sum(self.effect(part) for part in text.split() if part != "none") + deviation

    def observe(self, count: int, noise: float = 0.008) -> list[Measured]:
        texts = {self.placement() for _ in range(count)}
        return [(text, self.truth(text) + self.rng.normal(0, noise), 1.96 * noise) for text in sorted(texts)]


def test_unseen_placements_are_predicted_within_the_stated_error() -> None:
    world = World(0)
    model = LatencyModel(world.observe(120))
    texts = [world.placement() for _ in range(300)]
    found = model.predict(texts)
    errors = np.array([value - world.truth(text) for text, (value, _) in zip(texts, found, strict=True)])
    stated = np.array([error for _, error in found])
    assert np.sqrt(np.mean(errors**2)) < 0.025  # placements range over 0.6
    assert 0.88 <= np.mean(np.abs(errors) < 1.96 * stated) <= 0.999
    assert 0.7 < model.cv_error / math.hypot(0.008, 0.012) < 1.6


def test_effects_of_choices_come_out_by_site() -> None:
    world = World(1)
    measured = world.observe(250)
    seen = sorted({part for text, _, _ in measured for part in text.split() if part != "none"})
    assert len(seen) == 4 * sum(map(len, TYPES.values()))
    found = LatencyModel(measured).sums([[(part, 1.0), ("none", -1.0)] for part in seen])
    off = [(effect - world.effect(part)) / error for part, (effect, error) in zip(seen, found, strict=True)]
    assert np.mean(np.abs(off) < 3) > 0.9


def test_a_wrong_measurement_is_flagged() -> None:
    world = World(2)
    measured = world.observe(100)
    text, value, half = measured[17]
    assert LatencyModel(measured).outliers == set()
    assert LatencyModel([*measured[:17], (text, value + 0.4, half), *measured[18:]]).outliers == {text}


def test_what_was_never_seen_is_predicted_from_its_kin_with_a_larger_error() -> None:
    world = World(3)
    model = LatencyModel([one for one in world.observe(150) if "stage2=cbam(kernel=7)" not in one[0]])
    seen, unseen, alien = model.predict(["stage2=cbam(kernel=3)", "stage2=cbam(kernel=7)", "stage2=gam"])
    assert seen[1] < min(unseen[1], alien[1])
    assert abs(unseen[0] - world.truth("stage2=cbam(kernel=7)")) < 3 * unseen[1]


def test_pure_noise_gives_no_effects() -> None:
    world = World(4)
    rng = np.random.default_rng(4)
    texts = sorted({world.placement() for _ in range(60)})
    model = LatencyModel([(text, 0.86 + rng.normal(0, 0.009), 1.96 * 0.009) for text in texts])
    assert np.std([value for value, _ in model.predict([world.placement() for _ in range(50)])]) < 0.006


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 10**6), st.floats(0.5, 100), st.floats(0, 50))
def test_scale_and_offset_of_the_value_pass_through(seed: int, factor: float, offset: float) -> None:
    world = World(seed)
    measured = world.observe(30)
    moved = [(text, factor * value + offset, factor * half) for text, value, half in measured]
    probe = world.placement()
    (value, error), (other, other_error) = (LatencyModel(rows).predict([probe])[0] for rows in (measured, moved))
    assert other == pytest.approx(factor * value + offset, abs=0.5 * factor * error)
    assert other_error == pytest.approx(factor * error, rel=0.3)


def test_predictions_become_latencies() -> None:
    world = World(6)
    texts = {str(index): world.placement() for index in range(60)}
    ratios = {key: world.truth(text) for key, text in texts.items()}
    latencies = {key: Latency(r, r * 0.98, r * 1.02, 3.0, 6) for key, r in ratios.items()}
    latencies["guess"] = Latency(9.0, 8.0, 10.0, 3.0, 0, measured=False)
    texts |= {"guess": "stage1=se(reduction=4)", "new": "stage1=se(reduction=4) stage2=simam"}
    found = with_predictions(latencies, texts)
    predicted = found["new"]
    assert found.keys() == texts.keys()
    assert not predicted.measured
    assert predicted.sessions == 0
    assert predicted.low < predicted.ratio < predicted.high
    assert predicted.ratio == pytest.approx(world.truth(texts["new"]), abs=0.1)
    assert predicted.ms == pytest.approx(3.0 * predicted.ratio)
    few = dict(list(latencies.items())[:5])
    assert latency_model(few, texts) is None
    assert with_predictions(few, texts) == few
    assert suspicious(few, texts) == []
