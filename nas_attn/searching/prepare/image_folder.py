"""Which search fits a folder of images and a time."""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from nas_attn.answer.advice.facts import LongerTarget
from nas_attn.backbones import build
from nas_attn.backbones.building import usual_preset
from nas_attn.backbones.weights_input import only_side
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.inventory import Inventory
from nas_attn.data.pixels import InMemory
from nas_attn.data.taking import take
from nas_attn.errors import DataError, several
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import backbone_section, recipe_from, study_name
from nas_attn.recipe.recipe import Recipe, SplitsSection, TrainingSection
from nas_attn.recipe.sections import FEW_VALIDATED, height_and_width
from nas_attn.recipe.tables import LAYER_NORM_PRESET
from nas_attn.recipe.target import AUTO, target_table
from nas_attn.recipe.units import duration
from nas_attn.searching.prepare.planning import (
    FEW_TRAINING_IMAGES,
    MOST_CANDIDATES,
    Fit,
    Speed,
    fitted,
    found_length_s,
    least_s,
    longer_target,
    most_of_few,
    planned_epochs,
    shares_lines,
    shorter_lengths,
    shown_text,
    smallest_gain,
    test_text,
    uniform_text,
    usual_epochs,
)
from nas_attn.storage.opening import begun_study
from nas_attn.system.wrapping import Line
from nas_attn.training.numerics import new_arithmetic, threads_for
from nas_attn.training.plan import Plan
from nas_attn.training.starts import no_weights, pick_device
from nas_attn.training.tasks.data import input_of
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
# candidates of a good search
ENOUGH_CANDIDATES = 16
# where there are few validation images, and each candidate needs many runs
ENOUGH_OF_FEW = 10
# settings with which the user says how weights are changed, so that no preset does
PRESET_STATED = {f"training.{name}" for name in ("preset", "optimizer", "learning_rate")}
# the large search space needs so many candidates
MANY_TRIALS = 36
# shares of a folder's images, where it is not divided already
TRAINED = 0.64
VALIDATION = 0.16


class FolderLook(NamedTuple):
    """What a folder of images holds."""

    classes: int
    images: int
    unreadable: int


@dataclass(frozen=True, slots=True)
class Budget:
    """What the search of a folder of images does with its time."""

    recipe: Recipe
    seconds: float
    workers: int
    look: FolderLook
    epoch_s: float
    """Of the bare backbone with one worker, while the others work, too."""
    blocks: int
    """Of the test at the end; 0: there is no time for it."""
    images: int
    """For validation, about."""
    no_weights: str = ""
    """Why published weights are not used; empty: they are, or the user says how it starts."""
    known: int = 0
    """Candidates that the study has already."""
    usual: int = 0
    """Epochs of a usual target, where the study must find its own."""
    enough_s: float | None = None
    """The time in which runs as the target says would fit, where this one is too short for them."""
    longer: LongerTarget | None = None
    """What it takes if the study finds a longer target; None: that is not to be expected."""
    pairs: int = 1
    """Of the best placement and the bare backbone, about."""
    pool: int | None = None
    """Images that each seed divides anew, where there are few; else None."""
    others_share: float = 0.0
    """Of the epochs, for networks other than placements."""
    longer_share: float = 0.0
    """Of the epochs, for a longer training of the bare backbone."""

    @property
    def smallest_difference(self) -> float:
        """A gain in accuracy of about this size is shown."""
        return smallest_gain(self.images, self.pairs, self.pool or self.images)

    @property
    def merits(self) -> int:
        """How many of these it has: enough candidates, a test."""
        enough = ENOUGH_CANDIDATES if self.pool is None else ENOUGH_OF_FEW
        return (self.recipe.search.trials >= enough) + (self.blocks > 0)


def budget_lines(budget: Budget, to_change: str = "") -> list[Line]:
    """The search of a folder of images, in a few lines. `to_change`: what to do for another
    target.
    """
    recipe = budget.recipe
    if budget.known:
        candidates = several(budget.known, "candidate")
        return [
            Line(f"study {recipe.name} goes on for {duration(budget.seconds)}; it has {candidates}")
        ]
    side = ""
    if recipe.data.size:
        height, width = height_and_width(recipe.data.size)
        side = f" at {height} × {width} pixels"
        if only_side(recipe.backbone.name):
            side += ", the only size that it takes"
    pace = f"{budget.epoch_s:.2g} s an epoch, {budget.workers} at a time"
    optimizer = _optimizer(recipe.target_training)
    target = _target(budget, recipe.target_training)
    gains = shown_text(budget.smallest_difference)
    look = budget.look
    left_out = f", {look.unreadable} unreadable (left out)" if look.unreadable else ""
    one_image = f"1 of {budget.images} validation images is {100 / budget.images:.1f} points"
    return [
        Line(f"{look.classes} classes, {look.images:,} images{left_out}", "images"),
        Line(f"{recipe.backbone.name}{side}{optimizer}: {pace}", "backbone"),
        Line(f"{target}{to_change}", "target"),
        Line(f"{duration(budget.seconds)}: {_plan_text(budget)}", "plan"),
        *shares_lines(budget.others_share, budget.longer_share),
        Line(f"{gains}; {one_image}", "shows"),
    ]


def _optimizer(training: TrainingSection) -> str:
    """`, trained by AdamW`, where the network needs another optimizer than most; else empty."""
    if training.preset != LAYER_NORM_PRESET:
        return ""
    return f", trained by {training.optimizer}"


def _target(budget: Budget, target: TrainingSection) -> str:
    """How long the target trains, and how it starts."""
    starts = {None: "from random weights", "default": "from the published weights"}
    start = starts.get(target.weights, f"from {target.weights}")
    if budget.no_weights:
        start += f" ({budget.no_weights})"
    if not budget.recipe.target_is_open:
        return f"{several(target.rungs[-1], 'epoch')} with attention {start}"
    return (
        f"as long as the bare backbone needs {start}: it is trained for {budget.usual} epochs,"
        f" {2 * budget.usual} … until twice as long is not clearly better"
    )


def _plan_text(budget: Budget) -> str:
    """What the search does with its time."""
    if budget.enough_s is not None:
        return (
            "too short for a recommendation. Candidates are trained more briefly than the target,"
            " which shows what learns early, and each one's latency;"
            f" --time {math.ceil(budget.enough_s / 60)}m would do"
        )
    recipe = budget.recipe
    uniform = uniform_text(few=budget.pool is not None)
    return (
        f"{several(recipe.search.trials, 'candidate')}{_guess(budget)}, {uniform} of them uniform,"
        f" trained as the target says; then more seeds for the best; {test_text(budget.blocks)}"
    )


def _guess(budget: Budget) -> str:
    """On which length of the target the plan rests."""
    if not budget.recipe.target_is_open:
        return ""
    will_do = f"if {budget.usual} epochs will do"
    if budget.longer is None:
        return f" ({will_do})"
    minutes = math.ceil(budget.longer.seconds / 60)
    return f" ({will_do}; for {budget.longer.epochs}, which are often needed: --time {minutes}m)"


def budget_as_json(budget: Budget) -> dict[str, Any]:
    """The search of a folder of images in JSON's types."""
    recipe = budget.recipe
    target = budget.recipe.target_training
    is_known = not recipe.target_is_open
    return {
        "study": recipe.name,
        "trials": recipe.search.trials,
        "start": target.start,
        "epochs": target.rungs[-1] if is_known else None,
        "usual_epochs": budget.usual,
        "searched_epochs": recipe.training.rungs[-1] if is_known else None,
        "enough_seconds": budget.enough_s,
        "longer": None if budget.longer is None else asdict(budget.longer),
        "backbone": recipe.backbone.name,
        "size": recipe.data.size,
        "seconds": budget.seconds,
        "workers": budget.workers,
        "epoch_s": budget.epoch_s,
        "blocks": budget.blocks,
        "images": budget.images,
        "known": budget.known,
        "others_share": budget.others_share,
        "longer_share": budget.longer_share,
    }


def with_shares(budget: Budget, networks: Plan) -> Budget:
    """The budget with how its training is shared between the means, which its networks decide;
    where nothing is compared, or a study goes on, as it was.
    """
    if budget.known or budget.enough_s is not None:
        return budget
    recipe = budget.recipe.with_resplit(budget.pool is not None)
    if recipe.target_is_open:
        recipe = recipe.with_length(budget.usual)
    rounds = budget.pairs - 1 - budget.blocks
    planned = planned_epochs(recipe, networks, recipe.search.trials, rounds=rounds)
    return replace(budget, others_share=planned.others_share, longer_share=planned.longer_share)


def plan_folder(
    folder: str, seconds: float, *, storage: str, workers: int, device: str, given: dict[str, Any]
) -> Budget:
    """Plans the richest search of a folder of images that fits the time, or takes up the one begun
    before.

    Args:
        folder: its path.
        seconds: for everything.
        storage: URL of the database.
        workers: that share the time.
        device: of the trainings.
        given: the user's settings by dotted keys.

    Raises:
        DataError: it is no folder of one folder per class, or too much for the time.
    """
    name = str(given.get("name") or study_name(Path(folder).resolve().name))
    # without a slash at its end
    shown = str(Path(folder))
    begun = begun_study(name, storage)
    if begun is not None and begun.recipe.data.name != f"folder:{shown}":
        begun = None
    splits = _given_splits(shown, given) if begun is None else begun.recipe.data.splits
    inventory = take(folder, splits=splits, channels=given.get("data.channels"))
    wish = _Wish(
        name=name,
        folder=shown,
        counts={split: sum(of.values()) for split, of in inventory.counts.items()},
        look=FolderLook(len(inventory.classes), inventory.images, len(inventory.unreadable)),
        inventory=inventory,
        seconds=seconds,
        workers=workers,
        device=device,
        given=given,
    )
    if begun is None:
        return _richest(wish)
    return Budget(
        begun.recipe,
        seconds,
        workers,
        wish.look,
        epoch_s=0.0,
        blocks=begun.recipe.target.seeds,
        images=max(1, round(wish.validated)),
        known=begun.candidates,
    )


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
    inventory: Inventory
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

    def fit(self, seconds: float, speed: Speed, epochs: float) -> Fit | None:
        """The richest search in these seconds whose runs have so many epochs."""
        most = most_of_few(seconds, speed, epochs) if self.few else MOST_CANDIDATES
        return fitted(seconds, speed, epochs, most=most, longer=epochs == self.stated)

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
    for backbone, side in _shapes(wish):
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
        enough_s = _enough_s(fastest, wish)
        raise DataError(
            f"'{wish.folder}' is too much for {duration(wish.seconds)} here: the shortest search"
            f" takes {duration(enough_s)}, so give it --time {math.ceil(enough_s / 60)}m, or a"
            " smaller backbone"
        )
    return best


def _time(wish: _Wish, backbone: str, side: int) -> _Timed:
    """The recipe of a backbone and a size of images as a table, and how long an epoch takes."""
    table = _table(wish, backbone, side)
    lacking = _why_scratch(wish, backbone)
    start = "scratch" if lacking else "weights"
    table["target"] = {} if wish.start else target_table(start)
    pretrained = wish.start == "pretrained" or not (wish.start or lacking)
    if pretrained and not PRESET_STATED & wish.given.keys():
        # the preset for trained weights says it all
        table["training"] = {}
    usual = usual_epochs(_recipe(table, wish.given, epochs=AUTO), wish.trained)
    epochs = wish.stated or usual
    recipe = _recipe(table, wish.given, epochs=epochs)
    epoch_s = _epoch_s(wish, recipe, epochs)
    return _Timed(table, usual, epoch_s, lacking)


def _shapes(wish: _Wish) -> list[tuple[str, int]]:
    """Backbones and sides for usual photographs to choose from, the most costly first: those with
    published weights, then all others.
    """
    if own := wish.given.get("backbone.name"):
        only = only_side(str(own))
        if only and wish.given.get("data.size", only) != only:
            raise DataError(
                f"data.size = {wish.given['data.size']}: '{own}' takes images of {only} x {only}"
                " pixels only; leave it out"
            )
        return [(str(own), side) for side in ((only,) if only else (96, 64, 32))]
    shapes = list(PHOTO_NETS)
    if wish.trained < FEW_TRAINING_IMAGES:
        # it was no better than ResNet-8 on 500 and on 900 images (research/folders), and takes
        # the time of two further seeds
        shapes.remove(DEEPER_NET)
    # small images are not enlarged, so that several sides are one
    shapes = list({(b, wish.inventory.proposed(s)): (b, s) for b, s in reversed(shapes)}.values())
    shapes.reverse()
    if start := wish.start:
        return [shape for shape in shapes if ":" in shape[0] or start != "pretrained"]
    return sorted(shapes, key=lambda shape: bool(_no_weights(shape[0])))


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
    size, fit, bands, *_ = input_of(wish.inventory, backbone, side)
    data: dict[str, Any] = {"name": f"folder:{wish.folder}", "size": size, "broken_images": "skip"}
    if fit != "cut" and "data.size" not in wish.given:
        data["fit"] = fit
    if bands is not None:
        data["channels"] = bands
    return {
        "name": wish.name,
        "space": "small",
        "backbone": {"name": backbone},
        "data": data,
        "training": training,
    }


@functools.cache
def _preset(backbone: str) -> str | None:
    """The preset that a backbone needs."""
    section = backbone_section(backbone)
    side = only_side(backbone) or tasks.find("classification", backbone).trial_side(backbone)
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
    shape = (recipe.data.channels or 3, *height_and_width(recipe.data.size or 64))
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
        arithmetic=new_arithmetic(section, noise.task, device, bare=model),
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
    usual = timed.usual
    if wish.stated:
        fit = wish.fit(wish.seconds, speed, wish.stated)
        return None if fit is None else _budget(timed, wish, fit)
    # the usual length is compared with twice as long
    fit = wish.fit(wish.seconds - speed.lengths_s(usual, 2 * usual), speed, usual)
    if fit is None:
        return None
    budget = _budget(timed, wish, fit)
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
    target = wish.stated or timed.usual
    left_s = wish.seconds - speed.lengths_s(target)
    for epochs in shorter_lengths(target, with_itself=False):
        fit = wish.fit(left_s, speed, epochs)
        if fit is None:
            continue
        if wish.stated and "training.rungs" not in wish.given:
            wish = replace(wish, given={**wish.given, "training.rungs": [epochs]})
        budget = _budget(timed, wish, replace(fit, blocks=0))
        return replace(budget, enough_s=_enough_s(timed, wish))
    return None


def _enough_s(timed: _Timed, wish: _Wish) -> float:
    """The shortest time of a search that trains as the target says."""
    speed = wish.speed(timed)
    if wish.stated:
        return least_s(speed, wish.stated)
    return found_length_s(speed, timed.usual, timed.usual)


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
