"""What `search` and `resume` are asked for: the recipe of it, what is said before a search begins,
its time, its machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import typer

from nas_attn.cli.common import (
    Effort,
    at_storage,
    echo,
    print_json,
    quiet_optuna,
    say_lines,
    study_named,
)
from nas_attn.cli.trust import check_recipe, check_typed
from nas_attn.errors import StudyError
from nas_attn.latency.machine import fingerprint
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import TOML_PATH, load_recipe, study_name
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.beginning import create, move_here
from nas_attn.searching.prepare.checks import check
from nas_attn.searching.prepare.clock import SearchTime
from nas_attn.searching.prepare.estimate import (
    SearchEstimate,
    estimate,
    estimate_as_json,
    estimate_lines,
    has_pace,
    time_lines,
)
from nas_attn.searching.prepare.image_folder import (
    HOUR_S,
    FolderRequest,
    FolderSearch,
    folder_as_json,
    folder_lines,
    plan_folder,
)
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.prepare.taking_over import recipe_like
from nas_attn.searching.worker.devices import default_workers
from nas_attn.storage.opening import OpenStudy, begun_study, check_place
from nas_attn.system.wrapping import Line
from nas_attn.training.images import known_images
from nas_attn.training.measurer import from_text, machine_text
from nas_attn.training.plan import wanted
from nas_attn.training.tasks.data import reading_of

# letters: files of 255 hold a study's name, a machine's and a process's
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What `search` is asked for, and what comes of it before the first run."""

    effort: Effort
    """How runs are carried out."""
    recipe: str | None
    """A shipped name, a path, or a folder of images; None: that of the study it takes over."""
    source: str | None
    """The study that it takes over; None: none."""
    changes: dict[str, Any]
    """Dotted key of the recipe -> value in its place."""
    tried: Sequence[str]
    """Placements that are evaluated, too."""
    artifacts: str | None
    """Folder or bucket of weights; None: beside the database."""
    seconds: float | None
    """The time for everything; None: no limit."""
    began: float
    """When the command began, by `time.monotonic`."""

    @property
    def stated_trials(self) -> int | None:
        """The candidates that are wanted in any case; None: as the recipe says, or the time."""
        stated = self.changes.get("search.trials")
        return None if stated is None else int(stated)

    @property
    def limit_s(self) -> float | None:
        """The time for everything; None: no limit. A folder gets an hour, unless its candidates are
        stated.
        """
        folder = self.recipe is not None and os.path.isdir(self.recipe)
        if self.seconds is None and self.stated_trials is None and folder:
            return HOUR_S
        return self.seconds

    @property
    def workers(self) -> int:
        """The number of workers for which a time is reckoned."""
        return self.effort.workers or default_workers(self.effort.device)

    @property
    def runs_by(self) -> Effort:
        """How runs are carried out: with the workers for which a time was reckoned."""
        return replace(self.effort, workers=self.workers) if self._is_timed else self.effort

    @property
    def clock(self) -> SearchTime:
        """The time of the search, which has begun with the command."""
        stated = self.stated_trials
        unlimited = 0 if stated is not None else self.plan.recipe.search.trials
        return SearchTime(self.limit_s, self.began, stated, unlimited=unlimited)

    @property
    def plan(self) -> SearchPlan:
        """The search."""
        return self._asked[0]

    @cached_property
    def _asked(self) -> tuple[SearchPlan, FolderSearch | None]:
        """The search, and what was chosen for a folder of classes; read once. Raises UserError: it
        cannot be searched, or is not trusted.
        """
        context = self.effort.context
        known = None
        if self.source is not None:
            known = study_named(context, self.source, runs_code=True)
        named = {key: str(self.changes.get(f"{key}.name", "")) for key in ("backbone", "data")}
        check_typed(named["backbone"], named["data"], trust=context.trust)
        quiet_optuna()
        folder = None
        if self.recipe is None:
            assert known is not None
            recipe = recipe_like(known, self.changes)
        elif os.path.isdir(self.recipe):
            recipe, folder = self._of_folder(self.recipe)
        else:
            ways = f"{TOML_PATH} or of a folder of images"
            recipe = load_recipe(self.recipe, overrides=self.changes, ways=ways)
        if len(recipe.name) > LONGEST_NAME:
            raise StudyError(
                f"the study's name has {len(recipe.name)} letters, too many for the names of its"
                f" files: give --name with at most {LONGEST_NAME}"
            )
        check_recipe(self.recipe or recipe.name, recipe, trust=context.trust)
        plan = SearchPlan(
            recipe,
            context.storage,
            tried=self.tried,
            device=self.effort.device,
            artifacts=self.artifacts,
            source=known,
        )
        return plan, folder

    def _of_folder(self, folder: str) -> tuple[Recipe, FolderSearch | None]:
        """The recipe of a folder of images: of classes the one that fits the time, else the one
        that `init` writes, or with which a study of its name was begun.
        """
        from nas_attn.cli.init import folder_data, folder_recipe

        context = self.effort.context
        name = str(self.changes.get("name") or study_name(Path(folder).resolve().name))
        begun = begun_study(name, context.storage)
        if begun is not None and not self.changes.keys() - {"name"}:
            is_of_classes = begun.recipe.task.name == tasks.USUAL_TASK
            if begun.recipe.data.name == folder_data(folder) and not is_of_classes:
                return begun.recipe, None
        recipe, notes = folder_recipe(folder, self.changes, trust=context.trust)
        if recipe is not None:
            for line in notes:
                echo(line, err=True)
            return recipe, None
        search = plan_folder(
            FolderRequest(
                folder=folder,
                seconds=self.seconds or HOUR_S,
                storage=context.storage,
                workers=self.workers,
                device=self.effort.device,
                settings=self.changes,
            )
        )
        return search.recipe, search

    def show_forecast(self) -> None:
        """Prints what the search would do; writes nothing."""
        plan, folder = self._asked
        images = self._say_inventory(err=False)
        check_place(plan.recipe, plan.url, artifacts=plan.artifacts)
        check(plan)
        expected = self._expected()
        if not self.effort.context.as_json:
            say_lines(_lines(expected, folder, estimate_lines))
            return
        fields = {} if expected is None else estimate_as_json(expected)
        if folder is not None:
            fields = folder_as_json(folder, expected)
        print_json({**fields, "images": images})

    def create(self) -> OpenStudy:
        """Says what the search is, and begins or takes up its study."""
        plan, folder = self._asked
        self._say_inventory(err=True)
        check(plan)
        in_time = None
        if self._is_timed:
            expected = self._expected()
            if not self.effort.context.as_json:
                say_lines(_lines(expected, folder, time_lines), err=True)
            if expected is not None and expected.time is not None and folder is None:
                in_time = expected.time.trials
        opened = create(plan, in_time, say=partial(echo, err=True))
        note_images(opened)
        settle_machine(opened, asking=not self.effort.context.as_json)
        return opened

    @cached_property
    def _is_timed(self) -> bool:
        """Whether a search's time is planned before it begins."""
        plan, folder = self._asked
        return folder is not None or (self.limit_s is not None and has_pace(plan))

    def _expected(self) -> SearchEstimate | None:
        """What the search takes and can show; None of a folder's that was begun before."""
        plan, folder = self._asked
        if folder is not None and folder.timed is None:
            return None
        return estimate(
            plan,
            workers=self.workers,
            threads=self.effort.threads,
            seconds=self.limit_s if folder is None else folder.seconds,
            trials=self.stated_trials,
            timed=None if folder is None else folder.timed,
        )

    def _say_inventory(self, *, err: bool) -> list[str]:
        """Says what the user's images are, and what is left out of them; returns these lines, none
        for other data. `err`: on standard error.
        """
        recipe = self.plan.recipe
        data = reading_of(recipe)
        inventory = data.inventory(data.section(recipe))
        lines = [] if inventory is None else inventory.described()
        if lines and not self.effort.context.as_json:
            text = "\n".join(lines)
            echo(f"{recipe.data.name}: {text}", err=err)
        return lines


def _lines(
    expected: SearchEstimate | None,
    folder: FolderSearch | None,
    of_recipe: Callable[[SearchEstimate], list[Line]],
) -> list[Line]:
    """What is said of a search before it begins; `of_recipe`: of a recipe's."""
    if folder is not None:
        return folder_lines(folder, expected, "; --target changes it")
    return [] if expected is None else of_recipe(expected)


def note_images(opened: OpenStudy, *, first: bool = False) -> None:
    """Says what cannot be known of the images. `first`: the study is from before they were kept."""
    images = known_images(opened.store, opened.recipe)
    if images is None:
        return
    if images.unknown:
        echo(f"note: {images.unchecked(opened.recipe.data.name)}", err=True)
    elif first:
        echo(
            "note: what the images are is kept from now on; whether they changed before is not"
            " known",
            err=True,
        )


def settle_machine(opened: OpenStudy, *, here: bool = False, asking: bool) -> None:
    """Says if another machine measures the study's latencies; moves the study if a person wants it.

    Args:
        opened: the study.
        here: whether this machine shall measure from now on.
        asking: whether a person at a terminal may be asked.

    Raises:
        StudyError: `here` is set, and the study needs no latency.
    """
    name = opened.store.name
    if "latency" not in wanted(opened.recipe):
        if here:
            raise StudyError(f"--here: study '{name}' measures no latency; leave it out")
        return
    machine = fingerprint(opened.recipe.latency)
    pinned = from_text(opened.store.fingerprint) if opened.store.fingerprint else machine
    if pinned == machine:
        return
    there = f"latencies of study '{name}' are measured on {machine_text(pinned, machine)}"
    if not here and asking and sys.stdin.isatty():
        here = typer.confirm(f"{there}. Measure them on this machine from now on?")
    if here:
        move_here(opened, machine)
    else:
        again = f"nas-attn resume {name}{at_storage(opened.url)} --here"
        echo(f"note: {there}, so this machine only trains; to measure here: {again}", err=True)
