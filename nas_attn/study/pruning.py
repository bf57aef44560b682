"""Pruning with several objectives, which Optuna itself does not have.

`ParetoHalving` works with any Optuna study of one or more objectives:

    halving = ParetoHalving(eta=3, rungs=[1, 3, 9])

    def objective(trial):
        for epochs in (1, 3, 9):
            accuracy = train_to(epochs)
            halving.report(trial, epochs, [accuracy, latency_ms])
            if halving.should_prune(trial):
                raise optuna.TrialPruned
        return accuracy, latency_ms

Rungs are kept in the trials' user attributes, so that workers on many machines see them and agree.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

from optuna.study import Study, StudyDirection
from optuna.trial import Trial

from nas_attn.analysis.halving import survives

ATTRIBUTE = "nas_attn:rung:"


class ParetoHalving:
    """Asynchronous successive halving on non-dominated rank (ASHA, Li et al. 2018; ranks as in MO-ASHA, 2106.12639).

    At a rung, all trials that reached it are sorted by non-domination, within a front by hypervolume contribution; the
    best 1/eta go on.
    """

    def __init__(self, eta: float = 3.0, rungs: Sequence[int] = (1, 3, 9)) -> None:
        """Args:
            eta: of the trials at a rung, the best 1/eta go on.
            rungs: steps at which trials may be pruned, increasing; the last one prunes nobody.

        Raises:
            ValueError: eta is not above 1, or the rungs do not increase.
        """
        if eta <= 1:
            raise ValueError(f"eta must be above 1, not {eta}")
        if not rungs or any(a >= b for a, b in itertools.pairwise(rungs)):
            raise ValueError(f"rungs must increase, like [1, 3, 9], not {list(rungs)}")
        self._eta, self._rungs = eta, tuple(rungs)

    def report(self, trial: Trial, step: int, values: Sequence[float]) -> None:
        """Records a trial's objective values at a step.

        Raises:
            ValueError: the step is no rung, or there are not as many values as the study has directions.
        """
        if step not in self._rungs:
            raise ValueError(f"step {step} is no rung: the rungs are {list(self._rungs)}")
        if len(values) != len(trial.study.directions):
            raise ValueError(f"the study has {len(trial.study.directions)} objectives, not {len(values)}")
        trial.set_user_attr(f"{ATTRIBUTE}{step}", [float(v) for v in values])

    def should_prune(self, trial: Trial) -> bool:
        """Whether the trial is not among the best 1/eta at the last rung it reported."""
        reached = [rung for rung in self._rungs if f"{ATTRIBUTE}{rung}" in trial.user_attrs]
        if not reached or reached[-1] == self._rungs[-1]:
            return False
        name = f"{ATTRIBUTE}{reached[-1]}"
        others = {t.number: t.user_attrs[name] for t in trial.study.get_trials(deepcopy=False) if name in t.user_attrs}
        others[trial.number] = trial.user_attrs[name]
        pairs = {str(number): minimised(trial.study, values) for number, values in others.items()}
        return not survives(pairs, str(trial.number), self._eta)


def minimised(study: Study, values: Sequence[float]) -> tuple[float, ...]:
    """Values with their signs turned so that less is better; NaN is infinitely bad."""
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
    return tuple(math.inf if math.isnan(v) else s * v for s, v in zip(signs, values, strict=True))
