"""A study's validations: families of comparisons fixed beforehand, and what their runs on the test split show."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.classes import ByClass, by_class
from nas_attn.analysis.verdict import Comparison, Verdict, judge
from nas_attn.recipe import lower_is_better
from nas_attn.recipe_reading import frozen_recipe
from nas_attn.storage import StoredScore, StudyStore

WAY, TEST_WAY = "target", "target/test"


@dataclass(frozen=True, slots=True)
class Network:
    """A network of a family."""

    key: str
    placement: str
    role: str
    """`none`, `recommended`, `best uniform`, `front` or `named`."""


@dataclass(frozen=True, slots=True)
class Family:
    """What a validation compares, fixed before its first run."""

    number: int
    networks: tuple[Network, ...]
    comparisons: tuple[tuple[str, str], ...]
    """(key, key of the control)."""
    blocks: int
    margin: float | None
    metric: str
    first_seed: int
    fresh_backbones: bool
    epochs: int
    """Of the target."""
    chance: float | None = None
    """What a run without a score counts as; None: the worst value of the comparison."""


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """A validation as of now."""

    family: Family
    blocks: int
    """Blocks whose runs have all ended."""
    verdicts: tuple[Verdict, ...]
    """One per comparison; empty before all blocks have ended."""
    values: Mapping[str, tuple[float, ...]]
    """Key -> value on the test split in each block, in the metric's own unit and direction; empty as `verdicts`."""
    diverged: Mapping[str, int]
    """Key -> runs without a score, which count as chance (or as the family's worst)."""
    by_class: ByClass | None = None
    """Accuracy on the test split class by class; None where there is none."""

    @property
    def complete(self) -> bool:
        """Whether all blocks have ended."""
        return self.blocks == self.family.blocks


def family_name(number: int) -> str:
    """Under which a study keeps a family."""
    return f"{number:04d}"


def families(store: StudyStore) -> list[Family]:
    """The validations that were begun, the first first."""
    return [_family(json.loads(text)) for text in store.validations.all().values()]


def _family(plain: dict[str, Any]) -> Family:
    networks = tuple(Network(**network) for network in plain.pop("networks"))
    comparisons = tuple((key, control) for key, control in plain.pop("comparisons"))
    return Family(networks=networks, comparisons=comparisons, **plain)


def validation_results(store: StudyStore) -> tuple[ValidationResult, ...]:
    """All validations of a study, the first first; with verdicts where all of its blocks have ended."""
    found = []
    for family in families(store):
        blocks = finished_blocks(store, family)
        found.append(ValidationResult(family, blocks, (), {}, {}) if blocks < family.blocks else _judged(store, family))
    return tuple(found)


def block_noise(results: Sequence[ValidationResult]) -> tuple[float, float, int] | None:
    """What one block's difference between two networks varies by, as the validations so far show it.

    Returns the ends of an 80 % interval of its standard deviation, in the metric's unit, and the blocks that it rests on; None
    where no two blocks of one validation are done, or they do not differ.
    """
    squares, freedoms, blocks = 0.0, 0, 0
    for result in results:
        if not result.verdicts:
            continue
        pairs = [(result.values[key], result.values[control]) for key, control in result.family.comparisons]
        differences = np.array([np.subtract(one, other) for one, other in pairs])
        squares += (result.blocks - 1) * float(differences.var(axis=1, ddof=1).mean())
        freedoms += result.blocks - 1  # comparisons share their blocks and networks: together they count as one
        blocks += result.blocks
    if squares <= 0:
        return None
    from scipy.special import chdtri  # here: it takes half a second to load

    low, high = float(chdtri(freedoms, 0.9)), float(chdtri(freedoms, 0.1))
    return math.sqrt(squares / high), math.sqrt(squares / low), blocks


def finished_blocks(store: StudyStore, family: Family) -> int:
    """Blocks from the first on whose runs have all ended."""
    ended = {(r.run.key, r.run.seed) for r in store.queue.rows(way=WAY) if r.state in ("done", "failed")}
    for block in range(family.blocks):
        if any((network.key, family.first_seed + block) not in ended for network in family.networks):
            return block
    return family.blocks


def _judged(store: StudyStore, family: Family) -> ValidationResult:
    """The verdicts over all blocks. A run without a score counts as chance, else as the family's worst."""
    scores, blocks = _scores(store, family), family.blocks
    sign = -1.0 if lower_is_better(_objective(store, family)) else 1.0
    raw = {
        network.key: [_value(scores.get((network.key, block)), family.metric) for block in range(blocks)]
        for network in family.networks
    }
    known = [v for row in raw.values() for v in row if math.isfinite(v)]
    worst = min(known, key=lambda v: sign * v, default=0.0) if family.chance is None else family.chance
    values = {key: tuple(v if math.isfinite(v) else worst for v in row) for key, row in raw.items()}
    diverged = {key: sum(not math.isfinite(v) for v in row) for key, row in raw.items()}
    images = _images(scores, family) if family.metric == "accuracy" and not any(diverged.values()) else None
    verdicts = judge(
        {key: [sign * v for v in row] for key, row in values.items()},
        [Comparison(key, control) for key, control in family.comparisons],
        margin=family.margin,
        images=images,
    )
    runs = {n.key: [scores[n.key, b].score for b in range(blocks) if (n.key, b) in scores] for n in family.networks}
    classes = by_class(store, TEST_WAY, runs)
    return ValidationResult(family, blocks, verdicts, values, {key: n for key, n in diverged.items() if n}, classes)


def _scores(store: StudyStore, family: Family) -> dict[tuple[str, int], StoredScore]:
    """(key, block) -> score on the test split."""
    keys = {network.key for network in family.networks}
    return {
        (s.key, s.score.seed - family.first_seed): s
        for s in store.scores(way=TEST_WAY, with_correct=True)
        if s.key in keys and 0 <= s.score.seed - family.first_seed < family.blocks
    }


def _value(stored: StoredScore | None, metric: str) -> float:
    return math.nan if stored is None else stored.score.metrics.get(metric, math.nan)


def _objective(store: StudyStore, family: Family) -> str:
    """The metric with the sign that the recipe gives it."""
    recipe = frozen_recipe(store.recipe, where=f"study '{store.name}'")
    return f"-{family.metric}" if f"-{family.metric}" in recipe.objectives else family.metric


def _images(scores: Mapping[tuple[str, int], StoredScore], family: Family) -> dict[str, list[NDArray[np.bool_]]] | None:
    """Key -> per block, which test images were right; None where that was not kept."""
    found: dict[str, list[NDArray[np.bool_]]] = {}
    for network in family.networks:
        for block in range(family.blocks):
            score = scores[network.key, block].score
            if score.correct is None:
                return None
            bits = np.unpackbits(np.frombuffer(score.correct, np.uint8), count=score.examples).astype(bool)
            found.setdefault(network.key, []).append(bits)
    return found
