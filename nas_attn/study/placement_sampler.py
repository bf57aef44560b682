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
import statistics
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.random import Generator
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.samplers import BaseSampler, RandomSampler
from optuna.search_space import intersection_search_space
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from nas_attn.analysis.fronts import survives
from nas_attn.model.coding import Codes, Coding, Names, itself
from nas_attn.model.coding import Known as Effects
from nas_attn.model.functions import Learner, Value
from nas_attn.study.candidates import Allowed, Beliefs, proposals

ATTRIBUTE = "nas_attn:rung:"


class ParetoHalving:
    """Asynchronous successive halving on non-dominated rank (ASHA, Li et al. 2018; ranks as in
    MO-ASHA, 2106.12639): the best 1/eta of a rung go on. In an objective, `report` the values at
    each rung, then raise `optuna.TrialPruned` if `should_prune`. Rungs are kept in the trials' user
    attributes, so that all workers agree.
    """

    def __init__(self, eta: float = 3.0, rungs: Sequence[int] = (1, 3, 9)) -> None:
        """`rungs`: steps at which trials may be pruned, increasing; the last one prunes nobody."""
        if eta <= 1:
            raise ValueError(f"eta must be above 1, not {eta}")
        if not rungs or any(a >= b for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"rungs must increase, like [1, 3, 9], not {list(rungs)}")
        self._eta, self._rungs = eta, tuple(rungs)

    def report(self, trial: Trial, step: int, values: Sequence[float]) -> None:
        """Records a trial's objective values at a rung."""
        if step not in self._rungs:
            raise ValueError(f"step {step} is not a rung: the rungs are {list(self._rungs)}")
        if len(values) != len(trial.study.directions):
            raise ValueError(
                f"the study has {len(trial.study.directions)} objectives, not {len(values)}"
            )
        trial.set_user_attr(f"{ATTRIBUTE}{step}", [float(v) for v in values])

    def should_prune(self, trial: Trial) -> bool:
        """Whether the trial is not among the best 1/eta at the last rung it reported."""
        reached = [rung for rung in self._rungs if f"{ATTRIBUTE}{rung}" in trial.user_attrs]
        if not reached or reached[-1] == self._rungs[-1]:
            return False
        name = f"{ATTRIBUTE}{reached[-1]}"
        others = {
            t.number: t.user_attrs[name]
            for t in trial.study.get_trials(deepcopy=False)
            if name in t.user_attrs
        }
        others[trial.number] = trial.user_attrs[name]
        signs, costs = _signs(trial.study), dict[str, tuple[float, ...]]()
        for number, values in others.items():
            signed = zip(signs, values, strict=True)
            costs[str(number)] = tuple(math.inf if math.isnan(v) else s * v for s, v in signed)
        return not survives(costs, str(trial.number), self._eta)


def _signs(study: Study) -> list[float]:
    return [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]


Space = dict[str, CategoricalDistribution]
Distributions = dict[str, BaseDistribution]
Placed = tuple[int, ...]  # a placement, as codes
FEWEST = 3  # trials that must go on from a rung before its values predict final ones
WEAK = 4.0  # variance of a predicted value's noise, relative to a full run's


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one trial's placement."""

    values: tuple[
        float | None, ...
    ]  # one per objective, as the study counts them; None if it is not known
    noise: tuple[
        float, ...
    ] = ()  # one per objective: variance of its noise over that of a full run; empty: full runs


Evidence = Callable[
    [Study], Mapping[int, Known]
]  # by the trials' numbers; a missing trial was tried, with no value


def known_of_trials(study: Study) -> dict[int, Known]:
    """The values of complete trials; for others the last ones that `ParetoHalving` was given."""
    found: dict[int, Known] = {}
    brief: dict[int, dict[int, Sequence[float | None]]] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            found[trial.number] = Known(tuple(trial.values))
        told = {
            name: values for name, values in trial.user_attrs.items() if name.startswith(ATTRIBUTE)
        }
        rungs = {int(name.removeprefix(ATTRIBUTE)): values for name, values in told.items()}
        if rungs:
            brief[trial.number] = rungs
    return {**weak_values(brief, found), **found}


def weak_values(
    brief: Mapping[int, Mapping[int, Sequence[float | None]]], full: Mapping[int, Known]
) -> dict[int, Known]:
    """Predicted final values of pruned trials: those of their last rung, plus the median gain of
    the trials that went on from it.
    `brief`: number -> rung -> values there; `full`: number -> values of the finished ones.
    """
    gained: dict[tuple[int, int], list[float]] = {}
    for number in brief.keys() & full.keys():
        for rung, values in brief[number].items():
            for index, (early, late) in enumerate(zip(values, full[number].values, strict=True)):
                if early is not None and late is not None and math.isfinite(late - early):
                    gained.setdefault((rung, index), []).append(late - early)
    shift = {
        place: statistics.median(found) for place, found in gained.items() if len(found) >= FEWEST
    }
    result = {}
    for number in brief.keys() - full.keys():
        last = max(brief[number])
        values = [
            None if value is None or (last, index) not in shift else value + shift[last, index]
            for index, value in enumerate(brief[number][last])
        ]
        result[number] = Known(tuple(values), (WEAK,) * len(values))
    return result


class History:
    """Tried placements, their values, and the models learned from them. Depends on the trials
    alone, not on when they were read.
    """

    def __init__(
        self, key: object, space: Space, names: Names, primary: int, known: Effects
    ) -> None:
        """`key`: of the study and the space; each key needs its own history. `known`: effects on
        the primary objective.
        """
        self.key, self._primary, self._known = key, primary, known
        self.coding = Coding({name: d.choices for name, d in space.items()}, names)
        self.tried: set[Placed] = set()  # placements that were tried, are being tried, or wait
        self.learners: list[Learner] = []  # one per objective; all are minimised
        self.bounds: list[
            tuple[Learner, float]
        ] = []  # of each violated constraint, with the value not to be exceeded
        self.standing: Codes = np.zeros((0, len(space)), dtype=np.intp)  # (n, sites), to be beaten
        self.given: dict[
            int, Placed
        ] = {}  # proposed here, by trial: unfinished trials do not show it to other threads
        self._codes: dict[int, Placed | None] = {}
        self._proposed: dict[int, bool] = {}
        self._constraints: dict[int, Mapping[str, float]] = {}
        self._limits: dict[str, Learner] = {}
        self._values: dict[tuple[object, int], Value] = {}

    def proposals_before(self, number: int) -> int:
        """How many trials before this one were proposals."""
        return sum(n < number and proposed for n, proposed in self._proposed.items())

    def read(self, study: Study, number: int, known: Mapping[int, Known]) -> None:
        """Takes in the study as it is now, without trial `number`, which is asking."""
        under_way: list[int] = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number != number and trial.number not in self._codes:
                if not trial.state.is_finished():
                    under_way.append(trial.number)
                self._read_trial(trial)
        placed = {n: codes for n, codes in sorted(self._codes.items()) if codes is not None}
        self.tried = set(placed.values())
        violated = {
            n for n, values in self._constraints.items() if any(v > 0 for v in values.values())
        }
        standing = [
            c for n, c in placed.items() if (n in known or n in under_way) and n not in violated
        ]
        self.standing = np.array(standing, dtype=np.intp).reshape(
            len(standing), len(self.coding.sites)
        )
        self._learn(study, placed, known)
        self._learn_limits(placed, violated)
        for n in under_way:  # unfinished trials may change
            del self._codes[n], self._proposed[n]
            self._constraints.pop(n, None)

    def _read_trial(self, trial: FrozenTrial) -> None:
        fixed = trial.system_attrs.get("fixed_params", {})
        codes = self.coding.encode({**fixed, **trial.params})
        self._codes[trial.number] = (
            self.given.get(trial.number) if codes is None and not trial.params else codes
        )
        self._proposed[trial.number] = bool(trial.params) and not fixed
        if trial.constraints and trial.state.is_finished():
            self._constraints[trial.number] = trial.constraints

    def _learn(
        self, study: Study, placed: Mapping[int, Placed], known: Mapping[int, Known]
    ) -> None:
        signs = _signs(study)
        if not self.learners:
            codings = [self.coding] * len(signs)
            codings[self._primary] = self.coding.knowing(self._known)
            self.learners = [
                Learner(coding, may_break=i == self._primary) for i, coding in enumerate(codings)
            ]
        for index, (sign, learner) in enumerate(zip(signs, self.learners, strict=True)):
            found: dict[int, tuple[float, float]] = {}
            for n, what in known.items():
                value = what.values[index] if n in placed else None
                if value is not None and not math.isnan(value):
                    found[n] = sign * value, what.noise[index] if what.noise else 1.0
            worst = max(
                (value for value, _ in found.values() if math.isfinite(value)), default=None
            )
            rows = {
                n: self._value((index, n), placed[n], min(value, worst), noise)
                for n, (value, noise) in found.items()
                if worst is not None and value > -math.inf
            }
            learner.update(rows)

    def _learn_limits(self, placed: Mapping[int, Placed], violated: set[int]) -> None:
        names = sorted(
            {name for n in violated for name, v in self._constraints[n].items() if v > 0}
        )
        self.bounds, columns = [], set()
        for name in names:
            found = {n: v[name] for n, v in self._constraints.items() if n in placed and name in v}
            rows = {
                n: self._value((name, n), placed[n], v, 1.0)
                for n, v in found.items()
                if math.isfinite(v)
            }
            column = tuple(rows.items())
            if (
                len(set(found.values())) < 2 or column in columns
            ):  # constant, or equal to another one
                continue
            columns.add(column)
            learner = self._limits.setdefault(name, Learner(self.coding))
            learner.update(rows)
            self.bounds.append((learner, 0.5 if set(found.values()) == {0.0, 1.0} else 0.0))

    def _value(self, place: tuple[object, int], codes: Placed, value: float, noise: float) -> Value:
        """The same object for the same value, so that the learner sees what has changed."""
        known = self._values.get(place)
        if known is None or known.value != value or known.noise != noise or known.codes != codes:
            known = self._values[place] = Value(codes, value, noise)
        return known


BY_NOBODY = -1  # the number of no trial
START = (
    5  # values that an objective needs to be modelled; before that, placements are drawn at random
)
# the first so many proposals, then every second one, are the best below costs drawn at random
LIMITED = 8
# one proposal in so many follows a function drawn from the posterior: it may correct bad luck
EXPLORING = 3
RANDOM_TRIES = 30
DRAWS = 30  # functions that say how many untried placements are within the limits
FEWEST_LEFT = 0.5  # while there are so many, a search goes on
LISTED = 20_000  # largest space that is searched one by one for an untried placement


class PlacementSampler(BaseSampler):
    """Proposes values of categorical parameters, the same for equal seeds and histories; others are
    drawn at random. Optuna's constraints (`trial.set_constraint`) are learned like objectives.
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
        prior: Effects | None = None,
    ) -> None:
        """`space`: parameter -> choices; None: those that trials have had. At most `at_most`
        parameters have a choice that is not in `free`. Choices that share a name by `names` share
        an effect. `primary`: index of the objective that is sought; the others are its costs.
        `prior`: parameter -> choice -> what it is expected to do to that objective (more being
        better; in any unit: the values say how much of it holds, and may turn it round).
        """
        self._seed = secrets.randbits(31) if seed is None else seed
        self._space = (
            None if space is None else {name: tuple(choices) for name, choices in space.items()}
        )
        self._at_most, self._free, self._names, self._primary = at_most, tuple(free), names, primary
        self._evidence, self._known = evidence, prior or {}
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

    def reseed_rng(self) -> None:
        self._random.reseed_rng()

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> Distributions:
        """The given space, else the categorical parameters that all trials so far have had."""
        if self._space is not None:
            return {name: CategoricalDistribution(choices) for name, choices in self._space.items()}
        described = [other for other in study.get_trials(deepcopy=False) if other.params]
        found = intersection_search_space(described, include_pruned=True)
        return {name: d for name, d in found.items() if isinstance(d, CategoricalDistribution)}

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: Distributions
    ) -> dict[str, Any]:
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
        found = self.propose(study, trial, space, again=True)
        assert found is not None
        return {**found, **others}

    def propose(
        self, study: Study, trial: FrozenTrial, space: Space, *, again: bool = False
    ) -> dict[str, Any] | None:
        """A placement that was not tried and does not wait. If there is none: None, or with `again`
        one that was tried.
        """
        rng = np.random.default_rng([self._seed, trial.number])
        with self._lock:
            history = self._read(study, trial.number, space)
            allowed = self._allowed(history.coding)
            chosen = self._choose(history, allowed, trial.number, rng, again)
            if chosen is None:
                return None
            history.given[trial.number] = chosen
            return history.coding.decode(chosen)

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
            for _ in range(DRAWS):
                drawn = [
                    learner.draw(rng, around=True).of(left) <= bound for learner, bound in bounds
                ]
                within += int(np.all(drawn, axis=0).sum())
            return within < FEWEST_LEFT * DRAWS

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
            self._history = History(key, space, self._names, self._primary, self._known)
        self._history.read(study, number, self._evidence(study))
        return self._history

    def _choose(
        self, history: History, allowed: Allowed, number: int, rng: Generator, again: bool
    ) -> Placed | None:
        first = None
        for codes in self._ranked(history, allowed, number, rng):
            if codes not in history.tried:
                return codes
            first = first or codes
        unseen = _unseen(allowed, history, rng)
        return unseen or (first or allowed.random(rng) if again else None)

    def _ranked(
        self, history: History, allowed: Allowed, number: int, rng: Generator
    ) -> Iterator[Placed]:
        """Placements, the most promising first, tried ones included; none while too little is
        known.
        """
        learners = history.learners
        modelled = [i for i, learner in enumerate(learners) if learner.count >= START]
        if self._primary not in modelled or not len(history.standing):
            return
        before = history.proposals_before(number)
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
        codes
        for codes in (allowed.random(rng) for _ in range(RANDOM_TRIES))
        if codes not in history.tried
    ]
    if drawn:
        over = np.zeros(len(drawn))
        for learner, bound in history.bounds:
            over += np.maximum(learner.draw(rng, around=False).of(np.array(drawn)) - bound, 0.0)
        return drawn[int(np.argmin(over))]
    left = _untried(allowed, history)
    return tuple(left[int(rng.integers(len(left)))].tolist()) if len(left) else None


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
