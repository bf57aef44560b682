"""Which search fits a folder of images and a time."""

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from nas_attn.answer.plans import Budget, FolderLook
from nas_attn.backbones import build
from nas_attn.backbones.building import usual_preset
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.pixels import InMemory
from nas_attn.data.taking import take
from nas_attn.errors import DataError
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import backbone_section, recipe_from, study_name
from nas_attn.recipe.recipe import Recipe, SplitsSection
from nas_attn.recipe.sections import FEW_VALIDATED
from nas_attn.recipe.target import AUTO, target_table
from nas_attn.recipe.units import duration
from nas_attn.searching.prepare.lengths import (
    FEW_TRAINING_IMAGES,
    found_length_s,
    lengths_s,
    longer_target,
    shorter_lengths,
    usual_epochs,
    usual_found_s,
)
from nas_attn.searching.prepare.timing import (
    MOST_CANDIDATES,
    Fit,
    Speed,
    fitted,
    least_s,
    most_of_few,
)
from nas_attn.storage.opening import BegunStudy, begun_study
from nas_attn.training.arithmetic import new_arithmetic, threads_for
from nas_attn.training.starts import no_weights, pick_device
from nas_attn.training.trainer import Trainer

# Backbones and sides of images for a folder, the most costly first
DEEPER_NET = ("resnet20", 32)
PHOTO_NETS = (
    ("torchvision:resnet18", 96),
    ("torchvision:resnet18", 64),
    DEEPER_NET,
    ("resnet8", 32),
)
# of a search: enough candidates, and a test
MOST_MERITS = 2
# settings with which the user says how weights are changed, so that no preset does
PRESET_STATED = {f"training.{name}" for name in ("preset", "optimizer", "learning_rate")}
# the large search space needs so many candidates
MANY_TRIALS = 36
# shares of a folder's images, where it is not divided already
TRAINED = 0.64
VALIDATION = 0.16


def plan_folder(
    folder: str, seconds: float, *, storage: str, workers: int, device: str, given: dict[str, Any]
) -> Budget:
    """The richest search of a folder of images that fits the time, or the one begun before.
    `given`: the user's settings by dotted keys. Raises DataError: it is no folder of one folder per
    class, or too much for the time.
    """
    name = str(given.get("name") or study_name(Path(folder).resolve().name))
    # without a slash at its end
    shown = str(Path(folder))
    begun = _begun_before(name, shown, storage)
    splits = _given_splits(shown, given) if begun is None else begun.recipe.data.splits
    inventory = take(folder, splits=splits)
    wish = _Wish(
        name=name,
        folder=shown,
        counts={split: sum(of.values()) for split, of in inventory.counts.items()},
        look=FolderLook(len(inventory.classes), inventory.images, len(inventory.unreadable)),
        seconds=seconds,
        workers=workers,
        device=device,
        given=given,
    )
    return _richest(wish) if begun is None else _continued(wish, begun)


def _given_splits(folder: str, given: dict[str, Any]) -> SplitsSection | None:
    """The user's `data.splits`. Raises RecipeError: they are wrong."""
    if "data.splits" not in given:
        return None
    data_table = {"name": f"folder:{folder}", "splits": given["data.splits"]}
    table = {"name": "splits", "space": "small", "backbone": {"name": "resnet8"}}
    return recipe_from({**table, "data": data_table}, where="--set").data.splits


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wish:
    """What is asked for: a search of these images in this time."""

    # of the study
    name: str
    folder: str
    # split, or `all` -> readable images
    counts: Mapping[str, int]
    look: FolderLook
    seconds: float
    workers: int
    device: str
    # the user's settings by dotted keys
    given: dict[str, Any]

    @property
    def few(self) -> bool:
        """Whether each seed divides few images anew."""
        resplit = self.given.get("data.resplit", AUTO)
        few = "validation" not in self.counts and self.validated < FEW_VALIDATED
        return bool(few if resplit == AUTO else resplit)

    def most(self, seconds: float, speed: Speed, epochs: float) -> int:
        """The most candidates."""
        return most_of_few(seconds, speed, epochs) if self.few else MOST_CANDIDATES

    @property
    def trained(self) -> float:
        """Images to train on."""
        train = self.counts.get("train")
        if train is None:
            return TRAINED * self.look.images
        return train if "validation" in self.counts else 0.8 * train

    @property
    def validated(self) -> float:
        """Images to score on."""
        train = self.counts.get("train")
        if train is None:
            return VALIDATION * self.look.images
        return self.counts.get("validation", 0.2 * train)

    @property
    def session_s(self) -> float:
        """Seconds that measuring a candidate's latency takes."""
        if self.seconds > 1200:
            return 3.0
        return 1.0

    @property
    def stated(self) -> int | None:
        """The target's epochs, where the user says them."""
        if "training.rungs" in self.given and "target.epochs" not in self.given:
            return int(self.given["training.rungs"][-1])
        epochs = self.given.get("target.epochs", AUTO)
        if epochs == AUTO:
            return None
        return int(epochs)

    @property
    def start(self) -> str:
        """The user's choice of the target's start; empty without one."""
        names_weights = "pretrained" if "target.weights" in self.given else ""
        return str(self.given.get("target.start") or names_weights)

    def speed(self, timed: _Timed) -> Speed:
        return Speed(timed.epoch_s, self.workers, self.session_s)


def _richest(wish: _Wish) -> Budget:
    best: Budget | None = None
    timings: list[_Timed] = []
    for backbone, side in itertools.chain.from_iterable(_shapes(wish)):
        timed = _time(wish, backbone, side)
        timings.append(timed)
        budget = _fitted(timed, wish)
        if budget is not None and (best is None or budget.merits > best.merits):
            best = budget
        if best is not None and best.merits == MOST_MERITS:
            return best
    if best is not None:
        return best
    fastest = min(timings, key=lambda timed: timed.epoch_s)
    best = _fitted_brief(fastest, wish)
    if best is None:
        enough_s = _enough_s(wish.speed(fastest), wish.stated, fastest.usual)
        raise DataError(
            f"'{wish.folder}' is too much for {duration(wish.seconds)} here: the shortest search"
            f" takes {duration(enough_s)}, so give it --minutes {math.ceil(enough_s / 60)}, or a"
            " smaller backbone"
        )
    return best


def _time(wish: _Wish, backbone: str, side: int) -> _Timed:
    """The recipe of a backbone and a size of images as a table, and how long an epoch takes."""
    side = int(wish.given.get("data.size", side))
    table = _table(wish, backbone, side)
    lacking = _why_scratch(wish, backbone)
    start = "scratch" if lacking else "weights"
    table["target"] = {} if wish.start else target_table(start)
    usual = usual_epochs(_recipe(table, wish.given, epochs=AUTO), wish.trained)
    epochs = wish.stated or usual
    recipe = _recipe(table, wish.given, epochs=epochs)
    epoch_s = _epoch_s(wish, recipe, epochs)
    return _Timed(table, usual, epoch_s, lacking)


def _begun_before(name: str, folder: str, storage: str) -> BegunStudy | None:
    """The study of this name and folder, if it has begun."""
    begun = begun_study(name, storage)
    if begun is None or begun.recipe.data.name != f"folder:{folder}":
        return None
    return begun


def _continued(wish: _Wish, begun: BegunStudy) -> Budget:
    """What a study that has begun goes on with."""
    return Budget(
        begun.recipe,
        wish.seconds,
        wish.workers,
        wish.look,
        epoch_s=0.0,
        blocks=begun.recipe.target.seeds,
        images=max(1, round(wish.validated)),
        known=begun.candidates,
    )


def _shapes(wish: _Wish) -> list[list[tuple[str, int]]]:
    """Backbones and sides to choose from, the most costly first: those with published weights, then
    all others.
    """
    if own := wish.given.get("backbone.name"):
        return [[(str(own), side) for side in (96, 64, 32)]]
    shapes = list(PHOTO_NETS)
    if wish.trained < FEW_TRAINING_IMAGES:
        # it was no better than ResNet-8 on 500 and on 900 images (research/folders), and takes
        # the time of two further seeds
        shapes.remove(DEEPER_NET)
    if start := wish.start:
        return [[shape for shape in shapes if ":" in shape[0] or start != "pretrained"]]
    groups = (
        [shape for shape in shapes if not _no_weights(shape[0])],
        [shape for shape in shapes if _no_weights(shape[0])],
    )
    return [group for group in groups if group]


class _Timed(NamedTuple):
    """A backbone and a size of images, and how long they take."""

    table: dict[str, Any]
    # epochs for which a network is usually trained on these images
    usual: int
    epoch_s: float
    # why published weights are not used; empty: they are
    no_weights: str


def _why_scratch(wish: _Wish, backbone: str) -> str:
    """Why a network does not start from published weights: those of the first choice are not there,
    or it has none. Empty if it does, or if the user says how it starts.
    """
    if wish.start:
        return ""
    first_choice = ""
    if "backbone.name" not in wish.given:
        first_choice = _no_weights(PHOTO_NETS[0][0])
    return first_choice or _no_weights(backbone)


@functools.cache
def _no_weights(backbone: str) -> str:
    """The reason of `no_weights`, tried once; empty if there are some."""
    lacking = no_weights(backbone)
    return "" if lacking is None else lacking.reason


def _table(wish: _Wish, backbone: str, side: int) -> dict[str, Any]:
    images = wish.look.images
    task = tasks.find("classification", backbone)
    if images < 3000:
        pace = task.pace_of_few(wish.trained)
    else:
        pace = task.pace("folder:", small=False)
    training: dict[str, Any] = {
        "batch_size": pace.batch_size,
        "augment": [{"name": "flip"}, {"name": "crop", "padding": 4}],
    }
    preset = _preset(backbone)
    if preset is not None and not PRESET_STATED & wish.given.keys():
        training["preset"] = preset
    return {
        "name": wish.name,
        "space": "small",
        "backbone": {"name": backbone},
        "data": {"name": f"folder:{wish.folder}", "size": side, "broken_images": "skip"},
        "training": training,
    }


@functools.cache
def _preset(backbone: str) -> str | None:
    """The preset that a backbone needs."""
    section = backbone_section(backbone)
    side = tasks.find("classification", backbone).trial_side(backbone)
    return usual_preset(build(section, input_shape=(3, side, side), classes=10))


def _recipe(table: dict[str, Any], given: dict[str, Any], *, epochs: int | str) -> Recipe:
    """The recipe of a table with the user's settings, whose target has so many epochs unless they
    say otherwise.
    """
    length = {} if "training.rungs" in given else {"epochs": epochs}
    made = {**table, "target": {**table["target"], **length}}
    for key, value in given.items():
        section, _, name = key.rpartition(".")
        if section:
            made = {**made, section: {**made.get(section, {}), name: value}}
        else:
            made = {**made, name: value}
    return recipe_from(made, where=str(table["data"]["name"]))


def _epoch_s(wish: _Wish, recipe: Recipe, epochs: int) -> float:
    """Seconds of an epoch of the bare backbone, by a few steps of the target's training on
    noise. Raises BackboneError: the published weights that it is to start from are not there.
    """
    section = recipe.target_training
    side = recipe.data.size or 64
    shape = (3, side, side)
    trained = max(2, round(wish.trained))
    classes = wish.look.classes
    device = pick_device(wish.device)
    noise = _noise(min(section.step_size, trained), shape, classes, device)
    published = section.start == "pretrained" and section.weights == "default"
    model = build(recipe.backbone, input_shape=shape, classes=classes, pretrained=published)
    trainer = Trainer(
        section,
        noise,
        device=device,
        threads=threads_for(section, workers=wish.workers),
        arithmetic=new_arithmetic(section, noise, device, bare=model),
    )
    steps = math.ceil(trained / section.step_size)
    scoring = wish.validated / section.step_size / 3
    return trainer.step_s(model, steps * epochs) * (steps + scoring)


def _noise(images: int, shape: tuple[int, int, int], classes: int, device: torch.device) -> Dataset:
    """A data set of noise, which costs as much as photographs in memory."""
    noise = np.random.default_rng(0).integers(0, 256, (images, *shape), dtype=np.uint8)
    labels = torch.arange(images, device=device) % classes
    pixels = InMemory(torch.from_numpy(noise)).to(device)
    split = Split(pixels, labels, classes, (0.5,) * shape[0], (0.25,) * shape[0])
    names = tuple(map(str, range(classes)))
    return Dataset("noise", split, split, names, shape, "", lambda: split)


def _fitted(timed: _Timed, wish: _Wish) -> Budget | None:
    """The recipe with as many candidates as the time allows, whose runs train as the target says;
    None if not even a few pairs fit.
    """
    speed = wish.speed(timed)
    stated = wish.stated
    usual = timed.usual
    before_s = 0.0
    if not stated:
        before_s = usual_found_s(speed, usual)
    left_s = wish.seconds - before_s
    epochs = stated or usual
    fit = fitted(left_s, speed, epochs, most=wish.most(left_s, speed, epochs))
    if fit is None:
        return None
    budget = _budget(timed, wish, fit)
    if stated:
        return budget
    pretrained = budget.recipe.target.start == "pretrained"
    longer = longer_target(
        speed, usual, images=wish.trained, seconds=wish.seconds, pretrained=pretrained
    )
    return replace(budget, longer=longer)


def _fitted_brief(timed: _Timed, wish: _Wish) -> Budget | None:
    """The recipe of a search that trains more briefly than the target, and recommends nothing; None
    if there is no time even for this.
    """
    speed = wish.speed(timed)
    stated = wish.stated
    usual = timed.usual
    left_s = wish.seconds - lengths_s(speed, stated or usual)
    for epochs in shorter_lengths(stated or usual, with_itself=False):
        fit = fitted(left_s, speed, epochs, most=wish.most(left_s, speed, epochs))
        if fit is None:
            continue
        if stated and "training.rungs" not in wish.given:
            wish = replace(wish, given={**wish.given, "training.rungs": [epochs]})
        budget = _budget(timed, wish, replace(fit, blocks=0))
        return replace(budget, enough_s=_enough_s(speed, stated, usual))
    return None


def _enough_s(speed: Speed, stated: int | None, usual: int) -> float:
    """The shortest time of a search that trains as the target says."""
    if stated:
        return least_s(speed, stated)
    return found_length_s(speed, usual, usual)


def _budget(timed: _Timed, wish: _Wish, fit: Fit) -> Budget:
    table = {
        **timed.table,
        "space": "plug_and_play" if fit.trials >= MANY_TRIALS else "small",
        "target": {**timed.table["target"], "seeds": max(2, fit.blocks)},
        "latency": {"session_seconds": wish.session_s},
        "search": {"trials": fit.trials, "confirm_seeds": 1 if wish.seconds < 1200 else 2},
    }
    return Budget(
        _recipe(table, wish.given, epochs=AUTO),
        wish.seconds,
        wish.workers,
        wish.look,
        epoch_s=timed.epoch_s,
        blocks=fit.blocks,
        images=max(1, round(wish.validated)),
        no_weights=timed.no_weights,
        usual=timed.usual,
        pairs=fit.pairs,
        pool=round(wish.trained + wish.validated) if wish.few else None,
    )
