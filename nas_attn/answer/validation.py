"""A study's validations: families of comparisons, fixed beforehand, and the verdicts from their
runs on the test split.

A block is one fresh seed with which every network of the family was trained as the target says. A
comparison's statistic is its mean difference over the blocks, divided by its standard error, which
is shrunk towards the family's pooled one (Smyth 2004, the "moderated" t). The family's error is
controlled by the distribution of the largest statistic (Dunnett 1955), found by simulating exactly
this computation on blocks of normal noise. For new images, the variance of the images is added
(Satterthwaite's degrees of freedom).
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.answer.arithmetic import mixed_blocks
from nas_attn.answer.contributions import contributions_of
from nas_attn.answer.fronts import sign_of
from nas_attn.answer.per_image import ByClass, by_class
from nas_attn.model import Results
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_share, is_share_of_images
from nas_attn.space.placement import BARE, Placement
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import Score, StoredScore

Floats = NDArray[np.float64]
# weight of the pooled variance in each comparison's own, as so many observations
PRIOR_FREEDOMS = 4.0
SIMULATED_VALIDATIONS = 40_000
# of these simulations, so that a verdict is the same at each reading
SIMULATION_SEED = 20_261_120
# blocks that can be judged
FEWEST_JUDGED = 2
# of a family, two-sided; of one comparison
ERROR = 0.05
POWER = 0.8


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of one comparison; differences in the metric's unit, with positive as better."""

    network: str
    control: str
    blocks: int
    difference: float
    # simultaneous interval, on these test images
    low: float
    high: float
    # the same for new images; None without results per image
    new_low: float | None
    new_high: float | None
    # `better`, `not shown` or `worse`
    word: str
    # whether it is not worse by more than the margin; None without one
    not_worse: bool | None
    # variance of the mean difference: from the blocks, and what the choice of images adds to it
    by_blocks: float = field(compare=False)
    by_images: float = field(compare=False)


@dataclass(frozen=True, slots=True)
class Differences:
    """Which differences two values of a metric can have."""

    step: float = 0.0
    """The smallest (one image of an accuracy), which limits a block's precision."""
    widest: float = math.inf
    """The largest (1 for shares), which ends the intervals of few blocks."""


ANY_DIFFERENCE = Differences()


def differences_of(metric: str, examples: int) -> Differences:
    """Those of a metric on so many images; 0: their number is not known."""
    step = 0.0
    if is_share_of_images(metric) and examples:
        step = 1 / examples
    return Differences(step, 1.0 if is_share(metric) else math.inf)


def judge(
    values: Mapping[str, Sequence[float]],
    comparisons: Sequence[tuple[str, str]],
    *,
    margin: float | None = None,
    images: Mapping[str, Sequence[NDArray[Any]]] | None = None,
    differences: Differences = ANY_DIFFERENCE,
    error: float = ERROR,
) -> tuple[Verdict, ...]:
    """All comparisons (network, control) of a family, with simultaneous intervals.

    Args:
        values: network -> its value in each block, higher is better; all as long, at least 2.
        margin: acceptable loss, in the values' unit.
        images: network -> for each block, what each test image contributes to the value (right or
            wrong, to an accuracy).
        differences: which ones two values can have.
        error: two-sided error of the family.
    """
    keys = list(values)
    table = np.array([values[key] for key in keys], dtype=float)
    contrasts = contrast_matrix(keys, comparisons)
    means, errors = statistics_of(contrasts, table)
    blocks = table.shape[1]
    errors = np.maximum(errors, differences.step / math.sqrt(blocks))
    critical = critical_value(contrasts, blocks, error)
    widest = differences.widest
    verdicts = []
    for (network, control), d, se in zip(comparisons, means.tolist(), errors.tolist(), strict=True):
        half = critical * se
        new = None
        by_images = 0.0
        if images is not None:
            own = np.stack(images[network]).astype(float)
            other = np.stack(images[control]).astype(float)
            # It has more freedoms, so with few blocks it could be narrower than the interval for
            # these images.
            by_images = _variance_by_images(own - other)
            new = max(half, _for_new_images(blocks, se**2, by_images, contrasts, error))
        verdicts.append(
            Verdict(
                network=network,
                control=control,
                blocks=blocks,
                difference=d,
                low=max(d - half, -widest),
                high=min(d + half, widest),
                new_low=None if new is None else max(d - new, -widest),
                new_high=None if new is None else min(d + new, widest),
                word=word_of(d - half, d + half),
                not_worse=None if margin is None else d - half > -margin,
                by_blocks=se**2,
                by_images=by_images,
            )
        )
    return tuple(verdicts)


def word_of(low: float, high: float) -> str:
    """`better`, `worse` or `not shown`, of the interval of a difference."""
    if low > 0:
        return "better"
    return "worse" if high < 0 else "not shown"


def contrast_matrix(keys: Sequence[str], comparisons: Sequence[tuple[str, str]]) -> Floats:
    """(comparisons, networks): +1 at the network, -1 at its control."""
    matrix = np.zeros((len(comparisons), len(keys)))
    for row, (network, control) in enumerate(comparisons):
        matrix[row, keys.index(network)] = 1.0
        matrix[row, keys.index(control)] = -1.0
    return matrix


def critical_value(contrasts: Floats, blocks: int, error: float = ERROR) -> float:
    """The largest |statistic| that a share `error` of all families exceeds, for equal networks and
    so many blocks.
    """
    means, errors = _draws(contrasts.tobytes(), contrasts.shape, blocks)
    return float(np.quantile(np.abs(means / errors).max(1), 1 - error))


@functools.lru_cache(maxsize=256)
def detectable(comparisons: int, blocks: int, sd: float) -> float:
    """The difference from the family's control that so many blocks show with `POWER`; `sd`: of one
    block's difference.
    """
    contrasts = np.hstack([np.eye(comparisons), -np.ones((comparisons, 1))])
    critical = critical_value(contrasts, blocks)
    means, errors = _draws(contrasts.tobytes(), contrasts.shape, blocks)
    # Rejected where (mean + delta) / error > critical: solve for the delta at which `POWER` of the
    # draws are.
    return float(np.quantile(critical * errors[:, 0] - means[:, 0], POWER)) * sd


def blocks_for(comparisons: int, sd: float, difference: float, *, most: int = 256) -> int | None:
    """Searches the smallest number of blocks that shows a difference with `POWER`.

    Args:
        comparisons: of the family.
        sd: of one block's difference, in the metric's unit.
        difference: in the same unit.
        most: blocks that are tried.

    Returns:
        The number; None if it is above `most`.
    """
    # at least two, to have a variance; doubled until it is enough, then halved between
    low = 2
    high = 3
    while detectable(comparisons, high, sd) > difference:
        low = high
        high *= 2
        if high > 2 * most:
            return None
    while high - low > 1:
        middle = (low + high) // 2
        if detectable(comparisons, middle, sd) > difference:
            low = middle
        else:
            high = middle
    if high <= most:
        return high
    return None


def statistics_of(contrasts: Floats, tables: Floats) -> tuple[Floats, Floats]:
    """Mean differences and their standard errors, (…, comparisons), of tables (…, networks,
    blocks).
    """
    blocks = tables.shape[-1]
    differences = contrasts @ tables
    means = differences.mean(-1)
    own = differences.var(-1, ddof=1)
    centred = tables - tables.mean(-1, keepdims=True)
    residuals = centred - centred.mean(-2, keepdims=True)
    freedoms = (tables.shape[-2] - 1) * (blocks - 1)
    pooled = 2 * (residuals**2).sum((-1, -2)) / freedoms
    # two networks: the pooled one is the own one
    weight = 0.0
    if tables.shape[-2] > 2:
        weight = PRIOR_FREEDOMS
    variance = (weight * pooled[..., None] + (blocks - 1) * own) / (weight + blocks - 1)
    return means, np.sqrt(np.maximum(variance, 1e-300) / blocks)


@functools.lru_cache(maxsize=64)
def _draws(contrasts: bytes, shape: tuple[int, int], blocks: int) -> tuple[Floats, Floats]:
    """Means and standard errors on all-equal networks whose differences have a standard deviation
    of 1.
    """
    matrix = np.frombuffer(contrasts).reshape(shape)
    rng = np.random.default_rng(SIMULATION_SEED)
    parts = []
    # in parts, which need less memory
    for _ in range(8):
        noise = rng.standard_normal((SIMULATED_VALIDATIONS // 8, shape[1], blocks))
        parts.append(statistics_of(matrix, noise / math.sqrt(2)))
    means, errors = (np.concatenate(arrays) for arrays in zip(*parts, strict=True))
    return means, errors


def _variance_by_images(images: Floats) -> float:
    """What the choice of images adds to the variance of a mean difference, from (blocks, images)
    differences.
    """
    blocks, count = images.shape
    mean = images.mean(0)
    centred = images - images.mean(1, keepdims=True)
    # Over pairs of different blocks: what images give beyond each block's own noise.
    total = blocks**2 * float(((mean - mean.mean()) ** 2).mean())
    own = float((centred**2).mean(1).sum())
    shared = max(0.0, (total - own) / (blocks * (blocks - 1)))
    return float(shared / count)


def _for_new_images(
    blocks: int, seeds: float, by_images: float, contrasts: Floats, error: float
) -> float:
    """Half-width for new images, from the variance from blocks alone and what the images add."""
    variance = seeds + by_images
    freedoms = variance**2 / max(seeds**2 / (blocks - 1), 1e-300)
    freedoms = min(int(freedoms), 10_000)
    critical = critical_t(contrasts.tobytes(), contrasts.shape, freedoms, error)
    return critical * math.sqrt(variance)


@functools.lru_cache(maxsize=256)
def critical_t(
    contrasts: bytes, shape: tuple[int, int], freedoms: int, error: float = ERROR
) -> float:
    """Simulates the value that the largest of correlated |t| statistics exceeds in a share `error`
    of all families.

    Args:
        contrasts: bytes of the (comparisons, networks) matrix, float64.
        shape: of this matrix.
        freedoms: degrees of freedom of each statistic.
        error: of the family, two-sided.
    """
    matrix = np.frombuffer(contrasts).reshape(shape)
    rng = np.random.default_rng(SIMULATION_SEED)
    freedoms = max(freedoms, 1)
    noise = rng.standard_normal((SIMULATED_VALIDATIONS, shape[1]))
    largest = np.abs(noise @ matrix.T / math.sqrt(2)).max(1)
    scales = np.sqrt(rng.chisquare(freedoms, SIMULATED_VALIDATIONS) / freedoms)
    return float(np.quantile(largest / scales, 1 - error))


# --------------------------------------------------------------------------------------------------
# of a study


@dataclass(frozen=True, slots=True)
class TestedNetwork:
    """A network of a family."""

    key: str
    placement: Placement
    # `none`, `recommended`, `best placement`, `best bet`, `best uniform`, `front` or `named`
    role: str

    @property
    def title(self) -> str:
        """The role as tables have it."""
        return "bare backbone" if self.placement == BARE else self.role


@dataclass(frozen=True, slots=True)
class Family:
    """The comparisons of a validation, fixed before its first run."""

    number: int
    networks: tuple[TestedNetwork, ...]
    # (key, key of the control)
    comparisons: tuple[tuple[str, str], ...]
    blocks: int
    margin: float | None
    metric: str
    first_seed: int
    # of the target
    epochs: int
    # value of a run without a score; None: the comparison's worst value
    chance: float | None = None
    # blocks, where the clock of a search may end it with fewer
    planned: int | None = None

    @property
    def bare(self) -> str | None:
        """Key of the bare backbone; None if it is not in the family."""
        return next((n.key for n in self.networks if n.placement == BARE), None)


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """A validation as of now."""

    family: Family
    # blocks whose runs have all ended
    blocks: int
    # one per comparison; empty before all blocks have ended
    verdicts: tuple[Verdict, ...]
    # key -> value on the test split in each block; empty as `verdicts`
    values: Mapping[str, tuple[float, ...]]
    # key -> runs without a score, which count as chance (or as the family's worst)
    diverged: Mapping[str, int]
    # accuracy on the test split class by class; None where there is none
    by_class: ByClass | None = None
    # blocks without a say: their networks were computed in different arithmetic
    mixed: int = 0
    # test images; 0 before all blocks have ended
    examples: int = 0
    # key -> of each block what each test image contributes; empty where that is not known
    images: Mapping[str, Sequence[Results]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def complete(self) -> bool:
        return self.blocks == self.family.blocks


def validation_epochs(recipe: Recipe) -> int:
    """Epochs of a validation of the recommended network (or the best bet), the best uniform one and
    the bare backbone.
    """
    return recipe.target.seeds * 3 * recipe.target_training.rungs[-1]


def validation_results(
    recipe: Recipe,
    families: Iterable[Family],
    ended: Collection[tuple[str, int]],
    scores: Iterable[StoredScore],
    labels: Labels | None,
) -> tuple[ValidationResult, ...]:
    """Judges the validations by their scores on the test split.

    Args:
        recipe: of the study.
        families: the validations, the oldest first.
        ended: (key, seed) of the target's runs that have ended.
        scores: of these runs on the test split, with results per image.
        labels: (images,) of the test split; None: they were not kept.

    Returns:
        A result for each family, with verdicts if all of its runs have ended.
    """
    stored = list(scores)
    results = []
    for family in families:
        blocks = finished_blocks(family, ended)
        if blocks < family.blocks:
            results.append(ValidationResult(family, blocks, (), {}, {}))
        else:
            results.append(_judged(recipe, family, stored, labels))
    return tuple(results)


def block_noise(results: Sequence[ValidationResult]) -> tuple[float, float, int] | None:
    """80 % interval of the standard deviation of a block's difference, and the number of blocks;
    None without data.
    """
    squares = 0.0
    freedoms = 0
    blocks = 0
    for result in results:
        if not result.verdicts:
            continue
        pairs = [
            (result.values[key], result.values[control])
            for key, control in result.family.comparisons
        ]
        differences = np.array([np.subtract(one, other) for one, other in pairs])
        judged = result.blocks - result.mixed
        squares += (judged - 1) * float(differences.var(axis=1, ddof=1).mean())
        # comparisons share their blocks and networks: together they count as one
        freedoms += judged - 1
        blocks += judged
    if squares <= 0:
        return None
    # here: it takes half a second to load
    from scipy.special import chdtri

    low = float(chdtri(freedoms, 0.9))
    high = float(chdtri(freedoms, 0.1))
    return math.sqrt(squares / high), math.sqrt(squares / low), blocks


def finished_blocks(family: Family, ended: Collection[tuple[str, int]]) -> int:
    """Blocks from the first on whose runs have all ended."""
    for block in range(family.blocks):
        seed = family.first_seed + block
        if any((network.key, seed) not in ended for network in family.networks):
            return block
    return family.blocks


def _judged(
    recipe: Recipe, family: Family, scores: Iterable[StoredScore], labels: Labels | None
) -> ValidationResult:
    """The verdicts over all blocks of one arithmetic each. A run without a score counts as chance,
    else as the family's worst.
    """
    all_runs = _runs_by_block(family, scores)
    mixed = mixed_blocks(all_runs)
    judged = [block for block in range(family.blocks) if block not in mixed]
    if len(judged) < FEWEST_JUDGED:
        return ValidationResult(family, family.blocks, (), {}, {}, mixed=len(mixed))
    runs: dict[str, dict[int, Score]] = {}
    for key, by_block in all_runs.items():
        runs[key] = {at: by_block[block] for at, block in enumerate(judged) if block in by_block}
    sign = sign_of(recipe, family.metric)
    raw = {key: _values(family.metric, of, len(judged)) for key, of in runs.items()}
    values, diverged = _filled(raw, family.chance, sign)
    examples = 0
    for by_block in runs.values():
        examples = max([examples, *(score.examples for score in by_block.values())])
    images = None
    if not diverged:
        images = _images(family.metric, runs, labels)
    verdicts = judge(
        {key: (sign * np.array(row)).tolist() for key, row in values.items()},
        family.comparisons,
        margin=family.margin,
        images=images,
        differences=differences_of(family.metric, examples),
    )
    classes = by_class(labels, {key: list(by_block.values()) for key, by_block in runs.items()})
    return ValidationResult(
        family,
        family.blocks,
        verdicts,
        values,
        diverged,
        classes,
        mixed=len(mixed),
        examples=examples,
        images=images or {},
    )


def _runs_by_block(family: Family, scores: Iterable[StoredScore]) -> dict[str, dict[int, Score]]:
    """Key -> block -> score, of the family's networks."""
    runs: dict[str, dict[int, Score]] = {network.key: {} for network in family.networks}
    for stored in scores:
        block = stored.score.seed - family.first_seed
        if stored.key in runs and 0 <= block < family.blocks:
            runs[stored.key][block] = stored.score
    return runs


def _values(metric: str, runs: Mapping[int, Score], blocks: int) -> list[float]:
    """A network's value in each block; NaN without a score."""
    values = [math.nan] * blocks
    for block, score in runs.items():
        values[block] = score.metrics.get(metric, math.nan)
    return values


def _filled(
    raw: Mapping[str, Sequence[float]], chance: float | None, sign: float
) -> tuple[dict[str, tuple[float, ...]], dict[str, int]]:
    """(values in which runs without a score count as chance, or without it as the worst of all; how
    many runs of each network that are, if any).
    """
    worst = chance
    if worst is None:
        finite: list[float] = []
        for row in raw.values():
            finite += filter(math.isfinite, row)
        worst = min(finite, key=lambda value: sign * value, default=0.0)
    values = {}
    diverged = {}
    for key, row in raw.items():
        values[key] = tuple(value if math.isfinite(value) else worst for value in row)
        lost = len(row) - sum(map(math.isfinite, row))
        if lost:
            diverged[key] = lost
    return values, diverged


def _images(
    metric: str, runs: Mapping[str, Mapping[int, Score]], labels: Labels | None
) -> dict[str, list[Results]] | None:
    """Key -> for each block, what each test image contributes; None if that is not known."""
    images: dict[str, list[Results]] = {}
    for key, by_block in runs.items():
        images[key] = []
        for _, score in sorted(by_block.items()):
            contributions = contributions_of(metric, score, labels)
            if contributions is None:
                return None
            images[key].append(contributions())
    return images
