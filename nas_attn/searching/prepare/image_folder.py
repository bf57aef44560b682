"""The search of a folder of images with a class each: its network, the size of its images and its
number of candidates, by the time that it has.

From published weights, the network is the one that people would deploy, at the size of its weights.
In less time, it trains for the usual epochs instead of finding out how many it needs; in still
less, its images shrink. From random weights, it is the largest of a few in which enough candidates
fit.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nas_attn.backbones import build
from nas_attn.backbones.building import usual_preset
from nas_attn.backbones.weights_input import only_side, weights_input
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.inventory import Inventory
from nas_attn.data.looks import of
from nas_attn.data.pixels import Images
from nas_attn.errors import DataError, several
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import backbone_section, recipe_from, study_name
from nas_attn.recipe.recipe import Recipe
from nas_attn.recipe.sections import FEW_VALIDATED, InputSize, height_and_width
from nas_attn.recipe.target import AUTO
from nas_attn.recipe.task import InputProposal
from nas_attn.recipe.units import duration
from nas_attn.searching.prepare.estimate import (
    ImageCounts,
    SearchEstimate,
    TimedSearch,
    epoch_seconds,
    epoch_text,
    estimate_as_json,
    time_lines,
    with_usual_length,
)
from nas_attn.searching.prepare.fitting import Speed
from nas_attn.storage.opening import begun_study
from nas_attn.system.wrapping import Line
from nas_attn.training.plan import session_s
from nas_attn.training.starts import no_weights, pick_device
from nas_attn.training.tasks.data import input_of

# time for a folder, if none is given
HOUR_S = 3600.0
# from published weights, unless another network is named
USUAL_NET = "torchvision:resnet18"
# sides to which images shrink where those of the weights take too long
SHRUNK_SIDES = (160, 128, 96)
# networks and sides of images from random weights, the most costly first
DEEPER_NET = ("resnet20", 32)
RANDOM_NETS = (
    ("torchvision:resnet18", 96),
    ("torchvision:resnet18", 64),
    DEEPER_NET,
    ("resnet8", 32),
)
# the same of a network that the user names
RANDOM_SIDES = (96, 64, 32)
# candidates of a good search; and of one with few validation images, where each needs many runs
ENOUGH_CANDIDATES = 16
ENOUGH_OF_FEW = 10
# the large search space needs so many candidates
MANY_TRIALS = 36
# a longer search measures latencies more precisely, and confirms with more seeds
LONG_S = 1200.0
# of a folder's images, and of these: shares where it is not divided already
NOT_TESTED = 0.8
VALIDATED = 0.2
# settings with which the user says how weights are changed, so that no preset does
PRESET_STATED = {f"training.{name}" for name in ("preset", "optimizer", "learning_rate")}


# ------------------------------------------------------------------------------- how it is chosen


@dataclass(frozen=True, slots=True, kw_only=True)
class FolderSearch:
    """The search of a folder of images that was chosen, or begun before."""

    recipe: Recipe
    seconds: float
    workers: int
    timed: TimedSearch | None = None
    """None: the study was begun before."""
    fits: int = 0
    """Candidates for which there is time; 0: too few to compare."""
    known: int = 0
    """Candidates that the study has already."""
    no_weights: str = ""
    """Why it starts from random weights; empty: it does not, or the user wants it."""
    why_size: str = ""
    """Why images have this size, as a sentence; empty: the images decide, or the time."""
    has_usual_length: bool = False
    """Whether the target trains for the usual epochs, for lack of time to find its own."""
    whole: TimedSearch | None = None
    """The same with images as large as those of the weights, for which there is no time; None:
    images are that large, or nobody knows how large these are.
    """


@dataclass(frozen=True, kw_only=True)
class FolderRequest:
    """A search of a folder of images, as its user asks for it."""

    folder: str
    seconds: float
    """For everything."""
    storage: str
    """URL of the database."""
    workers: int
    """That share the time."""
    device: str
    """Of the trainings."""
    settings: Mapping[str, Any]
    """What the user says of the recipe, by dotted keys: all else is chosen here."""

    def recipe(self, chosen: Mapping[str, Any]) -> Recipe:
        """The recipe by what is chosen (by dotted keys) and what the user says."""
        # without a slash at its end
        where = f"folder:{Path(self.folder)}"
        usual = {
            "name": study_name(Path(self.folder).resolve().name),
            "space": "small",
            "backbone.name": USUAL_NET,
            "data.name": where,
        }
        return recipe_from({}, where=where, overrides={**usual, **chosen, **self.settings})

    @cached_property
    def said(self) -> Recipe:
        """The user's settings; what else it says is not chosen yet."""
        return self.recipe({})

    @cached_property
    def no_weights(self) -> str:
        """As in `FolderSearch`."""
        if {"target.start", "target.weights"} & self.settings.keys():
            return ""
        return no_weights(self.said.backbone.name)

    @cached_property
    def weights(self) -> str | None:
        """`default`, a file, or None: random ones."""
        if {"target.start", "target.weights"} & self.settings.keys():
            return self.said.target.weights
        return None if self.no_weights else "default"

    @cached_property
    def inventory(self) -> Inventory:
        """The images. Raises DataError: it is no folder of one folder per class."""
        found = of(self.said.data, "classes")
        assert found is not None
        return found

    @cached_property
    def images(self) -> ImageCounts:
        """About how many images train and validate."""
        counts = {split: sum(of.values()) for split, of in self.inventory.counts.items()}
        trained = counts.get("train", NOT_TESTED * self.inventory.images)
        validated = counts.get("validation", VALIDATED * trained)
        if "validation" not in counts:
            trained -= validated
        few = self.said.data.resplit
        if few == AUTO:
            few = "validation" not in counts and validated < FEW_VALIDATED
        return ImageCounts(trained, validated, few)

    @property
    def enough(self) -> int:
        """With so many candidates, no less costly network is tried. From trained weights, each
        pixel counts for more than the number of candidates.
        """
        if self.weights is not None:
            return 1
        return ENOUGH_OF_FEW if self.images.few else ENOUGH_CANDIDATES

    def networks(self) -> Iterator[tuple[str, InputProposal]]:
        """The networks to choose from, the most costly first, and what each is fed."""
        name = self.said.backbone.name
        own = weights_input(name, self.weights)
        if own is not None and own.size is not None:
            yield from ((name, taken) for taken in self._inputs_of_weights(name))
            return
        shapes = [(name, side) for side in RANDOM_SIDES]
        if "backbone.name" not in self.settings and self.weights is None:
            shapes = list(RANDOM_NETS)
            if self.images.trained < tasks.FEW_TRAINING_IMAGES:
                # it was no better than ResNet-8 on 500 and on 900 images (research/folders), and
                # takes the time of two further seeds
                shapes.remove(DEEPER_NET)
        # small images are not enlarged, and a stated size stays, so that several sides may be one
        yield from dict.fromkeys((one, self._input(one, side)) for one, side in shapes)

    def _inputs_of_weights(self, backbone: str) -> Iterator[InputProposal]:
        """What a network with weights of a known size is fed: as these want it, then smaller
        images.
        """
        own = self._input(backbone, RANDOM_SIDES[0], self.weights)
        yield own
        if self.said.data.size is not None or only_side(backbone, self.weights) is not None:
            return
        least = own.size
        for side in SHRUNK_SIDES:
            size, fit = self.inventory.proposed(side, least=side)
            if math.prod(height_and_width(size)) < math.prod(height_and_width(least)):
                least = size
                yield own._replace(size=size, fit=fit, why="")

    def _input(self, backbone: str, side: int, weights: str | None = None) -> InputProposal:
        """How the images become a network's input. Raises DataError: it takes no images of the size
        that the user states.
        """
        proposed = input_of(self.inventory, backbone, side, weights)
        stated = self.said.data.size
        if stated is None:
            return proposed
        only = only_side(backbone, weights)
        if only is not None and stated != only:
            raise DataError(
                f"data.size = {stated}: '{backbone}' takes images of {only} x {only} pixels only;"
                " leave it out"
            )
        return InputProposal(stated, self.said.data.fit, proposed.channels)

    def search(self, backbone: str, taken: InputProposal) -> FolderSearch:
        """Times a network, and finds how many candidates fit. Raises BackboneError: the published
        weights that it is to start from are not there.
        """
        made = self._recipe(backbone, taken, AUTO, trials=1)
        whole, guess = with_usual_length(made, self.images.trained)
        speed = Speed(_epoch_s(whole, self), self.workers, session_s(made))
        search = self._fitted(backbone, taken, AUTO, speed)
        if search.fits == 0 and guess is not None and self.weights is not None:
            # pixels bring more than a length of its own
            return self._fitted(backbone, taken, guess, speed)
        return search

    def _fitted(
        self, backbone: str, taken: InputProposal, epochs: int | str, speed: Speed
    ) -> FolderSearch:
        """Finds how many candidates of a network fit; `epochs`: of the target, or "auto"."""
        fits = 0
        for _ in range(2):
            recipe = self._recipe(backbone, taken, epochs, trials=max(1, fits))
            whole, guess = with_usual_length(recipe, self.images.trained)
            timed = TimedSearch(whole, guess, speed, self.images)
            fit = timed.fit(self.seconds)
            fits = 0 if fit is None else fit.trials
        return FolderSearch(
            recipe=recipe,
            seconds=self.seconds,
            workers=self.workers,
            timed=timed,
            fits=fits,
            no_weights=self.no_weights,
            why_size=taken.why,
            has_usual_length=not recipe.target_is_open and "target.epochs" not in self.settings,
        )

    def _recipe(
        self, backbone: str, taken: InputProposal, epochs: int | str, trials: int
    ) -> Recipe:
        """The recipe with a network and a length of its target, and what the user says."""
        is_long = self.seconds > LONG_S
        chosen: dict[str, Any] = {
            "space": "plug_and_play" if trials >= MANY_TRIALS else "small",
            "backbone.name": backbone,
            "data.size": taken.size,
            "data.fit": taken.fit,
            "data.channels": taken.channels,
            "data.broken_images": "skip",
            "target.start": "scratch" if self.weights is None else "pretrained",
            "target.weights": None if self.weights is None else "default",
            "target.epochs": epochs,
            "latency.session_seconds": 3.0 if is_long else 1.0,
            "search.trials": trials,
            "search.confirm_seeds": 2 if is_long else 1,
        }
        stated = PRESET_STATED & self.settings.keys()
        # the preset for trained weights says it all
        if self.weights is None or stated:
            task = tasks.find(tasks.USUAL_TASK, backbone)
            pace = tasks.usual_pace(task, "folder:", self.images.trained)
            chosen["training.batch_size"] = pace.batch_size
            chosen["training.augment"] = [{"name": "flip"}, {"name": "crop", "padding": 4}]
        if self.weights is None and not stated and (preset := _preset(backbone)) is not None:
            chosen["training.preset"] = preset
        return self.recipe(chosen)


def plan_folder(request: FolderRequest) -> FolderSearch:
    """Chooses the search of a folder of images, or takes up the one that was begun before.

    Raises:
        DataError: it is no folder of one folder per class, or too much for the time.
        BackboneError: the published weights that it is to start from are not there.
    """
    said = request.said
    begun = begun_study(said.name, request.storage)
    if begun is not None and begun.recipe.data.name == said.data.name:
        return FolderSearch(
            recipe=begun.recipe,
            seconds=request.seconds,
            workers=request.workers,
            known=begun.candidates,
        )
    options: list[FolderSearch] = []
    for backbone, taken in request.networks():
        options.append(request.search(backbone, taken))
        if options[-1].fits >= request.enough:
            break
    chosen = max(options, key=lambda option: option.fits)
    if chosen.fits == 0:
        least_s = min(option.timed.least_s for option in options if option.timed)
        raise DataError(
            f"'{request.folder}' is too much for {duration(request.seconds)} here: the shortest"
            f" search takes {duration(least_s)}, so give it --time {math.ceil(least_s / 60)}m, or a"
            " smaller backbone"
        )
    if request.weights is not None and chosen is not options[0]:
        return replace(chosen, whole=options[0].timed)
    return chosen


@functools.cache
def _preset(backbone: str) -> str | None:
    """The preset that a backbone needs."""
    section = backbone_section(backbone)
    side = only_side(backbone) or tasks.find(tasks.USUAL_TASK, backbone).trial_side(backbone)
    return usual_preset(build(section, input_shape=(3, side, side), classes=10))


def _epoch_s(recipe: Recipe, folder: FolderRequest) -> float:
    """Seconds of an epoch of the bare backbone, by a few steps of its training on noise, which
    costs as much as photographs in memory. Raises BackboneError: the published weights that it is
    to start from are not there.
    """
    section = recipe.target_training
    shape = (recipe.data.channels or 3, *height_and_width(recipe.data.size or 64))
    classes = len(folder.inventory.classes)
    device = pick_device(folder.device)
    count = max(2, round(min(section.step_size, folder.images.trained)))
    noise = np.random.default_rng(0).integers(0, 256, (count, *shape), dtype=np.uint8)
    split = Split(
        Images.of(torch.from_numpy(noise)).to(device),
        torch.arange(count, device=device) % classes,
        classes,
        (0.5,) * shape[0],
        (0.25,) * shape[0],
    )
    names = tuple(map(str, range(classes)))
    dataset = Dataset("noise", split, split, names, shape, "", lambda: split)
    published = section.start == "pretrained" and section.weights == "default"
    model = build(recipe.backbone, input_shape=shape, classes=classes, pretrained=published)
    return epoch_seconds(section, dataset, model, folder.images, workers=folder.workers)


# ---------------------------------------------------------------------------------- how it is said


def folder_lines(
    search: FolderSearch, estimate: SearchEstimate | None, to_change: str = ""
) -> list[Line]:
    """The search of a folder of images, in a few lines.

    Args:
        search: what was chosen.
        estimate: what it does with its time; None: it was begun before.
        to_change: what to do for another target.
    """
    recipe = search.recipe
    if estimate is None or search.timed is None:
        candidates = several(search.known, "candidate")
        return [
            Line(f"study {recipe.name} goes on for {duration(search.seconds)}; it has {candidates}")
        ]
    lines = [Line(_network_text(recipe, search.timed.speed), "backbone")]
    if search.why_size:
        lines.append(Line(search.why_size))
    if search.whole is not None:
        # in a training of five epochs with AdamW at a rate of .001, on 575 photographs of five
        # classes
        lines.append(
            Line(
                f"images of {_pixels(recipe.data.size)} pixels instead of"
                f" {_pixels(search.whole.recipe.data.size)}, for lack of time. This usually costs"
                " much: EfficientNet-Lite0 reached 87 % at 224 × 224 and 78 to 79 % at 96 × 96 in"
                f" five epochs. --time {math.ceil(search.whole.least_s / 60)}m would do for all"
                " pixels",
                "shrunk",
            )
        )
    if search.no_weights:
        # on 900 photographs of five classes
        lines.append(
            Line(
                f"random ones, since {search.no_weights}. Published weights would do far more:"
                " EfficientNet-Lite0 reached 87 % with them in five epochs, ResNet-8 from random"
                " weights 64 to 69 % in a search. Let this machine download them once, or name a"
                " file: --backbone timm:NAME --target FILE",
                "weights",
            )
        )
    lines.append(Line(f"{_target_text(search, search.timed.guess)}{to_change}", "target"))
    lines += time_lines(estimate)
    images = max(1, round(search.timed.images.validated))
    lines.append(Line(f"1 of {images} validation images is {100 / images:.1f} points", "one image"))
    return lines


def _network_text(recipe: Recipe, speed: Speed) -> str:
    side = ""
    if recipe.data.size:
        side = f" at {_pixels(recipe.data.size)} pixels"
        if only_side(recipe.backbone.name, recipe.target.weights):
            side += ", the only size that it takes"
    epoch = epoch_text(speed.epoch_s)
    return f"{recipe.backbone.name}{side}: {epoch} an epoch, {speed.workers} at a time"


def _pixels(size: InputSize | None) -> str:
    assert size is not None
    height, width = height_and_width(size)
    return f"{height} × {width}"


def _target_text(search: FolderSearch, guess: int | None) -> str:
    """How long the target trains, and how it starts."""
    target = search.recipe.target_training
    starts = {None: "from random weights", "default": "from the published weights"}
    start = starts.get(target.weights, f"from {target.weights}")
    if guess is None:
        text = f"{several(target.rungs[-1], 'epoch')} with attention {start}"
        if search.has_usual_length:
            text += ", as is usual; with a longer --time, the search finds how many it needs"
        return text
    return (
        f"as long as the bare backbone needs {start}: it is trained for {guess} epochs,"
        f" {2 * guess} … until twice as long is not clearly better"
    )


def folder_as_json(search: FolderSearch, estimate: SearchEstimate | None) -> dict[str, Any]:
    """The search of a folder of images in JSON's types; `estimate`: None if it was begun before."""
    recipe = search.recipe
    target = recipe.target_training
    is_known = not recipe.target_is_open
    shrunk = None
    if search.whole is not None:
        shrunk = {"own": search.whole.recipe.data.size, "enough_s": search.whole.least_s}
    shared: dict[str, Any] = {"study": recipe.name, "trials": recipe.search.trials}
    if estimate is not None:
        shared = estimate_as_json(estimate)
    return {
        **shared,
        "start": target.start,
        "epochs": target.rungs[-1] if is_known else None,
        "usual_epochs": None if search.timed is None else search.timed.guess,
        "searched_epochs": recipe.training.rungs[-1] if is_known else None,
        "backbone": recipe.backbone.name,
        "size": recipe.data.size,
        "shrunk": shrunk,
        "no_weights": search.no_weights,
        "seconds": search.seconds,
        "workers": search.workers,
        "known": search.known,
    }
