"""Runs drawn from known effects, for the tests of the model of all evidence."""

from __future__ import annotations

import math

import numpy as np

from nas_attn.model import ScoredRun
from nas_attn.space.notation import parse
from nas_attn.space.placement import Placement
from nas_attn.storage.records import Fingerprint, Session, SessionSample

TYPES = ("none", "se", "eca", "ela", "simam")


def placements(count: int, rng: np.random.Generator, sites: int = 3) -> dict[str, Placement]:
    """By key: none and the uniform ones first, then random ones."""
    choices = [(kind,) * sites for kind in TYPES]
    while len(choices) < count:
        choice = tuple(rng.choice(TYPES, sites).tolist())
        if choice not in choices:
            choices.append(choice)
    return {f"k{i:03}": parse(text(choice)) for i, choice in enumerate(choices[:count])}


def text(choice: tuple[str, ...]) -> str:
    """Notation of one type a stage."""
    return (
        " ".join(f"stage{i + 1}={kind}" for i, kind in enumerate(choice) if kind != "none")
        or "none"
    )


def additive(
    texts: dict[str, Placement], rng: np.random.Generator, size: float
) -> dict[str, float]:
    """Key -> effect: a sum over sites, of standard deviation about `size`."""
    table: dict[str, float] = {}
    found = {}
    for key, placement in texts.items():
        parts = [str(part) for part in placement.assignments]
        found[key] = sum(
            table.setdefault(part, size / 1.5 * float(rng.standard_normal())) for part in parts
        )
    return found


def runs(
    effects: dict[str, float],
    rng: np.random.Generator,
    *,
    noise: float,
    seeds: int = 1,
    level: float = 0.0,
    rung: int = 0,
    backbone: int = 0,
    first_seed: int = 0,
    base: float = 0.7,
) -> list[ScoredRun]:
    """One run of every placement with every seed; `level`: what seeds move all placements by."""
    found = []
    for seed in range(first_seed, first_seed + seeds):
        shared = base + level * float(rng.standard_normal())
        for key, effect in effects.items():
            value = shared + effect + noise * float(rng.standard_normal())
            found.append(ScoredRun(key, seed, rung, value, backbone))
    return found


def with_images(
    effects: dict[str, float],
    rng: np.random.Generator,
    *,
    seeds: int,
    images: int = 2000,
    flips: float = 0.04,
) -> list[ScoredRun]:
    """Runs with results per image: hard images are hard for all, a share of the results flips from
    run to run.
    """
    hard = rng.random(images)
    found = []
    for seed in range(seeds):
        for key, effect in effects.items():
            right = (hard < 0.7 + effect) ^ (rng.random(images) < flips)
            bits = np.packbits(right).tobytes()
            found.append(
                ScoredRun(key, seed, 0, float(right.mean()), correct=bits, examples=images)
            )
    return found


def session(
    log_ratios: dict[str, float], control: float = 0.0, reference_ms: float = 2.0
) -> Session:
    """A latency session of key -> log-ratio to the bare backbone."""
    samples = tuple(
        SessionSample(
            key, value, reference_ms * math.exp(value), value, reference_ms * math.exp(value), 50
        )
        for key, value in log_ratios.items()
    )
    return Session(Fingerprint("cpu", "test", ()), {}, 0.0, 3.0, reference_ms, control, samples)


def sessions(count: int, truth: dict[str, float], spread: float, seed: int = 0) -> list[Session]:
    """Sessions of key -> true log-ratio that differ from one to the next."""
    rng = np.random.default_rng(seed)
    return [
        session(
            {key: value + rng.normal(0, spread) for key, value in truth.items()},
            rng.normal(0, spread / 4),
        )
        for _ in range(count)
    ]
