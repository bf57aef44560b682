"""A study with another length of its target (`target.epochs`), decided after its search.

What does not depend on the length stays: the candidates, in the order of what they have brought so
far, and their latencies. Runs of the former length stay as well, under a protocol of their own, so
that nothing takes them for runs of the new one. Where the search trains as the target starts, its
candidates are trained anew; Optuna knows them as trials that wait.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from optuna.trial import FrozenTrial, TrialState

from nas_attn.answer.candidates import candidate_label
from nas_attn.answer.reading import searched_snapshot
from nas_attn.answer.snapshot import CandidateView, Snapshot
from nas_attn.errors import PlacementError, RecipeError, StudyError, several
from nas_attn.recipe.purposes import SEARCH, TARGET_PROTOCOL, former_protocol
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.units import duration
from nas_attn.searching.prepare.extending import EXTENDING_SUFFIX, alone, forget
from nas_attn.searching.prepare.length_protocols import same_length
from nas_attn.storage.artifacts import remove_artifact
from nas_attn.storage.opening import OpenStudy, open_study
from nas_attn.storage.trial_book import BASELINE, OUTSIDE, TRIED, TrialBook, known_params
from nas_attn.system.wrapping import Line
from nas_attn.training.plan import protocol_text, study_plan

LENGTH_KEY = "target.epochs"
"""The only setting of a study that `resume --set` changes."""


@dataclass(frozen=True, slots=True)
class NewTarget:
    """What another length of a study's target changes."""

    study: str
    epochs: tuple[int, int]
    """Of the target, before and after."""
    searched: tuple[int, int]
    """Of the search's runs; equal if these stay."""
    kept: int
    """Candidates that the search has scored."""
    again: int
    """Candidates that are trained anew."""
    first: tuple[str, ...]
    """Labels of those that come first."""
    trials: int
    """Candidates in all."""
    bare: int
    """Trainings of the bare backbone that were so long already, and are not repeated."""
    seconds: float | None
    """About how long their trainings take, for all workers together; None: not known."""


def target_lines(changed: NewTarget) -> list[Line]:
    """Says what another length of the target changes."""
    before, after = changed.epochs
    lines = [f"study {changed.study}: its target trains {after} epochs instead of {before}"]
    if changed.searched[0] == changed.searched[1]:
        lines.append(
            f"kept: {several(changed.kept, 'candidate')} with all runs of the search, which trains"
            f" for {several(changed.searched[0], 'epoch')} as before; to be trained anew: what"
            " `test` and `retrain` have trained"
        )
        return [Line(line) for line in lines]
    lines.append(
        f"kept: {several(changed.kept, 'candidate')} with their latencies; their runs of"
        f" {several(changed.searched[0], 'epoch')} are not compared with longer ones, and the"
        " weights of these are deleted, so that a return to this length trains them anew as well"
    )
    if changed.bare:
        known = several(changed.bare, "training")
        epochs = several(changed.searched[1], "epoch")
        lines.append(f"kept: {known} of the bare backbone for {epochs}, made to compare lengths")
    time = ""
    if changed.seconds is not None:
        time = f", about {duration(changed.seconds)} of training"
    best = f", first {', '.join(changed.first)}" if changed.first else ""
    lines.append(
        f"to be trained anew: {several(changed.again, 'candidate')}{best}; with new ones,"
        f" {changed.trials} in all{time}"
    )
    return [Line(line) for line in lines]


def new_length(changes: Mapping[str, Any]) -> int:
    """The target's length that `resume --set` names.

    Raises:
        RecipeError: another setting is named, or the length is no number of epochs.
    """
    others = [key for key in changes if key != LENGTH_KEY]
    if others:
        way_out = "begin a new study for it: nas-attn search … --name NAME --set …"
        if "search.trials" in others:
            way_out = "give --trials"
        raise RecipeError(
            f"--set {others[0]}: a study that has begun changes only {LENGTH_KEY}; {way_out}"
        )
    epochs = changes[LENGTH_KEY]
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise RecipeError(f"--set {LENGTH_KEY}={epochs}: give a number of epochs from 1 on")
    return epochs


def set_target(opened: OpenStudy, epochs: int, *, agree: Callable[[NewTarget], None]) -> OpenStudy:
    """Gives a study's target another length.

    Args:
        opened: the study.
        epochs: of the target from now on.
        agree: gets what will change, before anything does; raises if that is not wanted.

    Returns:
        The study as it is then.

    Raises:
        StudyError: nothing would change, the length is still being searched for, or workers are at
            it.
    """
    name = opened.store.name
    recipe = opened.recipe
    if recipe.target_is_open:
        raise StudyError(
            f"--set {LENGTH_KEY}: study '{name}' has not found its target's length yet: give it in"
            " a new study (--name)"
        )
    longer = recipe.with_target(epochs)
    if longer == recipe:
        raise StudyError(f"--set {LENGTH_KEY}={epochs}: study '{name}' trains so long already")
    searched = recipe.training.rungs[-1], longer.training.rungs[-1]
    changes_runs = searched[0] != searched[1]
    with alone(opened):
        now = searched_snapshot(opened.store)
        order = _order(now)
        again = _without_worse(opened, order) if changes_runs else []
        waiting = [trial for trial in opened.book.all() if trial.state == TrialState.WAITING]
        changed = NewTarget(
            study=name,
            epochs=(recipe.target_training.rungs[-1], epochs),
            searched=searched,
            kept=len(order),
            again=len(again) + len(waiting),
            first=tuple(candidate_label(view) for view in again[:3]),
            trials=opened.trials,
            bare=_known_of_bare(opened, longer),
            seconds=now.training_s(opened.trials * searched[1]),
        )
        agree(changed)
        with opened.database.creating():
            weights = opened.database.retarget_study(
                opened.store,
                recipe=longer.to_json(),
                former=_former(opened, longer),
                optuna=_fill(opened, longer, again, waiting) if changes_runs else None,
            )
            for artifact in weights:
                # they are those of shorter trainings
                remove_artifact(opened.artifacts, artifact)
            forget(opened)
    return open_study(name, opened.url)


def _order(now: Snapshot) -> list[CandidateView]:
    """The scored candidates, the bare backbone first, then by what they gain."""
    scored = [view for view in now.candidates if view.state == "scored"]

    def gain(view: CandidateView) -> float:
        found = view.gains.get(now.metric)
        return -found.mean if found else 0.0

    return sorted(scored, key=lambda view: (not view.is_bare, gain(view), view.trial))


def _known_of_bare(opened: OpenStudy, longer: Recipe) -> int:
    """How many trainings of the bare backbone the longer search need not repeat. The first is
    repeated for its weights.
    """
    name = same_length(opened.store, longer)
    if name is None:
        return 0
    scores = opened.store.scores(protocol=name)
    return sum(stored.score.seed != longer.first_seed for stored in scores)


def _former(opened: OpenStudy, longer: Recipe) -> dict[str, str]:
    """Protocol -> the name under which its runs stay, of those that train otherwise from now on.
    How they have trained is kept beside them.
    """
    store = opened.store
    recipe = opened.recipe
    trainings = {
        SEARCH: (recipe.training, longer.training),
        TARGET_PROTOCOL: (recipe.target_training, longer.target_training),
    }
    names = {}
    known = store.protocols.all()
    for protocol, (before, after) in trainings.items():
        if before == after:
            continue
        name = former_protocol(protocol, before.rungs[-1])
        while name in known:
            name += "-again"
        store.protocols.put(name, protocol_text(before, recipe.data))
        names[protocol] = name
    return names


def _without_worse(opened: OpenStudy, order: list[CandidateView]) -> list[CandidateView]:
    """The candidates to train again, in their order: without the worse half of what the search has
    proposed, whose time goes to new ones.
    """
    trials = opened.book.all()
    proposed = [view.key for view in order if not _asked(trials[view.trial]) and not view.control]
    worse = proposed[(len(proposed) + 1) // 2 :]
    return [view for view in order if view.key not in worse]


def _asked(trial: FrozenTrial) -> dict[str, Any]:
    """What a trial keeps if a person or the recipe has asked for it; empty if it was proposed."""
    return {key: trial.user_attrs[key] for key in (BASELINE, TRIED) if key in trial.user_attrs}


def _fill(
    opened: OpenStudy, longer: Recipe, again: list[CandidateView], waiting: list[FrozenTrial]
) -> str:
    """Makes the Optuna study in which candidates wait, then what waits already.

    Args:
        opened: the study.
        longer: its recipe from now on.
        again: candidates to train again, in their order.
        waiting: trials that have not begun.

    Returns:
        Its name.
    """
    name = opened.store.name + EXTENDING_SUFFIX
    forget(opened)
    plan = study_plan(opened.store)
    trials = opened.book.all()
    made = TrialBook(opened.database, name, made_for=longer)
    for view in again:
        asked = _asked(trials[view.trial])
        try:
            values = plan.space.values(plan.resolved(view.placement))
        except PlacementError:
            made.enqueue_outside(str(view.placement), asked)
        else:
            made.enqueue(values, asked)
    for trial in waiting:
        if OUTSIDE in trial.user_attrs:
            made.enqueue_outside(trial.user_attrs[OUTSIDE], _asked(trial))
        else:
            made.enqueue(known_params(trial), _asked(trial))
    made.close()
    return name
