"""The contract of what proposes placements: `search.sampler`.

A row of `tables.SAMPLERS` names a function that makes a `Proposer` from a `Setting`, or one that
makes an Optuna sampler (`proposers.OfOptuna` then proposes with it). For example, one that tries a
single module everywhere, type by type:

    class OneType:
        def __init__(self, setting: Setting) -> None:
            self._space = setting.space
            self.optuna_sampler = RandomSampler(seed=setting.seed)

        def propose(self, turn: Turn) -> Proposal:
            for choice in sorted({c for choices in self._space.allowed.values() for c in choices}):
                values = {
                    site: choice if choice in choices else choices[0]
                    for site, choices in self._space.allowed.items()
                }
                if as_seen(values) not in turn.seen:
                    return Proposal(values)
            return Proposal()

with the row `Sampler("one_type", proposer="my_package.one_type:OneType")`.

- Only the worker that holds the scheduling lock proposes, in one thread. Any worker may be the next
  one to, so what is proposed depends on the setting and the study's trials alone.
- A proposal may repeat a placement, or leave the space. The study then takes an untried neighbour.
- An error that it raises ends the study's workers.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Protocol

from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_attn.searching.propose.history import Distributions
from nas_attn.searching.propose.placement_sampler import PlacementSampler
from nas_attn.searching.propose.untried import Seen
from nas_attn.space.search_space import SearchSpace, Values


@dataclass(frozen=True)
class Setting:
    """What a proposer is made from: the same in each worker of a study."""

    space: SearchSpace
    seed: int
    trials: int
    """The planned size of the study, its baselines included."""
    learned: PlacementSampler
    """The study's model of placements, with its prior."""
    without_prior: PlacementSampler | None
    """The same without its prior; None if it has none."""


@dataclass(frozen=True)
class Turn:
    """One trial that asks for a placement."""

    study: Study
    trial: FrozenTrial
    others: Sequence[FrozenTrial]
    """All other trials, in every state."""
    parameters: Distributions
    """Site -> its choices."""
    seen: Seen
    """The placements of the other trials."""
    random: random.Random
    """Of this trial: equal for equal studies."""


@dataclass(frozen=True)
class Proposal:
    """A placement to try."""

    values: Values = field(default_factory=dict)
    """Site -> choice; empty: any untried one."""
    by_prior: bool = False
    """Whether it would be another one without the prior."""


class Proposer(Protocol):
    """See the top of this file."""

    @property
    def optuna_sampler(self) -> BaseSampler:
        """Draws parameters that are not of the space, and is told of each trial's end."""

    def propose(self, turn: Turn) -> Proposal:
        """The next placement; it may repeat one, or leave the space."""
