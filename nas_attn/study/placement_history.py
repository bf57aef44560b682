"""A study's trials as the placement model takes them, kept from one proposal to the next."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import CategoricalDistribution
from optuna.study import Study, StudyDirection
from optuna.trial import FrozenTrial, TrialState

from nas_attn.model.coding import Codes, Coding, Names
from nas_attn.model.learner import Learner, Value
from nas_attn.study.pruning import ATTRIBUTE

Space = dict[str, CategoricalDistribution]
FEWEST = 3
"""Trials that went on from a rung, from which on what others had there says something of where they would have ended."""
WEAK = 4.0
"""Variance of such a value's noise over that of a full run."""


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one trial's placement."""

    values: tuple[float | None, ...]
    """One per objective, as the study counts them; None where it is not known."""
    noise: tuple[float, ...] = ()
    """One per objective: variance of its noise over that of a full run; empty: full runs."""


Evidence = Callable[[Study], Mapping[int, Known]]
"""Study -> what is known, by the trials' numbers. Trials that it leaves out are tried, with nothing known."""


def known_of_trials(study: Study) -> dict[int, Known]:
    """What the trials hold: the values of complete ones, and of others what `ParetoHalving` was told of them last."""
    found: dict[int, Known] = {}
    brief: dict[int, dict[int, Sequence[float | None]]] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            found[trial.number] = Known(tuple(trial.values))
        rungs = {
            int(name.removeprefix(ATTRIBUTE)): v for name, v in trial.user_attrs.items() if name.startswith(ATTRIBUTE)
        }
        if rungs:
            brief[trial.number] = rungs
    return {**weak_values(brief, found), **found}


def weak_values(
    brief: Mapping[int, Mapping[int, Sequence[float | None]]], full: Mapping[int, Known]
) -> dict[int, Known]:
    """Weak values of trials that did not come to their end, from the last rung that they reached.

    A value at a rung is moved by the median of what those that went on from it still gained.

    Args:
        brief: number -> rung -> values there.
        full: number -> what is known of those that came to their end.
    """
    gained: dict[tuple[int, int], list[float]] = {}
    for number in brief.keys() & full.keys():
        for rung, values in brief[number].items():
            for index, (early, late) in enumerate(zip(values, full[number].values, strict=True)):
                if early is not None and late is not None and math.isfinite(late - early):
                    gained.setdefault((rung, index), []).append(late - early)
    shift = {place: statistics.median(found) for place, found in gained.items() if len(found) >= FEWEST}
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
    """What is tried, what is known of it, and what is learned from that: a function of the trials, however it came about."""

    def __init__(self, key: object, space: Space, names: Names) -> None:
        """Args:
        key: of the study and the space; another one needs a history of its own.
        """
        self.key = key
        self.coding = Coding({name: d.choices for name, d in space.items()}, names)
        self.tried: set[tuple[int, ...]] = set()
        """Placements that were tried, are being tried, or wait."""
        self.learners: list[Learner] = []
        """One per objective; all are minimised."""
        self.bounds: list[tuple[Learner, float]] = []
        """For each constraint that some trial violated: what is known of it, and the value that it must not exceed."""
        self.standing: Codes = np.zeros((0, len(space)), dtype=np.intp)
        """(n, sites): the placements that others have to do better than: those with values, and those under way."""
        self.given: dict[int, tuple[int, ...]] = {}
        """What was proposed here, by trial: threads that ask at once do not see each other's parameters yet."""
        self._codes: dict[int, tuple[int, ...] | None] = {}
        self._proposed: dict[int, bool] = {}
        self._constraints: dict[int, Mapping[str, float]] = {}
        self._limits: dict[str, Learner] = {}
        self._values: dict[tuple[object, int], Value] = {}

    def proposals_before(self, number: int) -> int:
        """Trials before this one whose placement was not set beforehand."""
        return sum(n < number and proposed for n, proposed in self._proposed.items())

    def read(self, study: Study, number: int, known: Mapping[int, Known]) -> None:
        """Takes in the study as it is now, but for trial `number`, which is asking."""
        under_way: list[int] = []
        for trial in study.get_trials(deepcopy=False):
            if trial.number != number and trial.number not in self._codes:
                if not trial.state.is_finished():
                    under_way.append(trial.number)
                self._read_trial(trial)
        placed = {n: codes for n, codes in sorted(self._codes.items()) if codes is not None}
        self.tried = set(placed.values())
        violated = {n for n, values in self._constraints.items() if any(v > 0 for v in values.values())}
        standing = [c for n, c in placed.items() if (n in known or n in under_way) and n not in violated]
        self.standing = np.array(standing, dtype=np.intp).reshape(len(standing), len(self.coding.sites))
        self._learn(study, placed, known)
        self._learn_limits(placed, violated)
        for n in under_way:  # they may change
            del self._codes[n], self._proposed[n]
            self._constraints.pop(n, None)

    def _read_trial(self, trial: FrozenTrial) -> None:
        fixed = trial.system_attrs.get("fixed_params", {})
        codes = self.coding.encode({**fixed, **trial.params})
        self._codes[trial.number] = self.given.get(trial.number) if codes is None and not trial.params else codes
        self._proposed[trial.number] = bool(trial.params) and not fixed
        if trial.constraints and trial.state.is_finished():
            self._constraints[trial.number] = trial.constraints

    def _learn(self, study: Study, placed: Mapping[int, tuple[int, ...]], known: Mapping[int, Known]) -> None:
        signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
        self.learners = self.learners or [Learner(self.coding) for _ in signs]
        for index, (sign, learner) in enumerate(zip(signs, self.learners, strict=True)):
            found: dict[int, tuple[float, float]] = {}
            for n, what in known.items():
                value = what.values[index] if n in placed else None
                if value is not None and not math.isnan(value):
                    found[n] = sign * value, what.noise[index] if what.noise else 1.0
            worst = max((value for value, _ in found.values() if math.isfinite(value)), default=None)
            rows = {
                n: self._value((index, n), placed[n], min(value, worst), noise)
                for n, (value, noise) in found.items()
                if worst is not None and value > -math.inf
            }
            learner.update(rows)

    def _learn_limits(self, placed: Mapping[int, tuple[int, ...]], violated: set[int]) -> None:
        names = sorted({name for n in violated for name, v in self._constraints[n].items() if v > 0})
        self.bounds, columns = [], set()
        for name in names:
            found = {n: v[name] for n, v in self._constraints.items() if n in placed and name in v}
            rows = {n: self._value((name, n), placed[n], v, 1.0) for n, v in found.items() if math.isfinite(v)}
            column = tuple(rows.items())
            if len(set(found.values())) < 2 or column in columns:  # says nothing, or what another one has said
                continue
            columns.add(column)
            learner = self._limits.setdefault(name, Learner(self.coding))
            learner.update(rows)
            self.bounds.append((learner, 0.5 if set(found.values()) == {0.0, 1.0} else 0.0))

    def _value(self, place: tuple[object, int], codes: tuple[int, ...], value: float, noise: float) -> Value:
        """The same object for the same value: the learner sees by that what has changed."""
        known = self._values.get(place)
        if known is None or known.value != value or known.noise != noise or known.codes != codes:
            known = self._values[place] = Value(codes, value, noise)
        return known
