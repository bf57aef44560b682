"""What `search` and `resume` are asked for: the recipe of it, what is said before a search begins,
its time, its machine.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import typer

from nas_attn.cli.commands import Context
from nas_attn.cli.common import (
    Effort,
    at_storage,
    echo,
    print_json,
    quiet_optuna,
    say_lines,
)
from nas_attn.cli.trust import check_recipe, check_typed
from nas_attn.errors import StudyError
from nas_attn.latency.machine import fingerprint
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import TOML_PATH, load_recipe, study_name
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare.beginning import move_here
from nas_attn.searching.prepare.checks import check
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
from nas_attn.training.tasks.data import data_of

# letters: files of 255 hold a study's name, a machine's and a process's
LONGEST_NAME = 200


@dataclass(frozen=True, kw_only=True)
class SearchRequest:
    """What `search` is asked for."""

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


def recipe_for(
    request: SearchRequest, source: OpenStudy | None
) -> tuple[Recipe, FolderSearch | None]:
    """Reads the recipe, or makes the one that searches a folder of images in the time.

    Args:
        request: what is asked for.
        source: the study from which the new one takes over.

    Raises:
        UserError: what is asked for cannot be searched, or is not trusted.
    """
    changes = request.changes
    trust = request.effort.context.trust
    named = {key: str(changes.get(f"{key}.name", "")) for key in ("backbone", "data")}
    check_typed(named["backbone"], named["data"], trust=trust)
    quiet_optuna()
    folder = None
    if request.recipe is None:
        assert source is not None
        recipe = recipe_like(source, changes)
    elif os.path.isdir(request.recipe):
        recipe, folder = _of_folder(request, request.recipe)
    else:
        ways = f"{TOML_PATH} or of a folder of images"
        recipe = load_recipe(request.recipe, overrides=changes, ways=ways)
    if len(recipe.name) > LONGEST_NAME:
        raise StudyError(
            f"the study's name has {len(recipe.name)} letters, too many for the names of its files:"
            f" give --name with at most {LONGEST_NAME}"
        )
    check_recipe(request.recipe or recipe.name, recipe, trust=trust)
    return recipe, folder


def _of_folder(request: SearchRequest, folder: str) -> tuple[Recipe, FolderSearch | None]:
    """The recipe of a folder of images: of classes the one that fits the time, else the one that
    `init` writes, or with which a study of its name was begun.
    """
    from nas_attn.cli.init import folder_data, folder_recipe

    context = request.effort.context
    name = str(request.changes.get("name") or study_name(Path(folder).resolve().name))
    begun = begun_study(name, context.storage)
    if begun is not None and not request.changes.keys() - {"name"}:
        is_of_classes = begun.recipe.task.name == tasks.USUAL_TASK
        if begun.recipe.data.name == folder_data(folder) and not is_of_classes:
            return begun.recipe, None
    recipe, notes = folder_recipe(folder, request.changes, trust=context.trust)
    if recipe is not None:
        for line in notes:
            echo(line, err=True)
        return recipe, None
    search = plan_folder(
        FolderRequest(
            folder=folder,
            seconds=request.seconds or HOUR_S,
            storage=context.storage,
            workers=request.workers,
            device=request.effort.device,
            settings=request.changes,
        )
    )
    return search.recipe, search


def say_inventory(plan: SearchPlan, context: Context, *, err: bool) -> list[str]:
    """Says what the user's images are, and what is left out of them; returns these lines, none for
    other data. `err`: on standard error.
    """
    recipe = plan.recipe
    data = data_of(tasks.of(recipe))
    inventory = data.inventory(data.section(recipe))
    if inventory is None:
        return []
    lines = inventory.described()
    if lines and not context.as_json:
        text = "\n".join(lines)
        echo(f"{recipe.data.name}: {text}", err=err)
    return lines


def is_timed(plan: SearchPlan, folder: FolderSearch | None, request: SearchRequest) -> bool:
    """Whether a search's time is planned before it begins."""
    return folder is not None or (request.limit_s is not None and has_pace(plan))


def expected_of(
    plan: SearchPlan, folder: FolderSearch | None, request: SearchRequest
) -> SearchEstimate | None:
    """What a search takes and can show; None of a folder's that was begun before."""
    if folder is not None and folder.timed is None:
        return None
    return estimate(
        plan,
        workers=request.workers,
        threads=request.effort.threads,
        seconds=request.limit_s if folder is None else folder.seconds,
        trials=request.stated_trials,
        timed=None if folder is None else folder.timed,
    )


def expected_lines(expected: SearchEstimate | None, folder: FolderSearch | None) -> list[Line]:
    """What is said of a search's time before it begins."""
    if folder is not None:
        return folder_lines(folder, expected, "; --target changes it")
    return [] if expected is None else time_lines(expected)


def show_forecast(plan: SearchPlan, folder: FolderSearch | None, request: SearchRequest) -> None:
    """Prints what a search would do; writes nothing.

    Args:
        plan: the search.
        folder: how a folder of images is searched; None: a recipe is.
        request: what is asked for.
    """
    context = request.effort.context
    images = say_inventory(plan, context, err=False)
    check_place(plan.recipe, plan.url, artifacts=plan.artifacts)
    check(plan)
    expected = expected_of(plan, folder, request)
    if context.as_json:
        fields = {} if expected is None else estimate_as_json(expected)
        if folder is not None:
            fields = folder_as_json(folder, expected)
        print_json({**fields, "images": images})
    elif folder is None and expected is not None:
        say_lines(estimate_lines(expected))
    else:
        say_lines(expected_lines(expected, folder))


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
