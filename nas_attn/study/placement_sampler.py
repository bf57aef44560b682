"""A sampler for choices made at many places, under noise, for several objectives. It works with any Optuna study.

    study = optuna.create_study(directions=["maximize", "minimize"], sampler=PlacementSampler(seed=0))

    def objective(trial):
        types = [trial.suggest_categorical(f"stage{k}", ["none", "se", "eca"]) for k in (1, 2, 3, 4)]
        return accuracy(types), latency_ms(types)

Each objective is learned by the model of placements (`nas_attn.model`). Of the changes of what looks best, the sampler proposes
the one that would move the front most, or the best one below a random cost limit. Every third proposal goes by a function drawn
from the posterior instead of its mean. No placement comes twice. Comparison with other samplers: docs/benchmarks/search.md.
"""

from __future__ import annotations

import itertools
import math
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial

from nas_attn.model.coding import Coding, Names, itself
from nas_attn.model.proposals import Allowed, Beliefs, proposals
from nas_attn.study.placement_history import Evidence, History, Space, known_of_trials

START = 5
"""Values of an objective from which on it is modelled; until the first one is, placements are drawn at random."""
LIMITED = 8
"""So many proposals, and every second one after, are the best below costs drawn at random."""
EXPLORING = 3
"""Every so-manieth proposal goes by a function drawn from the posterior instead of its mean, so that bad luck is found out."""
RANDOM_TRIES = 30
LISTED = 20_000
"""Placements of a space that is gone through one by one where random ones have all been tried."""


class PlacementSampler(BaseSampler):
    """Proposes values of categorical parameters; others are drawn at random.

    Equal seeds and equal histories give equal proposals, also after a restart and in another process. Constraints of
    Optuna (`trial.set_constraint`) are learned like objectives. When every placement has been tried, they are repeated.
    """

    def __init__(
        self,
        *,
        seed: int | None = None,
        space: Mapping[str, Sequence[Any]] | None = None,
        at_most: int | None = None,
        free: Collection[Any] = ("none",),
        names: Names = itself,
        primary: int = 0,
        evidence: Evidence = known_of_trials,
    ) -> None:
        """Args:
        space: parameter -> the choices that may be proposed; None: those that the study's trials have had so far. Until
            one of these is complete, parameters are then drawn at random, and may repeat.
        at_most: parameters with a choice that is not in `free`, at most; None: any number.
        names: of a choice; choices that share one share an effect, at all parameters alike.
        primary: index of the objective that is sought; the others are what it costs.
        evidence: what is known of the trials.
        """
        self._seed = secrets.randbits(31) if seed is None else seed
        self._space = None if space is None else {name: tuple(choices) for name, choices in space.items()}
        self._at_most, self._free, self._names, self._primary = at_most, tuple(free), names, primary
        self._evidence = evidence
        self._random = RandomSampler(seed=self._seed)
        self._history: History | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Without what is made again when it is needed."""
        return {name: value for name, value in self.__dict__.items() if name not in ("_history", "_lock")}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _history=None, _lock=threading.Lock())

    def reseed_rng(self) -> None:
        """For parameters that are drawn at random; the rest differs from trial to trial by the trials' numbers."""
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """The space that was given, else the categorical parameters that all trials so far have had."""
        if self._space is not None:
            return {name: CategoricalDistribution(choices) for name, choices in self._space.items()}
        described = [other for other in study.get_trials(deepcopy=False) if other.params]
        found = intersection_search_space(described, include_pruned=True)
        return {name: d for name, d in found.items() if isinstance(d, CategoricalDistribution)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """One placement."""
        space = {name: d for name, d in search_space.items() if isinstance(d, CategoricalDistribution)}
        others = {
            name: self._random.sample_independent(study, trial, name, d)
            for name, d in search_space.items()
            if name not in space
        }
        if not space:
            return others
        found = self.propose(study, trial, space, again=True)
        assert found is not None
        return {**found, **others}

    def propose(self, study: Study, trial: FrozenTrial, space: Space, *, again: bool = False) -> dict[str, Any] | None:
        """A placement that was not tried and does not wait. Where there is none: None, or `again` one that was."""
        rng = np.random.default_rng([self._seed, trial.number])
        with self._lock:
            history = self._read(study, trial, space)
            allowed = self._allowed(history.coding)
            chosen = self._choose(history, allowed, trial.number, rng, again)
            if chosen is None:
                return None
            history.given[trial.number] = chosen
            return history.coding.decode(chosen)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """At random: for parameters that are not categorical, and before the first trial is finished."""
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    # ---------------------------------------------------------------- inside

    def _read(self, study: Study, trial: FrozenTrial, space: Space) -> History:
        key = study.study_name, tuple((name, d.choices) for name, d in space.items())
        if self._history is None or self._history.key != key:
            self._history = History(key, space, self._names)
        self._history.read(study, trial.number, self._evidence(study))
        return self._history

    def _choose(
        self, history: History, allowed: Allowed, number: int, rng: np.random.Generator, again: bool
    ) -> tuple[int, ...] | None:
        """The first of the ranked placements that was not tried, else any such."""
        first = None
        for codes in self._ranked(history, allowed, number, rng):
            if codes not in history.tried:
                return codes
            first = first or codes
        unseen = _unseen(allowed, history, rng)
        return unseen or (first or allowed.random(rng) if again else None)

    def _ranked(
        self, history: History, allowed: Allowed, number: int, rng: np.random.Generator
    ) -> Iterator[tuple[int, ...]]:
        """Placements, what to try first first; those that were tried may be among them. None while too little is known."""
        learners = history.learners
        modelled = [i for i, learner in enumerate(learners) if learner.count >= START]
        if self._primary not in modelled or not len(history.standing):
            return
        before = history.proposals_before(number)
        around = before % EXPLORING == EXPLORING - 1
        beliefs = Beliefs(
            functions=[learners[i].draw(rng, around=around and i == self._primary) for i in modelled],
            bounds=[(learner.draw(rng, around=False), bound) for learner, bound in history.bounds],
            primary=modelled.index(self._primary),
        )
        by_limit = before < LIMITED or before % 2 == 0
        yield from proposals(beliefs, history.standing, allowed, rng, by_limit=by_limit)

    def _allowed(self, coding: Coding) -> Allowed:
        choices = np.zeros((len(coding.sites), coding.most_choices), dtype=bool)
        free = np.zeros_like(choices)
        for s, (site, values) in enumerate(coding.sites.items()):
            wanted = values if self._space is None else self._space.get(site, values)
            choices[s, : len(values)] = [value in wanted for value in values]
            free[s, : len(values)] = [value in self._free for value in values]
        limited = self._at_most is not None and self._at_most < len(choices)
        return Allowed(choices, free, self._at_most if limited else None)


def _unseen(allowed: Allowed, history: History, rng: np.random.Generator) -> tuple[int, ...] | None:
    """A placement that was not tried, at random, if possible one that keeps the limits as far as they are known.

    None where there is none, or none is found in a large space.
    """
    drawn = [codes for codes in (allowed.random(rng) for _ in range(RANDOM_TRIES)) if codes not in history.tried]
    if drawn:
        over = np.zeros(len(drawn))
        for learner, bound in history.bounds:
            over += np.maximum(learner.draw(rng, around=False).of(np.array(drawn)) - bound, 0.0)
        return drawn[int(np.argmin(over))]
    options = [np.flatnonzero(site).tolist() for site in allowed.choices]
    if math.prod(map(len, options)) > LISTED + 10 * len(history.tried):
        return None
    listed = np.array(list(itertools.product(*options)), dtype=np.intp)
    left = [codes for codes in map(tuple, listed[allowed.holds(listed)].tolist()) if codes not in history.tried]
    return left[int(rng.integers(len(left)))] if left else None
