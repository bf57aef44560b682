"""A study's validations: families of comparisons fixed beforehand, and what their runs on the test split show."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas_attn.analysis.per_image import ByClass, Labels, by_class
from nas_attn.analysis.verdict import Comparison, Verdict, judge
from nas_attn.recipe import Recipe, lower_is_better
from nas_attn.records import Score
from nas_attn.storage import StoredScore

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


def validation_epochs(recipe: Recipe) -> int:
    """Epochs of a validation of the recommended network, the best uniform one and the bare backbone."""
    target = recipe.target_training
    fresh = target.backbone_epochs if target.start == "backbone" else 0
    return recipe.target.seeds * (3 * target.rungs[-1] + fresh)


def read_family(text: str) -> Family:
    """A family as a study keeps it, JSON."""
    plain = json.loads(text)
    networks = tuple(Network(**network) for network in plain.pop("networks"))
    comparisons = tuple((key, control) for key, control in plain.pop("comparisons"))
    return Family(networks=networks, comparisons=comparisons, **plain)


def validation_results(
    recipe: Recipe,
    families: Iterable[Family],
    ended: Collection[tuple[str, int]],
    scores: Iterable[StoredScore],
    labels: Labels | None,
) -> tuple[ValidationResult, ...]:
    """Validations as they stand, with verdicts where all of their blocks have ended.

    Args:
        ended: (key, seed) of the runs that have ended.
        scores: on the test split, with results per image.
        labels: of the test split.
    """
    found, known = [], list(scores)
    for family in families:
        blocks = finished_blocks(family, ended)
        if blocks < family.blocks:
            found.append(ValidationResult(family, blocks, (), {}, {}))
        else:
            found.append(_judged(recipe, family, known, labels))
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


def finished_blocks(family: Family, ended: Collection[tuple[str, int]]) -> int:
    """Blocks from the first on whose runs have all ended."""
    for block in range(family.blocks):
        if any((network.key, family.first_seed + block) not in ended for network in family.networks):
            return block
    return family.blocks


def _judged(recipe: Recipe, family: Family, scores: Iterable[StoredScore], labels: Labels | None) -> ValidationResult:
    """The verdicts over all blocks. A run without a score counts as chance, else as the family's worst."""
    blocks, objective = family.blocks, f"-{family.metric}"
    sign = -1.0 if lower_is_better(objective if objective in recipe.objectives else family.metric) else 1.0
    keys = [network.key for network in family.networks]
    runs: dict[str, dict[int, Score]] = {key: {} for key in keys}
    for stored in scores:
        block = stored.score.seed - family.first_seed
        if stored.key in runs and 0 <= block < blocks:
            runs[stored.key][block] = stored.score
    raw = {
        key: [found[b].metrics.get(family.metric, math.nan) if b in found else math.nan for b in range(blocks)]
        for key, found in runs.items()
    }
    known = [v for row in raw.values() for v in row if math.isfinite(v)]
    worst = min(known, key=lambda v: sign * v, default=0.0) if family.chance is None else family.chance
    values = {key: tuple(v if math.isfinite(v) else worst for v in row) for key, row in raw.items()}
    diverged = {key: lost for key, row in raw.items() if (lost := sum(not math.isfinite(v) for v in row))}
    examples = max((score.examples for found in runs.values() for score in found.values()), default=0)
    verdicts = judge(
        {key: [sign * v for v in row] for key, row in values.items()},
        [Comparison(key, control) for key, control in family.comparisons],
        margin=family.margin,
        images=_images(runs, blocks) if family.metric == "accuracy" and not diverged else None,
        step=1 / examples if family.metric == "accuracy" and examples else 0.0,
    )
    classes = by_class(labels, {key: list(found.values()) for key, found in runs.items()})
    return ValidationResult(family, blocks, verdicts, values, diverged, classes)


def _images(runs: Mapping[str, Mapping[int, Score]], blocks: int) -> dict[str, list[NDArray[np.bool_]]] | None:
    """Key -> per block, which test images were right; None where that was not kept."""
    if any(score.correct is None for found in runs.values() for score in found.values()):
        return None
    return {
        key: [np.unpackbits(np.frombuffer(s.correct or b"", np.uint8), count=s.examples) > 0 for s in ordered]
        for key, found in runs.items()
        if (ordered := [found[block] for block in range(blocks)])
    }
