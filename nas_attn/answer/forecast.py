"""What a test compares, can show and costs, before its first run."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nas_attn.answer.answer import Answer, promising
from nas_attn.answer.pair_tests import (
    Family,
    TestedNetwork,
    ValidationResult,
    blocks_for,
    detectable,
)
from nas_attn.answer.snapshot import Snapshot
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

    def blocks_to_show(self, difference: float) -> list[int | None]:
        """Blocks that show a difference, with the least and the largest likely noise; None: over
        256.
        """
        return [blocks_for(self.comparisons, sd, difference) for sd in (self.sd_low, self.sd_high)]


def forecast_validation(now: Snapshot, family: Family) -> ValidationForecast:
    """What a family's blocks can show. The noise is that of earlier validations, else of the
    search.
    """
    earlier = [result for result in now.validations if result.family.metric == family.metric]
    floor = now.noise.get(family.metric)
    seed_sd = (floor.seed_sd if floor else None) or TYPICAL_SEED_SD
    searched = (LEAST_OF_SEED_SD * seed_sd, MOST_OF_SEED_SD * seed_sd, 0)
    low, high, blocks = _block_noise(earlier) or searched
    comparisons = len(family.comparisons)
    return ValidationForecast(
        sd_low=low,
        sd_high=high,
        noise_blocks=blocks,
        comparisons=comparisons,
        detectable_low=detectable(comparisons, family.blocks, low),
        detectable_high=detectable(comparisons, family.blocks, high),
        total_s=now.training_s(family.blocks * len(family.networks) * family.epochs),
    )


def _block_noise(results: Sequence[ValidationResult]) -> tuple[float, float, int] | None:
    """80 % interval of the standard deviation of a block's difference, and the number of blocks;
    None without data.
    """
    squares = 0.0
    freedoms = 0
    judged = [result for result in results if result.verdicts]
    for result in judged:
        values = {key: np.array(row) for key, row in result.values.items()}
        pairs = result.family.comparisons
        differences = np.array([values[key] - values[control] for key, control in pairs])
        # comparisons share their blocks and networks: together they count as one
        own = differences.shape[1] - 1
        squares += own * float(differences.var(axis=1, ddof=1).mean())
        freedoms += own
    if squares <= 0:
        return None
    # here: it takes half a second to load
    from scipy.special import chdtri

    low, high = (math.sqrt(squares / float(chdtri(freedoms, share))) for share in (0.1, 0.9))
    return low, high, freedoms + len(judged)


def finalists(answer: Answer) -> list[TestedNetwork]:
    """The recommended network first, then the best uniform one; each once. If a control is
    recommended, the best placement is second; if the bare backbone is, the best bet, where it is
    promising or alone.
    """
    now = answer.now
    if answer.reason is None or now.bare is None:
        return []
    uniform = now.best_uniform
    taken = answer.taken
    first = now.bare if taken is None else taken.view
    networks = [TestedNetwork(first.key, first.placement, "recommended")]
    if answer.chosen is not None:
        view = answer.chosen.view
        networks.append(TestedNetwork(view.key, view.placement, "best placement"))
    elif answer.bet is not None:
        alone = uniform is None and (taken is None or taken.view.is_bare)
        if alone or promising(answer.bet.gain):
            view = answer.bet.view
            networks.append(TestedNetwork(view.key, view.placement, "best bet"))
    if uniform is not None:
        networks.append(TestedNetwork(uniform.key, uniform.placement, "best uniform"))
    return once_each(networks)


def once_each(networks: list[TestedNetwork]) -> list[TestedNetwork]:
    """Each network in its first role."""
    kept: dict[str, TestedNetwork] = {}
    for network in networks:
        kept.setdefault(network.key, network)
    return list(kept.values())


def runs_of_test(answer: Answer, *, also: str = "", blocks: int = 0) -> int:
    """Returns the trainings of a test of the finalists, the bare backbone included.

    Args:
        answer: of the study.
        also: key of a network that is tested, too.
        blocks: trainings of each network; 0: as many as the target says.
    """
    compared = finalists(answer)
    keys = {network.key for network in compared} | ({also} if also else set())
    bare_is_extra = all(network.placement != BARE for network in compared)
    return (len(keys) + bare_is_extra) * (blocks or answer.now.recipe.target.seeds)
