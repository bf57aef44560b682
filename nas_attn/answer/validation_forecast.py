"""What a validation compares, can show and costs, before its first run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from nas_attn.answer.pooled import PooledForecast, after_more
from nas_attn.answer.recommending import Recommendation, promising
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.answer.validation import Family, TestedNetwork, block_noise, blocks_for, detectable
from nas_attn.space.placement import BARE

# runs of one block are correlated: by three quarters, or not at all
LEAST_OF_SEED_SD = 0.7
MOST_OF_SEED_SD = 2**0.5

# spread of one placement's accuracy over seeds on a small task
TYPICAL_SEED_SD = 0.009


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
        total_s=now.training_s(family.blocks * len(family.networks) * family.epochs),
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


def finalists(now: Snapshot, best: Recommendation) -> list[TestedNetwork]:
    """The recommended network first, then the best uniform one; each once. If a control is
    recommended, the best placement is second; if the bare backbone is, the best bet, where it is
    promising or alone.
    """
    uniform = now.best_uniform
    first = now.find(best.taken) or best
    networks = [TestedNetwork(first.key, first.placement, "recommended")]
    alone = uniform is None and best.instead is None
    if best.placement != BARE:
        networks.append(TestedNetwork(best.key, best.placement, "best placement"))
    else:
        bet = _best_bet(now, best, alone=alone)
        if bet is not None:
            networks.append(TestedNetwork(bet.key, bet.placement, "best bet"))
    if uniform is not None:
        networks.append(TestedNetwork(uniform.key, uniform.placement, "best uniform"))
    return once_each(networks)


def once_each(networks: list[TestedNetwork]) -> list[TestedNetwork]:
    """Each network in its first role."""
    kept: dict[str, TestedNetwork] = {}
    for network in networks:
        kept.setdefault(network.key, network)
    return list(kept.values())


def runs_of_test(
    now: Snapshot, best: Recommendation, *, also: str | None = None, blocks: int | None = None
) -> int:
    """Returns the trainings of a test of the finalists, the bare backbone included.

    Args:
        now: the study.
        best: what it recommends.
        also: key of a network that is tested, too.
        blocks: trainings of each network; None: as many as the target says.
    """
    compared = finalists(now, best)
    keys = {network.key for network in compared}
    if also is not None:
        keys.add(also)
    bare_is_extra = all(network.placement != BARE for network in compared)
    networks = len(keys) + bare_is_extra
    return networks * (blocks or now.recipe.target.seeds)


def _best_bet(now: Snapshot, best: Recommendation, *, alone: bool) -> CandidateView | None:
    bet = best.best_bet
    if bet is None or bet.gain is None or not (promising(bet.gain) or alone):
        return None
    return now.find(bet.key)
