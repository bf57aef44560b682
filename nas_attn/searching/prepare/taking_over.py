"""A new study that takes over what another one has: `search --from OLD`.

Studies never change. So a longer training, another space or other limits are a new study. It gets
each run, score and latency of the old one whose network, seed and training are equal, and trains
the rest. Files are copied: either study can be deleted.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from optuna.trial import TrialState, create_trial

from nas_attn.errors import PlacementError, RecipeError, StudyError, several
from nas_attn.recipe.purposes import SEARCH, TARGET_PROTOCOL
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.propose.sampling import distributions
from nas_attn.storage.copying import Copies, copy_files, copy_results
from nas_attn.storage.heartbeat import Heartbeat
from nas_attn.storage.opening import OpenStudy
from nas_attn.storage.records import CandidateRow
from nas_attn.storage.trial_book import OUTSIDE
from nas_attn.system.processes import owner_name
from nas_attn.training.plan import Plan, kept_text, study_plan

LENGTH_KEY = "target.epochs"
RATE_KEYS = frozenset(
    ("training.learning_rate", "training.finetune_learning_rate", "target.learning_rate")
)


@dataclass(frozen=True, slots=True)
class TakenOver:
    """What a new study has from another one."""

    study: str
    """The other one."""
    candidates: int
    runs: int
    """That have ended, the candidates' among them."""
    sessions: int
    """Of latency."""

    def __str__(self) -> str:
        what = [
            several(self.candidates, "candidate"),
            several(self.runs, "run"),
            several(self.sessions, "latency session"),
        ]
        return f"taken over from study {self.study}: {what[0]}, {what[1]}, {what[2]}"


def recipe_like(source: OpenStudy, changes: Mapping[str, Any]) -> Recipe:
    """The recipe of another study, but for some settings.

    Args:
        source: the other study.
        changes: dotted keys -> values. With `target.epochs`, a search that starts as the target
            does is as long. Without `name`, the study's name gets the ending `-2`.

    Raises:
        RecipeError: the result is no recipe.
        StudyError: the other study has not found its target's length yet.
    """
    name = source.store.name
    recipe = source.recipe
    if recipe.target_is_open:
        raise StudyError(
            f"--from {name}: it has not found its target's length yet: resume it, or give a recipe"
        )
    rest = {"name": f"{name}-2", **changes}
    epochs = rest.pop(LENGTH_KEY, None)
    table = recipe.model_dump(mode="json")
    if RATE_KEYS & rest.keys():
        # it ends what the other study has found
        table["training"].pop("rate_factor", None)
        table["target"]["learning_rate"] = None
    new = recipe_from(table, where=f"study '{name}'", overrides=rest)
    if epochs is None:
        return new
    if isinstance(epochs, bool) or not isinstance(epochs, int) or epochs < 1:
        raise RecipeError(f"--set {LENGTH_KEY}={epochs}: give a number of epochs from 1 on")
    return new.with_target(epochs)


def check_source(recipe: Recipe, source: Recipe) -> None:
    """Checks that a study's networks can be those of another recipe.

    Args:
        recipe: of the new study.
        source: the recipe of the study from which it takes over.

    Raises:
        StudyError: they cannot.
    """
    if recipe.name == source.name:
        raise StudyError(f"--from {source.name}: the new study needs another name: give --name")
    for key in ("backbone", "task"):
        before = getattr(source, key)
        after = getattr(recipe, key)
        if before != after:
            raise StudyError(
                f"--from {source.name}: [{key}] is another one there ({before.name}), so no run is"
                " of an equal network: leave --from out"
            )


def take_over(opened: OpenStudy, source: OpenStudy) -> TakenOver:
    """Gives a new study what another one has of equal networks, seeds and trainings. The other
    study is only read. Killed half-way, it is to be called again.

    Args:
        opened: the new study.
        source: the other one, in the same database.

    Raises:
        StudyError: another process does the same.
    """
    plan = study_plan(opened.store)
    protocols = _same_protocols(opened, source)
    keys = _same_networks(plan, source)
    same_limits = plan.recipe.limits == source.recipe.limits
    rows = [
        row
        for row in source.store.candidates()
        if SEARCH in protocols and row.key in keys and (same_limits or row.state != "infeasible")
    ]
    owner = owner_name()
    # no worker takes a run before all is taken over (`taking_part.work`)
    lease = opened.store.acquire("scheduling", owner=owner)
    if lease is None:
        raise StudyError(f"study '{opened.store.name}' takes over already, in another process")
    doing = f"taking over from study {source.store.name}"
    with Heartbeat(opened.store, owner, doing=doing).shown(), opened.store.holding(lease):
        _add_trials(opened, rows, plan)
        copies = Copies(
            protocols=protocols,
            keys=keys,
            candidates={row.key: row.baseline for row in rows},
            latencies=opened.recipe.latency == source.recipe.latency,
        )
        copy_files(opened.store, opened.artifacts, source.store, source.artifacts, copies, lease)
        copy_results(opened.store, source.store, copies, lease)
    return TakenOver(
        study=source.store.name,
        candidates=len(rows),
        runs=sum(row.state != "waiting" for row in opened.store.queue.rows()),
        sessions=len(opened.store.sessions()),
    )


def _same_protocols(opened: OpenStudy, source: OpenStudy) -> frozenset[str]:
    """Training protocols of the source that the new study has, too, or gets: those of another
    length, and others that only one study names.
    """
    same = set()
    names = {SEARCH, TARGET_PROTOCOL, *source.store.protocols.all()}
    if opened.recipe.target_is_open or source.recipe.target_is_open:
        # of a length that is not found yet, nothing is known
        names.remove(TARGET_PROTOCOL)
    for name in names:
        text = kept_text(source.store, name)
        if name not in (SEARCH, TARGET_PROTOCOL) and opened.store.protocols.get(name) is None:
            opened.store.protocols.put(name, text)
        if kept_text(opened.store, name) == text:
            same.add(name)
    return frozenset(same)


def _same_networks(plan: Plan, source: OpenStudy) -> frozenset[str]:
    """Keys of the source's networks that are equal ones in the new study."""
    placements = {row.key: row.placement for row in source.store.candidates()}
    placements |= {row.run.key: row.run.placement for row in source.store.queue.rows()}
    same = set()
    for key, placement in placements.items():
        # another space may have no such site
        with suppress(PlacementError):
            if plan.resolved(placement).key == key:
                same.add(key)
    return frozenset(same)


def _add_trials(opened: OpenStudy, rows: Collection[CandidateRow], plan: Plan) -> None:
    """Gives Optuna the candidates' trials, under their numbers. They count as running until the
    search tells their values (`Search.recover`). Numbers without a candidate are given up.
    """
    by_number: Mapping[int, CandidateRow] = {row.trial: row for row in rows}
    last = max(by_number, default=-1)
    for number in range(len(opened.book.all()), last + 1):
        row = by_number.get(number)
        if row is None:
            opened.book.study.add_trial(create_trial(state=TrialState.FAIL))
            continue
        placed: dict[str, Any] = {"user_attrs": {OUTSIDE: str(row.placement)}}
        # the space may not hold it
        with suppress(PlacementError):
            values = plan.space.values(plan.resolved(row.placement))
            placed = {"params": values, "distributions": distributions(plan.space)}
        opened.book.study.add_trial(create_trial(state=TrialState.RUNNING, **placed))
