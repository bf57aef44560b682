"""Which search fits a folder of images and a time."""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from nas_attn import data, tasks
from nas_attn.analysis.plans import Budget, Look
from nas_attn.backbones import build
from nas_attn.data.inventory import take
from nas_attn.data.parts import InMemory
from nas_attn.errors import DataError, StudyError
from nas_attn.evaluation.starts import no_weights, pick_device
from nas_attn.recipe import Recipe
from nas_attn.recipe_reading import recipe_from, study_name
from nas_attn.searching.prepare.lengths import SEEDS, shorter_lengths, usual_epochs
from nas_attn.searching.prepare.timing import Fit, Speed, fitted, least_s
from nas_attn.study.opening import open_study
from nas_attn.target_words import AUTO, target_table
from nas_attn.training import Trainer
from nas_attn.training.stepping import Threads, cores_for
from nas_attn.training.trainer import new_arithmetic
from nas_attn.words.units import duration

# Backbones and sides of images for a folder, the most costly first
SHAPES = (
    ("torchvision:resnet18", 96),
    ("torchvision:resnet18", 64),
    ("resnet20", 32),
    ("resnet8", 32),
)
MOST_MERITS = 2  # of a search: enough candidates, and a test
MANY_TRIALS = 36  # the large search space needs so many candidates
TRAINED, VALIDATION = 0.64, 0.16  # shares of a folder's images, where it is not divided already


def plan_folder(
    folder: str, seconds: float, *, storage: str, workers: int, device: str, given: dict[str, Any]
) -> Budget:
    """The richest search of a folder of images that fits the time, or the one begun before.
    `given`: the user's settings by dotted keys. Raises DataError: it is no folder of one folder per
    class, or too much for the time.
    """
    inventory = take(folder)
    look = Look(len(inventory.classes), inventory.images, len(inventory.unreadable))
    name = str(given.get("name") or study_name(Path(folder).resolve().name))
    folder = str(Path(folder))  # without a slash at its end
    before = _begun_before(name, folder, storage)
    if before is not None:
        recipe, known = before
        return Budget(
            recipe, seconds, workers, look, 0.0, recipe.target.seeds, look.images, known=known
        )
    best: Budget | None = None
    timings: list[_Timed] = []
    for backbone, side in itertools.chain.from_iterable(_shapes(given)):
        timed = _time(name, folder, backbone, side, given, look, workers, device)
        timings.append(timed)
        budget = _fitted(timed, given, seconds, workers, look)
        if budget is not None and (best is None or budget.merits > best.merits):
            best = budget
        if best is not None and best.merits == MOST_MERITS:
            return best
    if best is not None:
        return best
    fastest = min(timings, key=lambda timed: timed.epoch_s)
    best = _fitted_brief(fastest, given, seconds, workers, look)
    if best is None:
        speed, stated = Speed(fastest.epoch_s, workers, _session_s(seconds)), _stated(given)
        enough_s = _enough_s(speed, stated, fastest.usual)
        raise DataError(
            f"'{folder}' is too much for {duration(seconds)} here: the shortest search takes"
            f" {duration(enough_s)}, so give it --minutes {math.ceil(enough_s / 60)}, or a smaller"
            " backbone"
        )
    return best


def _time(
    name: str,
    folder: str,
    backbone: str,
    side: int,
    given: dict[str, Any],
    look: Look,
    workers: int,
    device: str,
) -> _Timed:
    """The recipe of a backbone and a size of images as a table, and how long an epoch takes."""
    side = int(given.get("data.size", side))
    table = _table(name, folder, backbone, side, look.images)
    note = _why_scratch(backbone, given)
    table["target"] = {} if _start(given) else target_table("scratch" if note else "weights")
    usual = usual_epochs(_recipe(table, given, epochs=AUTO), TRAINED * look.images)
    epochs = _stated(given) or usual
    recipe = _recipe(table, given, epochs=epochs)
    return _Timed(table, usual, _epoch_s(recipe, look, epochs, workers, device), note)


def _begun_before(name: str, folder: str, storage: str) -> tuple[Recipe, int] | None:
    """The recipe and the number of candidates of a study of this name and folder."""
    try:
        opened = open_study(name, storage)
    except StudyError:
        return None
    try:
        same = opened.recipe.data.name == f"folder:{folder}"
        return (opened.recipe, len(opened.store.candidates())) if same else None
    finally:
        opened.database.close()


def _start(given: dict[str, Any]) -> str:
    """The user's choice of the target's start; empty without one."""
    return str(given.get("target.start") or ("pretrained" if "target.weights" in given else ""))


def _shapes(given: dict[str, Any]) -> list[list[tuple[str, int]]]:
    """Backbones and sides to choose from, the most costly first: those with published weights, then
    all others.
    """
    if own := given.get("backbone.name"):
        return [[(str(own), side) for side in (96, 64, 32)]]
    if start := _start(given):
        return [[shape for shape in SHAPES if ":" in shape[0] or start != "pretrained"]]
    groups = (
        [shape for shape in SHAPES if not _note(shape[0])],
        [shape for shape in SHAPES if _note(shape[0])],
    )
    return [group for group in groups if group]


class _Timed(NamedTuple):
    """A backbone and a size of images, and how long they take."""

    table: dict[str, Any]
    usual: int  # epochs for which a network is usually trained on these images
    epoch_s: float
    note: str


def _why_scratch(backbone: str, given: dict[str, Any]) -> str:
    """Why a network does not start from published weights: those of the first choice are not there,
    or it has none. Empty if it does, or if the user says how it starts.
    """
    if _start(given):
        return ""
    return ("" if "backbone.name" in given else _note(SHAPES[0][0])) or _note(backbone)


@functools.cache
def _note(backbone: str) -> str:
    """Why a search does not start from the backbone's published weights; empty if it does."""
    return no_weights(backbone).partition(" (")[0]


def _table(name: str, folder: str, backbone: str, side: int, images: int) -> dict[str, Any]:
    task = tasks.find("classification", backbone)
    pace = (
        task.pace_of_few(TRAINED * images) if images < 3000 else task.pace("folder:", small=False)
    )
    return {
        "name": name,
        "space": "small",
        "backbone": {"name": backbone},
        "data": {"name": f"folder:{folder}", "size": side, "broken_images": "skip"},
        "training": {
            "batch_size": pace.batch_size,
            "augment": [{"name": "flip"}, {"name": "crop", "padding": 4}],
        },
    }


def _recipe(table: dict[str, Any], given: dict[str, Any], *, epochs: int | str) -> Recipe:
    """The recipe of a table with the user's settings, whose target has so many epochs unless they
    say otherwise.
    """
    length = {} if "training.rungs" in given else {"epochs": epochs}
    made = {**table, "target": {**table["target"], **length}}
    for key, value in given.items():
        section, _, name = key.rpartition(".")
        made = (
            {**made, section: {**made.get(section, {}), name: value}}
            if section
            else {**made, name: value}
        )
    return recipe_from(made, where=str(table["data"]["name"]))


def _epoch_s(recipe: Recipe, look: Look, epochs: int, workers: int, device: str) -> float:
    """Seconds of an epoch of the bare backbone, by a few steps of the target's training on
    noise.
    """
    section, side = recipe.target_training, recipe.data.size or 64
    shape = (3, side, side)
    trained = max(2, round(TRAINED * look.images))
    noise = _noise(min(section.step_size, trained), shape, look.classes, pick_device(device))
    model = build(recipe.backbone, input_shape=shape, classes=look.classes)
    trainer = Trainer(
        section,
        noise,
        device=pick_device(device),
        threads=Threads(most=cores_for(workers)),
        arithmetic=new_arithmetic(section, noise, pick_device(device), bare=model),
    )
    steps = math.ceil(trained / section.step_size)
    scoring = VALIDATION * look.images / section.step_size / 3
    return trainer.step_s(model, steps * epochs) * (steps + scoring)


def _noise(
    images: int, shape: tuple[int, int, int], classes: int, device: torch.device
) -> data.Dataset:
    """A data set of noise, which costs as much as photographs in memory."""
    noise = np.random.default_rng(0).integers(0, 256, (images, *shape), dtype=np.uint8)
    labels = torch.arange(images, device=device) % classes
    pixels = InMemory(torch.from_numpy(noise)).to(device)
    split = data.Split(pixels, labels, classes, (0.5,) * shape[0], (0.25,) * shape[0])
    names = tuple(map(str, range(classes)))
    return data.Dataset("noise", split, split, names, shape, "", lambda: split)


def _session_s(seconds: float) -> float:
    return 3.0 if seconds > 1200 else 1.0


def _fitted(
    timed: _Timed, given: dict[str, Any], seconds: float, workers: int, look: Look
) -> Budget | None:
    """The recipe with as many candidates as the time allows, whose runs train as the target says;
    None if not even a few pairs fit.
    """
    speed, stated = Speed(timed.epoch_s, workers, _session_s(seconds)), _stated(given)
    usual = timed.usual
    before_s = 0.0 if stated else _lengths_s(speed, usual, 2 * usual)
    fit = fitted(seconds - before_s, speed, stated or usual)
    if fit is None:
        return None
    return _budget(timed, given, seconds, workers, look, fit)


def _fitted_brief(
    timed: _Timed, given: dict[str, Any], seconds: float, workers: int, look: Look
) -> Budget | None:
    """The recipe of a search that trains more briefly than the target, and recommends nothing; None
    if there is no time even for this.
    """
    speed, stated = Speed(timed.epoch_s, workers, _session_s(seconds)), _stated(given)
    usual = timed.usual
    left_s = seconds - _lengths_s(speed, stated or usual)
    for epochs in shorter_lengths(stated or usual, with_itself=False):
        fit = fitted(left_s, speed, epochs)
        if fit is not None and stated and "training.rungs" not in given:
            given = {**given, "training.rungs": [epochs]}
        if fit is not None:
            budget = _budget(timed, given, seconds, workers, look, replace(fit, blocks=0))
            return replace(budget, enough_s=_enough_s(speed, stated, usual))
    return None


def _stated(given: dict[str, Any]) -> int | None:
    """The target's epochs, where the user says them."""
    if "training.rungs" in given and "target.epochs" not in given:
        return int(given["training.rungs"][-1])
    epochs = given.get("target.epochs", AUTO)
    return None if epochs == AUTO else int(epochs)


def _lengths_s(speed: Speed, *lengths: int) -> float:
    """Seconds that the bare network's trainings of these lengths take."""
    return SEEDS * sum(lengths) * speed.epoch_s / speed.workers


def _enough_s(speed: Speed, stated: int | None, usual: int) -> float:
    """The shortest time of a search that trains as the target says."""
    if stated:
        return least_s(speed, stated)
    return least_s(speed, usual) + _lengths_s(speed, usual, 2 * usual)


def _budget(
    timed: _Timed, given: dict[str, Any], seconds: float, workers: int, look: Look, fit: Fit
) -> Budget:
    table = {
        **timed.table,
        "space": "plug_and_play" if fit.trials >= MANY_TRIALS else "small",
        "target": {**timed.table["target"], "seeds": max(2, fit.blocks)},
        "latency": {"session_seconds": _session_s(seconds)},
        "search": {"trials": fit.trials, "confirm_seeds": 1 if seconds < 1200 else 2},
    }
    recipe, images = _recipe(table, given, epochs=AUTO), max(1, round(VALIDATION * look.images))
    return Budget(
        recipe,
        seconds,
        workers,
        look,
        timed.epoch_s,
        fit.blocks,
        images,
        timed.note,
        usual=timed.usual,
    )
