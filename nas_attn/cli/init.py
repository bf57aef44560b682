"""`nas-attn init`."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NamedTuple

from typer import Argument, Option

from nas_attn.cli.commands import Context
from nas_attn.cli.common import TASK, Data, Target, echo, print_json
from nas_attn.cli.recipe_text import (
    OF_A_TABLE,
    ProposedTask,
    RecipeAnswers,
    is_small,
    recipe_text,
)
from nas_attn.cli.trust import check_typed
from nas_attn.errors import DataError, RecipeError, did_you_mean, shorten
from nas_attn.recipe.target import TargetWords, refuse_unpublished, target_table, target_words
from nas_attn.recipe.tasks import FEW_TRAINING_IMAGES, TASKS, USUAL_TASK, find, variants
from nas_attn.system.paths import output_path

if TYPE_CHECKING:
    from nas_attn.recipe.recipe import DataSection, Recipe

# source of a backbone -> package that it needs
PACKAGE_OF_SOURCE = {
    "timm": "timm",
    "smp": "segmentation_models_pytorch",
}


class Proposal(NamedTuple):
    """A recipe, and what there is to say of it."""

    answers: RecipeAnswers
    notes: list[str]
    # options as they could have been given, of what was proposed
    defaults: list[str]


def init(
    context: Context,
    path: Annotated[
        str, Argument(help="File to write, or a folder of images to write one for.")
    ] = "study.toml",
    name: Annotated[str | None, Option(help="Name of the study; default: the file's.")] = None,
    task: Annotated[
        str | None,
        Option(metavar=TASK, help="What the network is for.", show_default="by the data"),
    ] = None,
    data: Data = None,
    columns: Annotated[
        list[str] | None,
        Option("--column", metavar="NAME", help="Column to learn of a folder's table."),
    ] = None,
    backbone: Annotated[str | None, Option(help="Backbone.")] = None,
    target: Target = None,
    space: Annotated[str | None, Option(help="Search space.")] = None,
    trials: Annotated[int | None, Option(min=1, help="Candidates.")] = None,
    max_latency_ratio: Annotated[
        float | None, Option(help="Largest latency, relative to the bare backbone's.")
    ] = None,
    yes: Annotated[
        bool, Option("--yes", "-y", help="Take what is proposed, without a list of it.")
    ] = False,
    force: Annotated[bool, Option("--force", help="Overwrite the file.")] = False,
) -> None:
    """Write a recipe. What no option says, it proposes by the images.

    Examples:
      nas-attn init photos --target weights
      nas-attn init faces --column age

    What a recipe says: docs/reference/recipe.md
    """
    if Path(path).is_dir():
        data = data or folder_data(path)
        path = f"{Path(path).resolve().name}.toml"
    file = _new_file(path, force=force)
    proposal = _proposal(
        path,
        trust=context.trust,
        name=name,
        task=task,
        data=data,
        columns=columns or (),
        backbone=backbone,
        target=target_words(target or []),
        space=space,
        trials=trials,
        ratio=max_latency_ratio,
    )
    _write(file, recipe_text(proposal.answers))
    if context.as_json:
        print_json({"recipe": path, "defaults": proposal.defaults, "notes": proposal.notes})
        return
    if proposal.defaults and not yes:
        echo(f"proposed: {' '.join(proposal.defaults)}")
    for line in proposal.notes:
        echo(line)
    echo(f"wrote {path}\nnext: nas-attn search {shlex.quote(path)} --dry-run")


def _proposal(
    path: str,
    *,
    trust: bool,
    target: TargetWords,
    columns: Sequence[str],
    task: str | None = None,
    data: str | None = None,
    backbone: str | None = None,
    name: str | None = None,
    space: str | None = None,
    trials: int | None = None,
    ratio: float | None = None,
) -> Proposal:
    """Proposes what no option says, which is None here. `trust`: whether code of other folders may
    be run.
    """
    from nas_attn.recipe.reading import study_name
    from nas_attn.training.tasks.data import data_of

    said = {"data": data, "backbone": backbone, "target": target.start, "space": space}
    data = data or "digits"
    purpose = proposed_task(data, task, columns)
    variant = variants(purpose.task)[0]
    small = is_small(data)
    backbone = backbone or variant.usual_backbone(data, small=small)
    check_typed(backbone, data, trust=trust)
    images = count_images(data)
    _require_data(data)
    preset = _needed_preset(purpose.task, backbone)
    reading = data_of(find(purpose.task, backbone))
    inventory, seen = reading.first_look(_section(data, purpose), images, backbone)
    start, about_start = _start(purpose.task, backbone, target)
    proposed = None
    if inventory is not None:
        proposed = reading.proposed(inventory, backbone, target_table(start)["weights"])
        taken = replace(inventory, size=proposed.size, fit=proposed.fit, channels=proposed.channels)
        seen = "\n".join([*taken.described(), *seen.splitlines()])
    few = small or 0 < images < FEW_TRAINING_IMAGES
    answers = RecipeAnswers(
        path=path,
        name=name or study_name(Path(path).stem),
        purpose=purpose,
        space=space or variant.hints.space or ("small" if small else "plug_and_play"),
        backbone=backbone,
        data=data,
        proposed=proposed,
        target=TargetWords(start, target.epochs),
        trials=trials or (20 if few else 40),
        ratio=ratio,
        images=images,
        preset=preset,
    )
    chosen = {"data": data, "backbone": backbone, "target": start, "space": answers.space}
    defaults = [f"--{option} {chosen[option]}" for option, word in said.items() if word is None]
    if trials is None:
        defaults.append(f"--trials {answers.trials}")
    return Proposal(answers, list(_notes(answers, seen, about_start)), defaults)


def _section(data: str, purpose: ProposedTask) -> DataSection:
    """How a recipe names the data."""
    from nas_attn.recipe.recipe import DataSection
    from nas_attn.recipe.sections import GroupsSection, TableSection

    table = TableSection(columns=list(purpose.columns)) if purpose.columns else None
    groups = GroupsSection(column=purpose.group) if purpose.group else None
    unknown = list(purpose.unknown)
    return DataSection(name=data, table=table, groups=groups, unknown=unknown, masks=purpose.masks)


def _notes(answers: RecipeAnswers, seen: str, about_start: str) -> Iterator[str]:
    """What there is to say of a recipe.

    Args:
        answers: What the recipe is written from.
        seen: What the data are; empty where nobody looks at them.
        about_start: Why the target starts as it does; empty where that is usual.
    """
    purpose = answers.purpose
    if seen:
        yield f"{answers.data}: {seen}"
    if purpose.why:
        ways = ["--task says another one"]
        if purpose.columns or variants(purpose.task)[0].labels in OF_A_TABLE:
            ways.append("--column names other columns")
        yield f"task: {purpose.task}, since {purpose.why} ({'; '.join(ways)})"
    if purpose.group:
        yield f"groups: images with the same '{purpose.group}' stay together (data.groups)"
    if variants(purpose.task)[0].labels == "numbers":
        yield (
            "augment: none, since numbers may be positions or angles, which are others in a"
            " mirrored or moved image; name flip and crop there if yours are not"
        )
    proposed = answers.proposed
    if proposed is not None and proposed.why:
        yield proposed.why
    if about_start:
        yield about_start
    if answers.target.start == "weights" and proposed and proposed.channels not in (None, 3):
        from nas_attn.backbones.weight_files import said_channels

        yield f"published weights: {said_channels(3, proposed.channels)}"


def folder_data(folder: str) -> str:
    """Names the data in a folder: annotations in COCO's form if there are some, else images."""
    # without a slash at its end
    path = str(Path(folder))
    return f"coco:{path}" if _has_annotations("tags", f"coco:{path}") else f"folder:{path}"


def _has_annotations(kind: Literal["boxes", "tags"], data: str) -> bool:
    """Whether data have such annotations in COCO's form."""
    from nas_attn.data import coco
    from nas_attn.recipe.recipe import DataSection

    with suppress(DataError):
        coco.read(kind, DataSection(name=data))
        return True
    return False


def folder_recipe(
    folder: str, changes: Mapping[str, Any], *, trust: bool
) -> tuple[Recipe | None, list[str]]:
    """Makes the recipe that `init` writes for a folder.

    Args:
        folder: Its path.
        changes: Dotted key of the recipe -> value in its place.
        trust: Whether code of other folders may be run.

    Returns:
        The recipe, None for folders of classes; and what there is to say of it.

    Raises:
        UserError: A choice is needed, or what is asked for cannot be searched.
    """
    from nas_attn.recipe.reading import read_toml, recipe_from

    data = folder_data(folder)
    stated = changes.get("task.name")
    columns = changes.get("data.table.columns", ())
    proposal = proposed_task(data, stated, [columns] if isinstance(columns, str) else columns)
    if proposal.task == USUAL_TASK and not proposal.columns:
        return None, []
    if proposal.choice:
        raise DataError(
            f"{proposal.choice}: name those that you want, as in nas-attn init"
            f" {shlex.quote(folder)} --column {shlex.quote(proposal.columns[0])}, and search the"
            " recipe that it writes"
        )
    start = changes.get("target.weights") or changes.get("target.start")
    if start in ("default", "pretrained"):
        start = "weights"
    made = _proposal(
        f"{Path(folder).resolve().name}.toml",
        trust=trust,
        task=stated,
        data=data,
        columns=proposal.columns,
        backbone=changes.get("backbone.name"),
        target=TargetWords(start, None),
    )
    table = read_toml(recipe_text(made.answers), folder)
    return recipe_from(table, where=folder, overrides=dict(changes)), made.notes


def proposed_task(data: str, task: str | None = None, columns: Sequence[str] = ()) -> ProposedTask:
    """Proposes what data are for.

    Args:
        data: Their name.
        task: The task that the user says; None: none.
        columns: Those of a table that the user wants to learn; none: not said.

    Raises:
        UserError: There are no such columns, or they are of no use.
    """
    from nas_attn.data.lesson import lesson

    source, _, place = data.partition(":")
    root = Path(place).expanduser()
    if task is not None and task not in TASKS:
        wrong = str(task)
        raise RecipeError(f"unknown task '{shorten(wrong)}': {did_you_mean(wrong, TASKS)}")
    kind = None if task is None else variants(task)[0].labels
    has_table = source == "folder" and root.is_dir() and kind in (None, "classes", *OF_A_TABLE)
    if columns and not has_table:
        raise RecipeError(
            f"--column {shorten(columns[0])}: only --data folder:PATH with a CSV file has columns,"
            " for classification, multi-label or regression; leave it out"
        )
    if kind in (None, "classes") and not columns:
        seen = _seen_without_table(data)
        if seen is not None and (task is None or seen.task == task):
            return seen
    if not has_table:
        return ProposedTask(task or USUAL_TASK)
    found = lesson(root, kind, columns)
    named = {"tags": "multi-label", "numbers": "regression"}.get(found.kind or "", USUAL_TASK)
    return ProposedTask(task or named, *found[1:])


def _seen_without_table(data: str) -> ProposedTask | None:
    """What data are for that are no folder with a table; None: they may be one."""
    from nas_attn.data.folder import class_names, mask_pattern, split_folders, subfolders

    source, _, place = data.partition(":")
    root = Path(place).expanduser()
    if source == "yolo":
        return ProposedTask("detection", "yolo: has boxes")
    if source == "coco":
        if _has_annotations("tags", data) and not _has_annotations("boxes", data):
            why = "the annotations have categories, and not all have boxes"
            return ProposedTask("multi-label", why)
        return ProposedTask("detection", "coco: is for boxes")
    if source != "folder" or not root.is_dir():
        return None
    with suppress(DataError):
        train = next(iter(split_folders(root).values()))
        names = (*subfolders(root), *subfolders(train[0]))
        if {"images", "masks"} <= {name.lower() for name in names}:
            why = "there are images and masks"
            pattern = mask_pattern(train[0])
            if pattern is not None:
                why += f", called {pattern} (data.masks)"
            return ProposedTask("segmentation", why, masks=pattern)
        class_names(train)
        return ProposedTask(USUAL_TASK)
    return None


def _start(task: str, backbone: str, target: TargetWords) -> tuple[str, str]:
    """How the target starts: published weights where there are some, unless it is said; and what
    there is to say of it. RecipeError: there are no such weights.
    """
    from nas_attn.training.starts import no_weights

    refuse_unpublished(backbone, target.start)
    why = ""
    if target.start in (None, "weights"):
        why = no_weights(backbone, side=find(task, backbone).trial_side(backbone))
    note = why if backbone.startswith("torchvision:") else ""
    if target.start is not None:
        return target.start, note
    return ("scratch" if why else "weights"), f"target: scratch, since {note}" if note else ""


def _require_data(data: str) -> None:
    """Raises DataError: the folder that data are named by does not exist."""
    source, colon, place = data.partition(":")
    if colon and source in ("folder", "coco") and not Path(place).expanduser().exists():
        raise DataError(f"'{place}' does not exist (looked in {Path.cwd()})")


def _needed_preset(task: str, backbone: str) -> str | None:
    """The preset that a backbone needs, which is built to see it; None: none, or its package is
    not installed.
    """
    from nas_attn import backbones
    from nas_attn.backbones.building import usual_preset
    from nas_attn.backbones.weights_input import only_side
    from nas_attn.recipe.reading import backbone_section

    section = backbone_section(backbone)
    facts = find(task, backbone)
    package = PACKAGE_OF_SOURCE.get(backbone.partition(":")[0])
    if not facts.own_trainer or (package is not None and find_spec(package) is None):
        return None
    side = only_side(backbone) or facts.trial_side(backbone)
    return usual_preset(backbones.build(section, input_shape=(3, side, side), classes=10))


def _new_file(path: str, *, force: bool) -> Path:
    """Where the recipe goes. Raises RecipeError: a file is there, and it may not be overwritten."""
    file = output_path(path, what="recipe file", error=RecipeError)
    if file.exists() and not force:
        raise RecipeError(f"'{path}' already exists: give another file, or --force to overwrite it")
    return file


def count_images(data: str) -> float:
    """Approximate number of the user's training images; 0 if it is not known."""
    from nas_attn.data import coco, folder, yolo_files
    from nas_attn.recipe.recipe import DataSection

    source, colon, _ = data.partition(":")
    with suppress(DataError, ImportError):
        section = DataSection(name=data)
        if source == "coco":
            found = coco.read("tags", section)
            trained = float((found.split == "train").sum())
            return trained if "validation" in found.splits else 0.8 * trained
        if source == "yolo":
            return yolo_files.count_trained(section)
        if source == "folder" and colon:
            return folder.count_trained(section)
    return 0


def _write(target: Path, text: str) -> None:
    """Writes the recipe if it is valid, else nothing."""
    from nas_attn.recipe.reading import read_toml, recipe_from

    recipe_from(read_toml(text, str(target)), where=str(target))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(text, "utf-8")
    except OSError as error:
        raise RecipeError(f"'{target}' cannot be written: {error}") from None
