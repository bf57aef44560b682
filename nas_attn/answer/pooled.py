"""All tests of one pair of networks, taken together.

A validation fixes its networks and blocks before its first run, and keeps its own verdict. Later
validations of the same pair look at it again, with fresh seeds and the same test images. Here all
their blocks count together. The interval is widened for all comparisons of all these looks
(Bonferroni), so that looking often hardly makes a difference appear: the chance of a false one is
at most 5 % * (1 + 1/2 + ... + 1/n) after n looks with one comparison each, as each look counts only
those before it.
"""

from __future__ import annotations

import bisect
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from nas_attn.answer.fronts import sign_of
from nas_attn.answer.validation import (
    ERROR,
    POWER,
    ValidationResult,
    Verdict,
    critical_value,
    differences_of,
    judge,
    word_of,
)
from nas_attn.model import Results
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.placement import Placement

# trainings of each network that a test may take in all
MOST_POOLED_BLOCKS = 256
# blocks that a further test has at least
FEWEST_MORE = 4
# of a pair
CONTRAST = np.array([[1.0, -1.0]])


@dataclass(frozen=True, slots=True)
class PooledTest:
    """A network against the bare backbone over all blocks of all their validations. Differences
    are in the metric's unit, with positive as better.
    """

    key: str
    placement: Placement
    metric: str
    # of each training
    epochs: int
    # validations that have judged the pair
    looks: int
    # of all these validations, for which the intervals are corrected
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
    # variance of the difference: from the blocks, and what the choice of images adds to it
    by_blocks: float = field(compare=False)
    by_images: float = field(compare=False)

    @property
    def between(self) -> tuple[float, float]:
        """The interval that counts: for new images where that is known."""
        if self.new_low is None or self.new_high is None:
            return self.low, self.high
        return self.new_low, self.new_high

    @property
    def word(self) -> str:
        """`better`, `not shown` or `worse`."""
        return word_of(*self.between)


def pooled_tests(recipe: Recipe, results: Sequence[ValidationResult]) -> tuple[PooledTest, ...]:
    """One for each network that was compared with the bare backbone, in the order of the first
    look. Validations by another metric, or of another length, are pooled apart.
    """
    looks = defaultdict[tuple[str, str, str, int], list[ValidationResult]](list)
    for result in results:
        family = result.family
        for verdict in result.verdicts:
            if family.bare == verdict.control:
                pair = (verdict.network, verdict.control, family.metric, family.epochs)
                looks[pair].append(result)
    return tuple(_pooled(recipe, (key, bare), some) for (key, bare, _, _), some in looks.items())


def _pooled(recipe: Recipe, pair: tuple[str, str], looks: Sequence[ValidationResult]) -> PooledTest:
    family = looks[0].family
    key, _ = pair
    verdict = next(v for v in looks[0].verdicts if (v.network, v.control) == pair)
    comparisons = sum(len(look.verdicts) for look in looks)
    if len(looks) > 1:
        # A single validation's own intervals are exact for its comparisons.
        verdict = _judged_together(recipe, pair, looks, ERROR / comparisons)
    return PooledTest(
        key=key,
        placement=next(network.placement for network in family.networks if network.key == key),
        metric=family.metric,
        epochs=family.epochs,
        looks=len(looks),
        comparisons=comparisons,
        blocks=verdict.blocks,
        difference=verdict.difference,
        low=verdict.low,
        high=verdict.high,
        new_low=verdict.new_low,
        new_high=verdict.new_high,
        by_blocks=verdict.by_blocks,
        by_images=verdict.by_images,
    )


def _judged_together(
    recipe: Recipe, pair: tuple[str, str], looks: Sequence[ValidationResult], error: float
) -> Verdict:
    metric = looks[0].family.metric
    sign = sign_of(recipe, metric)
    values: dict[str, list[float]] = {key: [] for key in pair}
    images: dict[str, list[Results]] = {key: [] for key in pair}
    for look in looks:
        for key in pair:
            values[key] += [sign * value for value in look.values[key]]
            images[key] += look.images.get(key, ())
    complete = all(len(images[key]) == len(values[key]) for key in pair)
    examples = max(look.examples for look in looks)
    (verdict,) = judge(
        values,
        [pair],
        images=images if complete else None,
        differences=differences_of(metric, examples),
        error=error,
    )
    return verdict


@dataclass(frozen=True, slots=True)
class PooledForecast:
    """What all tests of a network against the bare backbone would say after one more, if the
    difference stays what it is.
    """

    key: str
    metric: str
    # tests and blocks of before, and blocks with the further test
    looks: int
    blocks_before: int
    blocks: int
    difference: float
    low: float
    high: float

    @property
    def word(self) -> str:
        """`better`, `not shown` or `worse`."""
        return word_of(self.low, self.high)


def after_more(test: PooledTest, blocks: int, comparisons: int) -> PooledForecast:
    """What the tests of before would say with a further one of so many blocks, in which so many
    pairs are compared.
    """
    total = test.blocks + blocks
    critical = critical_value(CONTRAST, total, ERROR / (test.comparisons + comparisons))
    half = critical * math.sqrt(_variance(test, total))
    return PooledForecast(
        key=test.key,
        metric=test.metric,
        looks=test.looks,
        blocks_before=test.blocks,
        blocks=total,
        difference=test.difference,
        low=test.difference - half,
        high=test.difference + half,
    )


def _variance(test: PooledTest, blocks: int) -> float:
    """Of the mean difference over so many blocks like those of the test."""
    return test.by_blocks * test.blocks / blocks + test.by_images


def blocks_to_decide(test: PooledTest, margin: float = 0.0) -> int | None:
    """How many blocks more would show a difference as large as the one seen, with the power of a
    validation.

    Args:
        test: so far.
        margin: a loss that does not count, in the metric's unit: the difference is shown to be
            above it, or below.

    Returns:
        Blocks; None if that takes more than MOST_POOLED_BLOCKS in all, if these test images are too
        few for any number of blocks, or if nothing was seen.
    """
    size = abs(test.difference + margin)
    fewest = test.blocks + FEWEST_MORE
    if size == 0 or not _decided_by(test, size, MOST_POOLED_BLOCKS):
        return None
    # more blocks decide whatever fewer ones do
    possible = range(fewest, MOST_POOLED_BLOCKS + 1)
    needed = bisect.bisect_left(possible, True, key=lambda blocks: _decided_by(test, size, blocks))
    return FEWEST_MORE + needed


def _decided_by(test: PooledTest, size: float, blocks: int) -> bool:
    """Whether so many blocks in all, with one comparison more, show a difference of this size with
    the power of a validation. The quantiles are Student's: with few blocks, the variance is not
    known well.
    """
    # here: it takes half a second to load
    from scipy.special import stdtrit

    freedoms = blocks - 1
    error = ERROR / (test.comparisons + 1)
    needed = float(stdtrit(freedoms, 1 - error / 2) + stdtrit(freedoms, POWER))
    return size >= needed * math.sqrt(_variance(test, blocks))
