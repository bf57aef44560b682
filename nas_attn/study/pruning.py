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

`PosteriorHalving` is used in the same way, for trials whose parameters are choices at places: it asks who belongs to the front
in the end. Rungs are kept in the trials' user attributes, so that workers on many machines see them and agree.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence

from optuna.study import Study, StudyDirection
from optuna.trial import Trial

from nas_attn.analysis.evidence import Run, fit
from nas_attn.analysis.halving import survives
from nas_attn.analysis.promotion import goes_on

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


class PosteriorHalving(ParetoHalving):
    """As `ParetoHalving`, but the best 1/eta are those that most likely belong to the front at the last rung.

    That is what the model of all evidence (`analysis.evidence`) says, which learns from the trials that went on how far a rung tells
    the last one, and from trials with the same choices. Until one has reached the last rung, it decides as `ParetoHalving` does.
    """

    def __init__(self, eta: float = 3.0, rungs: Sequence[int] = (1, 3, 9), *, primary: int = 0) -> None:
        """Args:
            eta: as `rungs` for `ParetoHalving`.
            primary: index of the objective that is trained for; the others are what it costs, the same at all rungs.

        Raises:
            ValueError: as `ParetoHalving`.
        """
        super().__init__(eta, rungs)
        self._primary = primary

    def should_prune(self, trial: Trial) -> bool:
        """Whether the trial is not among the likeliest 1/eta at the last rung it reported."""
        reached = [rung for rung in self._rungs if f"{ATTRIBUTE}{rung}" in trial.user_attrs]
        if not reached or reached[-1] == self._rungs[-1]:
            return False
        known = {str(t.number): t for t in trial.study.get_trials(deepcopy=False) if t.number != trial.number}
        attributes = {key: t.user_attrs for key, t in known.items()} | {str(trial.number): trial.user_attrs}
        values = {
            (key, i): minimised(trial.study, found[f"{ATTRIBUTE}{rung}"])
            for key, found in attributes.items()
            for i, rung in enumerate(self._rungs)
            if f"{ATTRIBUTE}{rung}" in found
        }
        texts = {key: _notation(t.params) for key, t in known.items()} | {str(trial.number): _notation(trial.params)}
        runs = [Run(key, 0, rung, row[self._primary]) for (key, rung), row in values.items()]
        last = len(self._rungs) - 1
        model = fit(runs, texts, metric="sought", lower_is_better=True, rung=last)
        if model is None or not model.noise.paired_sd:
            return super().should_prune(trial)
        at = len(reached) - 1
        rows = {key: row for (key, _), row in values.items()}
        names = [f"-{index}" for index in range(len(trial.study.directions))]
        names[self._primary] = "-sought"
        peers = [key for key, rung in values if rung == at]
        return not goes_on(model, names, rows, peers, str(trial.number), self._eta)


def _notation(params: Mapping[str, object]) -> str:
    """Parameters as a placement: what is chosen at which place."""
    chosen = {place: re.sub(r"\W+", "_", str(choice)) for place, choice in params.items()}
    written = [f"stage{i + 1}={chosen[place]}" for i, place in enumerate(sorted(chosen)) if chosen[place] != "none"]
    return " ".join(written) or "none"


def minimised(study: Study, values: Sequence[float]) -> tuple[float, ...]:
    """Values with their signs turned so that less is better; NaN is infinitely bad."""
    signs = [-1.0 if direction == StudyDirection.MAXIMIZE else 1.0 for direction in study.directions]
    return tuple(math.inf if math.isnan(v) else s * v for s, v in zip(signs, values, strict=True))
