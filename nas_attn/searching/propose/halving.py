"""Successive halving on several objectives, for any Optuna study."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from optuna.study import Study, StudyDirection
from optuna.trial import Trial

from nas_attn.answer.fronts import survives

RUNG_ATTRIBUTE = "nas_attn:rung:"


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
        self._eta = eta
        self._rungs = tuple(rungs)

    def report(self, trial: Trial, step: int, values: Sequence[float]) -> None:
        """Records a trial's objective values at a rung."""
        if step not in self._rungs:
            raise ValueError(f"step {step} is not a rung: the rungs are {list(self._rungs)}")
        if len(values) != len(trial.study.directions):
            raise ValueError(
                f"the study has {len(trial.study.directions)} objectives, not {len(values)}"
            )
        trial.set_user_attr(f"{RUNG_ATTRIBUTE}{step}", [float(v) for v in values])

    def should_prune(self, trial: Trial) -> bool:
        """Whether the trial is not among the best 1/eta at the last rung it reported."""
        reached = [rung for rung in self._rungs if f"{RUNG_ATTRIBUTE}{rung}" in trial.user_attrs]
        if not reached or reached[-1] == self._rungs[-1]:
            return False
        name = f"{RUNG_ATTRIBUTE}{reached[-1]}"
        told = {t.number: t.user_attrs for t in trial.study.get_trials(deepcopy=False)}
        told[trial.number] = trial.user_attrs
        signs = signs_of(trial.study)
        costs = {
            str(number): tuple(
                math.inf if math.isnan(value) else sign * value
                for sign, value in zip(signs, of[name], strict=True)
            )
            for number, of in told.items()
            if name in of
        }
        return not survives(costs, str(trial.number), self._eta)


def signs_of(study: Study) -> list[float]:
    return [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
