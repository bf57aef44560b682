"""A sampler for choices made at many places, under noise, for several objectives. It works with any
Optuna study.

    study = optuna.create_study(directions=["maximize", "minimize"],
    sampler=PlacementSampler(seed=0))

    def objective(trial):
        types = [trial.suggest_categorical(f"stage{k}", ["none", "se", "eca"]) for k in (1, 2, 3,
        4)] return accuracy(types), latency_ms(types)

Each objective is learned by the model of placements (`nas_attn.model`). Of the changes of what
looks best, it proposes the one that would move the front most, or the best one below a random cost
limit. Comparison: docs/benchmarks/search.md
"""

from __future__ import annotations

import itertools
import math
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.random import Generator
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study
from optuna.trial import FrozenTrial
from typing_extensions import override

from nas_attn.model.coding import Codes, Coding, Names, itself
from nas_attn.searching.propose.candidates import Allowed, Beliefs, proposals
from nas_attn.searching.propose.history import (
    Distributions,
    Evidence,
    History,
    Placed,
    Space,
    known_of_trials,
)

# the number of no trial
BY_NOBODY = -1
# values that an objective needs to be modelled; before that, placements are drawn at random
START = 5
# the first so many proposals, then every second one, are the best below costs drawn at random
LIMITED = 8
# one proposal in so many follows a function drawn from the posterior: it may correct bad luck
EXPLORING = 3
# functions that say how many untried placements are within the limits
FEASIBILITY_DRAWS = 30
# while there are so many, a search goes on
FEWEST_LEFT = 0.5
# random placements that are looked at; then all of a small space are
RANDOM_TRIES = 30
# largest space that is searched one by one for an untried placement
LISTED = 20_000


class PlacementSampler(BaseSampler):
    """Proposes values of categorical parameters, the same for equal seeds and histories; others are
    drawn at random. Optuna's constraints (`trial.set_constraint`) are learned like objectives.
    """

    def __init__(  # noqa: PLR0913 - a public class: each is a setting, given by its name
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
        """Makes a sampler for `optuna.create_study`.

        Args:
            seed: of all draws; None: another one each time.
            space: parameter -> choices; None: those that trials have had.
            at_most: parameters that may have a choice that is not in `free`; None: any number.
            free: choices that do not count towards `at_most`.
            names: the name under which a choice shares its effect with others.
            primary: index of the objective that is sought; the others are its costs.
            evidence: what is known of the trials' values.
        """
        self._seed = secrets.randbits(31) if seed is None else seed
        self._space = (
            None if space is None else {name: tuple(choices) for name, choices in space.items()}
        )
        self._at_most = at_most
        self._free = tuple(free)
        self._names = names
        self._primary = primary
        self._evidence = evidence
        self._random = RandomSampler(seed=self._seed)
        self._history: History | None = None
        self._lock = threading.Lock()

    def __getstate__(self) -> dict[str, Any]:
        """Leaves out what is rebuilt when needed."""
        return {
            name: value
            for name, value in self.__dict__.items()
            if name not in ("_history", "_lock")
        }

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state, _history=None, _lock=threading.Lock())

    @override
    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    @override
    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The given space, else the categorical parameters that all trials so far have had."""
        if self._space is not None:
            return {name: CategoricalDistribution(choices) for name, choices in self._space.items()}
        described = [other for other in study.get_trials(deepcopy=False) if other.params]
        common = intersection_search_space(described, include_pruned=True)
        return {name: d for name, d in common.items() if isinstance(d, CategoricalDistribution)}

    @override
    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, Any]:
        """A placement that was not tried and does not wait; any if nothing else is left."""
        space = {
            name: d for name, d in search_space.items() if isinstance(d, CategoricalDistribution)
        }
        others = {
            name: self._random.sample_independent(study, trial, name, d)
            for name, d in search_space.items()
            if name not in space
        }
        if not space:
            return others
        rng = np.random.default_rng([self._seed, trial.number])
        with self._lock:
            history = self._read(study, trial.number, space)
            chosen = self._choose(history, self._allowed(history.coding), rng)
            history.given[trial.number] = chosen
            return {**history.coding.decode(chosen), **others}

    def none_within(self, study: Study, space: Space) -> bool:
        """Whether hardly one untried placement is within the constraints, as learned from the tried
        ones. False in a large space.
        """
        rng = np.random.default_rng([self._seed, len(study.get_trials(deepcopy=False))])
        with self._lock:
            history = self._read(study, BY_NOBODY, space)
            left = _untried(self._allowed(history.coding), history)
            bounds = [
                (learner, bound) for learner, bound in history.bounds if learner.count >= START
            ]
            if not bounds or not len(left):
                return False
            within = 0
            for _ in range(FEASIBILITY_DRAWS):
                drawn = [
                    learner.draw(rng, around=True).of(left) <= bound for learner, bound in bounds
                ]
                within += int(np.all(drawn, axis=0).sum())
            return within < FEWEST_LEFT * FEASIBILITY_DRAWS

    @override
    def sample_independent(
        self,
        study: Study,
        trial: FrozenTrial,
        param_name: str,
        param_distribution: BaseDistribution,
    ) -> Any:
        return self._random.sample_independent(study, trial, param_name, param_distribution)

    def _read(self, study: Study, number: int, space: Space) -> History:
        key = study.study_name, tuple((name, d.choices) for name, d in space.items())
        if self._history is None or self._history.key != key:
            self._history = History(key, space, self._names, self._primary)
        self._history.read(study, number, self._evidence(study))
        return self._history

    def _choose(self, history: History, allowed: Allowed, rng: Generator) -> Placed:
        first = None
        for codes in self._ranked(history, allowed, rng):
            if codes not in history.tried:
                return codes
            first = first or codes
        return _unseen(allowed, history, rng) or first or allowed.random(rng)

    def _ranked(self, history: History, allowed: Allowed, rng: Generator) -> Iterator[Placed]:
        """Placements, the most promising first, tried ones included; none while too little is
        known.
        """
        learners = history.learners
        modelled = [i for i, learner in enumerate(learners) if learner.count >= START]
        if self._primary not in modelled or not len(history.standing):
            return
        before = history.proposals
        around = before % EXPLORING == EXPLORING - 1
        beliefs = Beliefs(
            functions=[
                learners[i].draw(rng, around=around and i == self._primary) for i in modelled
            ],
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


def _unseen(allowed: Allowed, history: History, rng: Generator) -> Placed | None:
    """A random untried placement, if possible within the known limits; None if there is none, or
    none is found in a large space.
    """
    drawn = [
        codes for _ in range(RANDOM_TRIES) if (codes := allowed.random(rng)) not in history.tried
    ]
    if drawn:
        over = np.zeros(len(drawn))
        for learner, bound in history.bounds:
            over += np.maximum(learner.draw(rng, around=False).of(np.array(drawn)) - bound, 0.0)
        return drawn[int(np.argmin(over))]
    left = _untried(allowed, history)
    if len(left):
        return tuple(left[int(rng.integers(len(left)))].tolist())
    return None


def _untried(allowed: Allowed, history: History) -> Codes:
    """(n, sites) all untried placements of a space that is small enough to list; none of a larger
    one.
    """
    options = [np.flatnonzero(site).tolist() for site in allowed.choices]
    if math.prod(map(len, options)) > LISTED + 10 * len(history.tried):
        return np.zeros((0, len(options)), dtype=np.intp)
    listed = np.array(list(itertools.product(*options)), dtype=np.intp)
    listed = listed[allowed.holds(listed)]
    return listed[[tuple(codes) not in history.tried for codes in listed.tolist()]]
