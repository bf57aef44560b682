"""The answer as an Optuna study of its own: optuna-dashboard's Pareto plot of it shows today's front, with names.

Optuna does not change the values of a finished trial, so the study's own plot shows what was known when each trial ended. The
study `NAME~answer` is written anew from a snapshot. Nothing reads it but dashboards.
"""

from __future__ import annotations

import warnings
from contextlib import suppress
from typing import TYPE_CHECKING

from nas_attn.analysis import units
from nas_attn.analysis.snapshot import CandidateView, Snapshot
from nas_attn.recipe import lower_is_better, objective_name
from nas_attn.report import words

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.study import StudyDirection
    from optuna.trial import FrozenTrial

SUFFIX = "~answer"
"""After the study's name; the name of a recipe cannot hold a tilde."""
MOST = 100
"""Candidates that are shown; the front and the baselines come first."""


def write_answer_study(storage: BaseStorage, now: Snapshot) -> None:
    """Writes the study of the answer; nothing happens while no candidate is scored, or where nothing has changed."""
    import optuna

    trials, name = _trials(now), f"{now.study}{SUFFIX}"
    if not trials:
        return
    with suppress(KeyError):
        known = optuna.load_study(study_name=name, storage=storage).get_trials(deepcopy=False)
        if [(t.params, t.values) for t in known] == [(t.params, t.values) for t in trials]:
            return
        optuna.delete_study(study_name=name, storage=storage)
    with suppress(optuna.exceptions.DuplicatedStudyError):  # another process writes the same at this moment
        study = optuna.create_study(study_name=name, storage=storage, directions=_directions(now))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names([words.heading(now, index) for index in range(len(now.objectives))])
        study.add_trials(trials)


def _trials(now: Snapshot) -> list[FrozenTrial]:
    from optuna.distributions import BaseDistribution, CategoricalDistribution
    from optuna.trial import create_trial

    scored = [(view, values) for view in now.candidates if view.state == "scored" and (values := _values(now, view))]
    scored.sort(key=lambda found: (not found[0].on_front, found[0].baseline is None, found[0].trial))
    shown = scored[:MOST]
    if not shown:
        return []
    columns = {
        "candidate": [f"{words.called(view, now)} ({view.trial})" for view, _ in shown],
        "placement": [view.placement for view, _ in shown],
    }
    distributions: dict[str, BaseDistribution] = {
        name: CategoricalDistribution(tuple(dict.fromkeys(texts))) for name, texts in columns.items()
    }
    return [
        create_trial(
            values=values, params={name: texts[i] for name, texts in columns.items()}, distributions=distributions
        )
        for i, (_, values) in enumerate(shown)
    ]


def _values(now: Snapshot, view: CandidateView) -> list[float] | None:
    """Gains where they are known, in the unit that people read; None where a value is missing."""
    found = []
    for objective, value in zip(now.objectives, view.values, strict=True):
        gain = view.gains.get(objective_name(objective))
        if now.compared(objective):
            value = gain.mean * units.unit(objective).scale if gain else 0.0 if view.baseline == "none" else None
        if value is None:
            return None
        found.append(round(value, 6))
    return found


def _directions(now: Snapshot) -> list[StudyDirection]:
    from optuna.study import StudyDirection

    falls = [lower_is_better(objective) and not now.compared(objective) for objective in now.objectives]
    return [StudyDirection.MINIMIZE if one else StudyDirection.MAXIMIZE for one in falls]
