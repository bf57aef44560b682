"""What the trials of an Optuna study say about its placements."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from optuna.distributions import BaseDistribution, CategoricalDistribution
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from nas_attn.model.coding import Codes, Coding, Names
from nas_attn.model.functions import Learner, Value
from nas_attn.searching.propose.halving import RUNG_ATTRIBUTE, signs_of
from nas_attn.storage.trial_book import FIXED, known_params

Space = dict[str, CategoricalDistribution]
Distributions = dict[str, BaseDistribution]
# a placement, as codes
Placed = tuple[int, ...]
# trials that must go on from a rung before its values predict final ones
FEWEST_GONE_ON = 3
# variance of a predicted value's noise, relative to a full run's
PREDICTED_VARIANCE = 4.0


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one trial's placement."""

    # one per objective, as the study counts them; None if it is not known
    values: tuple[float | None, ...]
    # one per objective: variance of its noise over that of a full run; empty: full runs
    noise: tuple[float, ...] = ()


# by the trials' numbers; a missing trial was tried, with no value
Evidence = Callable[[Study], Mapping[int, Known]]


def known_of_trials(study: Study) -> dict[int, Known]:
    """The values of complete trials; for others the last ones that `ParetoHalving` was given."""
    known: dict[int, Known] = {}
    brief: dict[int, dict[int, Sequence[float | None]]] = {}
    for trial in study.get_trials(deepcopy=False):
        if trial.state == TrialState.COMPLETE:
            known[trial.number] = Known(tuple(trial.values))
        rungs = {
            int(name.removeprefix(RUNG_ATTRIBUTE)): values
            for name, values in trial.user_attrs.items()
            if name.startswith(RUNG_ATTRIBUTE)
        }
        if rungs:
            brief[trial.number] = rungs
    return {**weak_values(brief, known), **known}


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
        place: statistics.median(gains)
        for place, gains in gained.items()
        if len(gains) >= FEWEST_GONE_ON
    }
    result = {}
    for number in brief.keys() - full.keys():
        last = max(brief[number])
        values = [
            None if value is None or (last, index) not in shift else value + shift[last, index]
            for index, value in enumerate(brief[number][last])
        ]
        result[number] = Known(tuple(values), (PREDICTED_VARIANCE,) * len(values))
    return result


class History:
    """Tried placements, their values, and the models learned from them. Depends on the trials
    alone, not on when they were read.
    """

    def __init__(self, key: object, space: Space, names: Names, primary: int) -> None:
        """Makes an empty history.

        Args:
            key: of the study and the space; each key needs its own history.
            space: site -> its choices.
            names: the name under which a choice shares its effect.
            primary: index of the objective that is sought.
        """
        self.key = key
        self._primary = primary
        self.coding = Coding({name: d.choices for name, d in space.items()}, names)
        # placements that were tried, are being tried, or wait
        self.tried: set[Placed] = set()
        # how many of the trials before the one that asks were proposed, and have ended
        self.proposals = 0
        # one per objective; all are minimised
        self.learners: list[Learner] = []
        # of each violated constraint, with the value not to be exceeded
        self.bounds: list[tuple[Learner, float]] = []
        # (n, sites), to be beaten
        self.standing: Codes = np.zeros((0, len(space)), dtype=np.intp)
        # proposed here, by trial: unfinished trials do not show it to other threads
        self.given: dict[int, Placed] = {}
        self._limits: dict[str, Learner] = {}

    def read(self, study: Study, number: int, known: Mapping[int, Known]) -> None:
        """Takes in the study as it is now, without trial `number`, which is asking."""
        others = [t for t in study.get_trials(deepcopy=False) if t.number != number]
        ended = [trial for trial in others if trial.state.is_finished()]
        open_numbers = {trial.number for trial in others} - {trial.number for trial in ended}
        placed = {
            trial.number: place for trial in others if (place := self._placed(trial)) is not None
        }
        self.tried = set(placed.values())
        self.proposals = sum(
            trial.number < number and bool(trial.params) and FIXED not in trial.system_attrs
            for trial in ended
        )
        excesses = {trial.number: trial.constraints for trial in ended if trial.constraints}
        violated = {n for n, values in excesses.items() if any(v > 0 for v in values.values())}
        standing = [
            place
            for n, place in placed.items()
            if (n in known or n in open_numbers) and n not in violated
        ]
        self.standing = np.array(standing, dtype=np.intp).reshape(-1, len(self.coding.sites))
        self._learn(signs_of(study), placed, known)
        self._learn_limits(placed, excesses)

    def _placed(self, trial: FrozenTrial) -> Placed | None:
        codes = self.coding.encode(known_params(trial))
        if codes is None and not trial.params:
            # proposed by another thread of this process, which has not told Optuna yet
            return self.given.get(trial.number)
        return codes

    def _learn(
        self, signs: Sequence[float], placed: Mapping[int, Placed], known: Mapping[int, Known]
    ) -> None:
        if not self.learners:
            self.learners = [
                Learner(self.coding, may_break=i == self._primary) for i in range(len(signs))
            ]
        for index, (sign, learner) in enumerate(zip(signs, self.learners, strict=True)):
            observed = {
                n: sign * value
                for n, what in known.items()
                if n in placed and (value := what.values[index]) is not None
            }
            # an infinite value, of a run that diverged, counts as the worst finite one
            worst = max(filter(math.isfinite, observed.values()), default=-math.inf)
            noise = {n: what.noise[index] for n, what in known.items() if what.noise}
            learner.update(
                {
                    n: Value(placed[n], min(value, worst), noise.get(n, 1.0))
                    for n, value in observed.items()
                    if min(value, worst) > -math.inf
                }
            )

    def _learn_limits(
        self, placed: Mapping[int, Placed], excesses: Mapping[int, Mapping[str, float]]
    ) -> None:
        names = sorted({name for of in excesses.values() for name, v in of.items() if v > 0})
        self.bounds = []
        columns = []
        for name in names:
            excess = {n: v[name] for n, v in excesses.items() if n in placed and name in v}
            rows = {n: Value(placed[n], v) for n, v in excess.items() if math.isfinite(v)}
            if len(set(excess.values())) < 2 or rows in columns:
                # constant, or equal to another one
                continue
            columns.append(rows)
            learner = self._limits.setdefault(name, Learner(self.coding))
            learner.update(rows)
            # an excess is allowed up to 0; what is only met (0) or not (1) is predicted between
            bound = 0.5 if set(excess.values()) == {0.0, 1.0} else 0.0
            self.bounds.append((learner, bound))
