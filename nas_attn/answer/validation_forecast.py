"""What a validation can show and cost, before its first run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nas_attn.answer.decision import training_s
from nas_attn.answer.plans import TYPICAL_SEED_SD
from nas_attn.answer.pooled import PooledForecast, after_more
from nas_attn.answer.snapshot import Snapshot
from nas_attn.answer.validation import Family, block_noise, blocks_for, detectable

# runs of one block are correlated: by three quarters, or not at all
LEAST_OF_SEED_SD = 0.7
MOST_OF_SEED_SD = 2**0.5


@dataclass(frozen=True, slots=True)
class ValidationForecast:
    """What the blocks of a family can show and cost."""

    sd_low: float
    """Of one block's difference: the least that is likely."""
    sd_high: float
    noise_blocks: int
    """Blocks of earlier validations that it is known from; 0: from the search's runs."""
    comparisons: int
    detectable_low: float
    """The difference that is shown with a probability of 80 %, with `sd_low`."""
    detectable_high: float
    total_s: float | None
    """Of training; None: the pace is not known."""
    pooled: tuple[PooledForecast, ...] = ()
    """Of the pairs that were tested before."""


def forecast_validation(now: Snapshot, family: Family) -> ValidationForecast:
    """What a family's blocks can show. The noise is that of earlier validations, else of the
    search.
    """
    earlier = [result for result in now.validations if result.family.metric == family.metric]
    low, high, blocks = block_noise(earlier) or _noise_of_the_search(now, family.metric)
    comparisons = len(family.comparisons)
    return ValidationForecast(
        sd_low=low,
        sd_high=high,
        noise_blocks=blocks,
        comparisons=comparisons,
        detectable_low=detectable(comparisons, family.blocks, low),
        detectable_high=detectable(comparisons, family.blocks, high),
        total_s=training_s(now, family.blocks * len(family.networks) * family.epochs),
        pooled=tuple(_pooled(now, family)),
    )


def _pooled(now: Snapshot, family: Family) -> Iterator[PooledForecast]:
    tests = {(test.key, test.metric, test.epochs): test for test in now.pooled}
    for network, control in family.comparisons:
        test = tests.get((network, family.metric, family.epochs))
        if test is not None and control == family.bare:
            yield after_more(test, family.blocks, len(family.comparisons))


def blocks_to_show(
    forecast: ValidationForecast, difference: float
) -> tuple[int | None, int | None]:
    """Blocks that show a difference, with the least and the largest likely noise; None: over
    256.
    """
    low = blocks_for(forecast.comparisons, forecast.sd_low, difference)
    high = blocks_for(forecast.comparisons, forecast.sd_high, difference)
    return low, high


def _noise_of_the_search(now: Snapshot, metric: str) -> tuple[float, float, int]:
    floor = now.noise.get(metric)
    seed_sd = (floor.seed_sd if floor else None) or TYPICAL_SEED_SD
    return LEAST_OF_SEED_SD * seed_sd, MOST_OF_SEED_SD * seed_sd, 0
