"""A study's trials: the only code that talks to Optuna's study. While the database is away, the
calls of its storage are repeated (`storage.optuna_storage`).
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages import RDBStorage
from optuna.trial import BaseTrial, FrozenTrial, Trial, TrialState

from nas_attn.errors import LeaseLost, StorageError
from nas_attn.recipe.recipe import Recipe, lower_is_better
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE, Placement
from nas_attn.space.search_space import other_of
from nas_attn.storage.database import Database
from nas_attn.storage.optuna_storage import open_storage, optuna_errors
from nas_attn.storage.records import CandidateRow, Latency, StoredScore

# user attribute of an enqueued trial that names the baseline
BASELINE = "baseline"
# user attribute of a trial without parameters: its placement, which the space does not hold
OUTSIDE = "outside"
# user attribute of a requested trial, which is never pruned: the placement as typed
TRIED = "tried"
# system attribute in which Optuna keeps the values of an enqueued trial
FIXED = "fixed_params"
# system attribute from which optuna-dashboard greys infeasible trials
_CONSTRAINTS = "constraints"
_LIMITS = "limits"


@dataclass(frozen=True, slots=True)
class AskedTrial:
    number: int
    # site -> value; empty if the placement is outside the space
    values: Mapping[str, str]
    # that placement
    outside: Placement | None
    # name of the baseline
    baseline: str | None


class TrialBook:
    def __init__(self, database: Database, name: str, *, made_for: Recipe | None = None) -> None:
        """With `made_for`, makes the Optuna study if it is missing, else a KeyError. Raises
        StorageError: it cannot be opened.
        """
        self.storage = open_storage(database)
        with optuna_errors(database):
            if made_for is None:
                self.study = optuna.load_study(study_name=name, storage=self.storage)
            else:
                self.study = _made(made_for, name, self.storage)
        self._database = str(database)
        self._identities: dict[int, int] = {}
        # by which optuna-dashboard knows the study
        self.number = self.storage.get_study_id_from_name(name)
        self._name = name
        self.storage.deleted = self._deleted

    def is_for(self, recipe: Recipe) -> bool:
        """Whether the study is of this recipe: it has its objectives' names."""
        return self.study.metric_names == list(recipe.objectives)

    def _deleted(self) -> StorageError | None:
        """The error of a study that somebody has deleted by Optuna; None while it is there."""
        try:
            # Optuna's own, since this is asked when a patient one has raised a KeyError.
            RDBStorage.get_study_name_from_id(self.storage, self.number)
        except KeyError:
            return trials_deleted(self._name, self._database)
        return None

    def identity(self, number: int) -> int:
        """The trial's id in the storage and in optuna-dashboard; StorageError if the database has
        lost it.
        """
        if number not in self._identities:
            try:
                self._identities[number] = self.storage.get_trial_id_from_study_id_trial_number(
                    self.number, number
                )
            except KeyError:
                lost = f"the database '{self._database}' has lost trial {number}"
                raise StorageError(f"{lost}: restore the database from a backup") from None
        return self._identities[number]

    def all(self) -> list[FrozenTrial]:
        """All trials, by number; not copies."""
        return self.study.get_trials(deepcopy=False)

    def enqueue(self, values: Mapping[str, str], attributes: Mapping[str, Any]) -> None:
        """Enqueues a placement of the space, by its values, or another one, by the attribute
        OUTSIDE; unless it is a trial already.
        """
        new = dict(values), attributes.get(OUTSIDE)
        there = ((known_params(trial), trial.user_attrs.get(OUTSIDE)) for trial in self.all())
        if new not in there:
            self.study.enqueue_trial(dict(values), user_attrs=dict(attributes))

    def named(self, trials: Iterable[FrozenTrial]) -> list[int]:
        """Numbers of the waiting trials that a person has named, or that are another network."""
        return [
            trial.number
            for trial in trials
            if trial.state == TrialState.WAITING
            and (TRIED in trial.user_attrs or other_of(outside(trial) or BARE))
        ]

    def ask(
        self, choices: Mapping[str, Sequence[str]], *, waiting: int | None = None
    ) -> AskedTrial:
        """The next trial, waiting or proposed.

        Args:
            choices: site -> values.
            waiting: number of a waiting trial that comes before older ones.

        Raises:
            LeaseLost: another gave it up.
        """
        if waiting is None:
            trial = self.study.ask()
        else:
            # as Optuna does it with the oldest
            identity = self.identity(waiting)
            self.storage.set_trial_state_values(identity, TrialState.RUNNING)
            trial = Trial(self.study, identity)
        values = dict[str, str]()
        other = outside(trial)
        try:
            for site, options in choices.items() if other is None else ():
                values[site] = trial.suggest_categorical(site, options)
        except UpdateFinishedTrialError:
            raise LeaseLost(
                f"trial {trial.number} was given up by another worker meanwhile"
            ) from None
        return AskedTrial(trial.number, values, other, trial.user_attrs.get(BASELINE))

    def ask_again(self, trial: FrozenTrial, sites: Collection[str]) -> None:
        """Gives up a trial that no worker has, and enqueues its values as a new one."""
        values = known_params(trial)
        if values.keys() >= set(sites) or outside(trial):
            self.study.enqueue_trial(values, user_attrs=trial.user_attrs)
        self.give_up(trial.number, "its worker died before it was begun")

    def give_up(self, number: int, reason: str) -> None:
        self.tell(number, None, {"reason": reason}, state=TrialState.FAIL)

    def close(self) -> None:
        """Closes all connections; they reopen on the next use."""
        self.storage.close()

    def tell(
        self,
        number: int,
        values: Sequence[float] | None,
        attributes: Mapping[str, Any],
        *,
        excess: float | None = None,
        state: TrialState | None = None,
    ) -> None:
        """Ends a trial, once.

        Args:
            number: of the trial.
            values: of the objectives; None: it has none.
            attributes: for people to read beside them.
            excess: above 0 if it is over the limits; None: there are none.
            state: None: complete, or, without values, pruned, which samplers take for a bad trial.
        """
        state = state or (TrialState.PRUNED if values is None else TrialState.COMPLETE)
        identity = self.identity(number)
        trial = Trial(self.study, identity)
        try:
            for name, value in attributes.items():
                trial.set_user_attr(name, value)
            if excess is not None:
                if not trial.constraints:
                    trial.set_constraint(_LIMITS, excess)
                self.storage.set_trial_system_attr(identity, _CONSTRAINTS, [excess])
            self.study.tell(
                number, None if values is None else list(values), state=state, skip_if_finished=True
            )
        except UpdateFinishedTrialError:
            # another worker took over and has just told the same
            pass


def trials_deleted(name: str, database: Database | str) -> StorageError:
    """The error of a study whose trials are no longer in Optuna's tables."""
    lost = f"the trials of study '{name}' were deleted from Optuna's tables in '{database}'"
    return StorageError(
        f"{lost}: restore the database from a backup, or begin a new study under another name"
    )


def known_params(trial: FrozenTrial) -> dict[str, Any]:
    """Parameters of a trial, including those that it will have."""
    return {**trial.system_attrs.get(FIXED, {}), **trial.params}


def outside(trial: BaseTrial | FrozenTrial) -> Placement | None:
    """The placement of a trial that lies outside the study's space; None for all others."""
    text = trial.user_attrs.get(OUTSIDE)
    if text is None:
        return None
    return parse(str(text))


def attributes(
    row: CandidateRow, latency: Latency | None, scores: Iterable[StoredScore]
) -> Mapping[str, Any]:
    """User attributes of a trial, for people to read beside its values."""
    values: dict[str, Any] = {"placement": str(row.placement), "key": row.key, "state": row.state}
    values |= {name: text for name in ("baseline", "reason") if (text := getattr(row, name))}
    values |= row.cost or {}
    if latency:
        values |= {"latency_ratio": round(latency.ratio, 4), "latency_ms": round(latency.ms, 4)}
        if latency.sessions:
            values["latency_half_width"] = round(latency.half_width, 4)
    for stored in scores:
        of = stored.score
        values |= {
            f"{name}@{of.epochs} (seed {of.seed})": value for name, value in of.metrics.items()
        }
    return values


def _made(recipe: Recipe, name: str, storage: RDBStorage) -> optuna.Study:
    directions: list[Literal["minimize", "maximize"]] = [
        "minimize" if lower_is_better(objective) else "maximize" for objective in recipe.objectives
    ]
    verbosity = optuna.logging.get_verbosity()
    # nas_attn itself reports the study
    optuna.logging.set_verbosity(max(verbosity, optuna.logging.WARNING))
    try:
        study = optuna.create_study(
            study_name=name,
            storage=storage,
            directions=directions,
            load_if_exists=True,
        )
    finally:
        optuna.logging.set_verbosity(verbosity)
    # one of other directions is not ours
    same = [direction.name.lower() for direction in study.directions] == directions
    if study.metric_names is None and same and not study.get_trials(deepcopy=False):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            study.set_metric_names(list(recipe.objectives))
    return study
