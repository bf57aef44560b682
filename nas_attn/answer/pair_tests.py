"""A study's tests: networks that are compared in pairs, over all blocks of all their validations.

A validation fixes its networks and blocks before its first run. A block is one fresh seed with
which every network was trained as the target says, and scored on the test images. Later validations
of a pair look at it again, with fresh seeds and the same images: then all their blocks count
together, and one look is the pool of one.

A pair's mean difference has a standard error from its blocks, shrunk towards that of all networks
beside it (Smyth 2004, the "moderated" t). Its interval is Student's, and allows for all comparisons
of all looks so far (Bonferroni): looking often hardly makes a difference appear. The chance of a
false one is at most 5 % * (1 + 1/2 + ... + 1/n) after n looks with one comparison each, as each
look counts only those before it. For new images, the variance of the images is added
(Satterthwaite's degrees of freedom).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from nas_attn.answer.arithmetic import mixed_blocks
from nas_attn.answer.contributions import contributions_of
from nas_attn.answer.fronts import sign_of
from nas_attn.model import Results
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.tables import is_share, is_share_of_images
from nas_attn.space.placement import BARE, Placement
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import Score, StoredScore

Floats = NDArray[np.float64]
# weight of the variance of all networks in each pair's own, as so many observations
PRIOR_FREEDOMS = 4.0
# blocks that can be judged
FEWEST_JUDGED = 2
# of all comparisons together, two-sided; of one comparison
ERROR = 0.05
POWER = 0.8
# trainings of each network that a test may take in all
MOST_POOLED_BLOCKS = 256
# blocks that a further test has at least
FEWEST_MORE = 4


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

    @property
    def bare(self) -> str | None:
        """Key of the bare backbone; None if it is not in the family."""
        return next((n.key for n in self.networks if n.placement == BARE), None)


@dataclass(frozen=True, slots=True)
class PairTest:
    """A network against another over all blocks of their validations. Differences are in the
    metric's unit, with positive as better.
    """

    key: str
    control: str
    placement: Placement
    metric: str
    # of each training
    epochs: int
    # validations that have compared the pair
    looks: int
    # of all these validations, for which the interval allows
    comparisons: int
    # trainings of each of the two networks
    blocks: int
    difference: float
    # on these test images
    low: float
    high: float
    # for new images of their kind; None without results per image
    new_low: float | None
    new_high: float | None
    # `better`, `not shown` or `worse`
    word: str
    # variance of the difference: from the blocks, and what the choice of images adds to it
    by_blocks: float = field(compare=False)
    by_images: float = field(compare=False)
    # means over the blocks: of the control, and of the network
    before: float = field(compare=False)
    after: float = field(compare=False)
    # whether it is not worse by more than the margin; None without one
    not_worse: bool | None = None

    @property
    def between(self) -> tuple[float, float]:
        """The interval that counts: for new images where that is known."""
        if self.new_low is None or self.new_high is None:
            return self.low, self.high
        return self.new_low, self.new_high

    def blocks_to_decide(self, margin: float = 0.0) -> int | None:
        """How many blocks more would show a difference as large as the one seen to be above a loss
        of `margin`, or below; None if that takes more than MOST_POOLED_BLOCKS in all.
        """
        size = abs(self.difference + margin)
        sd = math.sqrt(self.by_blocks * self.blocks)
        for blocks in range(self.blocks + FEWEST_MORE, MOST_POOLED_BLOCKS + 1):
            if size and size >= detectable(self.comparisons + 1, blocks, sd, self.by_images):
                return blocks - self.blocks
        return None


@dataclass(frozen=True, slots=True)
class ValidationResult:
    """A validation as of now."""

    family: Family
    # blocks whose runs have all ended
    blocks: int
    # one per comparison, over all validations so far; empty before all blocks have ended
    verdicts: tuple[PairTest, ...] = ()
    # key -> value on the test split in each block; empty as `verdicts`
    values: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    # key -> runs without a score, which count as chance (or as the family's worst)
    diverged: Mapping[str, int] = field(default_factory=dict)
    # blocks without a say: their networks were computed in different arithmetic
    mixed: int = 0
    # test images; 0 before all blocks have ended
    examples: int = 0
    # key -> of each block what each test image contributes; empty where that is not known
    images: Mapping[str, Sequence[Results]] = field(default_factory=dict, compare=False, repr=False)

    @property
    def complete(self) -> bool:
        return self.blocks == self.family.blocks


def quantile(freedoms: float, probability: float) -> float:
    """Of Student's t."""
    # here: it takes half a second to load
    from scipy.special import stdtrit

    return float(stdtrit(freedoms, probability))


def critical(comparisons: int, freedoms: float) -> float:
    """Standard errors of half an interval that allows for so many comparisons."""
    return quantile(freedoms, 1 - ERROR / 2 / comparisons)


def detectable(comparisons: int, blocks: int, sd: float, by_images: float = 0.0) -> float:
    """The difference that so many blocks show with `POWER`.

    Args:
        comparisons: that the interval allows for.
        blocks: of each network.
        sd: of one block's difference.
        by_images: what the choice of images adds to the variance of the mean difference.
    """
    freedoms = blocks - 1 + min(PRIOR_FREEDOMS, (comparisons - 1) * (blocks - 1))
    errors = critical(comparisons, freedoms) + quantile(freedoms, POWER)
    return errors * math.hypot(sd / math.sqrt(blocks), math.sqrt(by_images))


def blocks_for(comparisons: int, sd: float, difference: float) -> int | None:
    """The smallest number of blocks that shows a difference with `POWER`, both in the metric's
    unit; None if it is above MOST_POOLED_BLOCKS.
    """
    able = (
        n for n in range(2, MOST_POOLED_BLOCKS + 1) if detectable(comparisons, n, sd) <= difference
    )
    return next(able, None)


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
    results: list[ValidationResult] = []
    for family in families:
        blocks = finished_blocks(family, ended)
        result = ValidationResult(family, blocks)
        if blocks == family.blocks:
            result = _scored(recipe, family, stored, labels)
        if result.values:
            looks = [*results, result]
            verdicts = tuple(pair_test(recipe, pair, looks) for pair in family.comparisons)
            result = replace(result, verdicts=verdicts)
        results.append(result)
    return tuple(results)


def last_tests(results: Sequence[ValidationResult]) -> tuple[PairTest, ...]:
    """One for each network that was compared with the bare backbone, over all looks, in the order
    of the first one. Validations by another metric, or of another length, count apart.
    """
    tests: dict[tuple[str, str, int], PairTest] = {}
    for result in results:
        for test in result.verdicts:
            if test.control == result.family.bare:
                tests[test.key, test.metric, test.epochs] = test
    return tuple(tests.values())


def pair_test(
    recipe: Recipe, pair: tuple[str, str], results: Sequence[ValidationResult]
) -> PairTest:
    """Judges a pair of the last result over all results like it."""
    family = results[-1].family
    looks = [
        one
        for one in results
        if one.values
        and pair in one.family.comparisons
        and (one.family.metric, one.family.epochs) == (family.metric, family.epochs)
    ]
    sign = sign_of(recipe, family.metric)
    tables = []
    for look in looks:
        order = [*pair, *(key for key in look.values if key not in pair)]
        tables.append(sign * np.array([look.values[key] for key in order], dtype=float))
    comparisons = sum(len(look.family.comparisons) for look in looks)
    step = 1 / looks[-1].examples if looks[-1].examples else 0.0
    if not is_share_of_images(family.metric):
        step = 0.0
    mean, variance, freedoms = moderated(tables, step)
    half = critical(comparisons, freedoms) * math.sqrt(variance)
    new = by_images = None
    if all(look.images for look in looks):
        own, other = (np.concatenate([look.images[key] for look in looks]) for key in pair)
        by_images = variance_by_images(own.astype(float) - other)
        total = variance + by_images
        more = min(total**2 / max(variance**2 / freedoms, 1e-300), 10_000.0)
        # it has more freedoms, so with few blocks it could be narrower than for these images
        new = max(half, critical(comparisons, more) * math.sqrt(total))
    widest = 1.0 if is_share(family.metric) else math.inf
    counts = half if new is None else new
    return PairTest(
        key=pair[0],
        control=pair[1],
        placement=next(one.placement for one in family.networks if one.key == pair[0]),
        metric=family.metric,
        epochs=family.epochs,
        looks=len(looks),
        comparisons=comparisons,
        blocks=sum(table.shape[1] for table in tables),
        difference=mean,
        low=max(mean - half, -widest),
        high=min(mean + half, widest),
        new_low=None if new is None else max(mean - new, -widest),
        new_high=None if new is None else min(mean + new, widest),
        word="better" if mean > counts else "worse" if -mean > counts else "not shown",
        by_blocks=variance,
        by_images=by_images or 0.0,
        before=fmean(value for look in looks for value in look.values[pair[1]]),
        after=fmean(value for look in looks for value in look.values[pair[0]]),
        not_worse=None if family.margin is None else mean - counts > -family.margin,
    )


def moderated(tables: Sequence[Floats], step: float = 0.0) -> tuple[float, float, float]:
    """The mean difference of the first two networks, its variance and degrees of freedom.

    Args:
        tables: (networks, blocks) of each look.
        step: the smallest difference of two values, which limits a block's precision.
    """
    differences = np.concatenate([table[0] - table[1] for table in tables])
    blocks = len(differences)
    squares = 0.0
    freedoms = 0
    others = 0
    for table in tables:
        centred = table - table.mean(1, keepdims=True)
        squares += float(((centred - centred.mean(0)) ** 2).sum())
        freedoms += (len(table) - 1) * (table.shape[1] - 1)
        others += (len(table) - 2) * (table.shape[1] - 1)
    # two networks: that of all is their own
    weight = PRIOR_FREEDOMS if others else 0.0
    own = float(differences.var(ddof=1))
    variance = (2 * weight * squares / freedoms + (blocks - 1) * own) / (weight + blocks - 1)
    variance = max(variance / blocks, step**2 / blocks, 1e-300)
    return float(differences.mean()), variance, blocks - 1 + min(weight, others)


def variance_by_images(images: Floats) -> float:
    """What the choice of images adds to the variance of a mean difference, from (blocks, images)
    differences.
    """
    blocks, count = images.shape
    mean = images.mean(0)
    centred = images - images.mean(1, keepdims=True)
    # Over pairs of different blocks: what images give beyond each block's own noise.
    total = blocks**2 * float(((mean - mean.mean()) ** 2).mean())
    own = float((centred**2).mean(1).sum())
    return float(max(0.0, (total - own) / (blocks * (blocks - 1))) / count)


def finished_blocks(family: Family, ended: Collection[tuple[str, int]]) -> int:
    """Blocks from the first on whose runs have all ended."""
    for block in range(family.blocks):
        seed = family.first_seed + block
        if any((network.key, seed) not in ended for network in family.networks):
            return block
    return family.blocks


def _scored(
    recipe: Recipe, family: Family, scores: Iterable[StoredScore], labels: Labels | None
) -> ValidationResult:
    """The values of all blocks of one arithmetic each. A run without a score counts as chance, else
    as the family's worst.
    """
    runs: dict[str, dict[int, Score]] = {network.key: {} for network in family.networks}
    for stored in scores:
        block = stored.score.seed - family.first_seed
        if stored.key in runs and 0 <= block < family.blocks:
            runs[stored.key][block] = stored.score
    mixed = mixed_blocks(runs)
    judged = [block for block in range(family.blocks) if block not in mixed]
    result = ValidationResult(family, family.blocks, mixed=len(mixed))
    if len(judged) < FEWEST_JUDGED:
        return result
    metric = family.metric
    sign = sign_of(recipe, metric)
    raw = np.full((len(runs), len(judged)), math.nan)
    for row, of in zip(raw, runs.values(), strict=True):
        for at, block in enumerate(judged):
            if block in of:
                row[at] = of[block].metrics.get(metric, math.nan)
    lost = ~np.isfinite(raw)
    worst = family.chance
    if worst is None:
        worst = sign * min((sign * raw[~lost]).tolist(), default=0.0)
    values = np.where(lost, worst, raw).tolist()
    missing = dict(zip(runs, lost.sum(1).tolist(), strict=True))
    return replace(
        result,
        values=dict(zip(runs, map(tuple, values), strict=True)),
        diverged={key: count for key, count in missing.items() if count},
        examples=max((s.examples for of in runs.values() for s in of.values()), default=0),
        images={} if lost.any() else _images(metric, runs, judged, labels),
    )


def _images(
    metric: str,
    runs: Mapping[str, Mapping[int, Score]],
    judged: Sequence[int],
    labels: Labels | None,
) -> dict[str, list[Results]]:
    """Key -> for each block, what each test image contributes; empty if that is not known."""
    images: dict[str, list[Results]] = {}
    for key, of in runs.items():
        known = [contributions_of(metric, of[block], labels) for block in judged]
        images[key] = [contributions() for contributions in known if contributions]
        if len(images[key]) < len(judged):
            return {}
    return images
