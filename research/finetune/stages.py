"""Folders of images, problems (a trained network and a folder), recipes, and the stages of the
choice.
"""

from __future__ import annotations

import gzip
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torchvision.datasets import CIFAR10

UNSEEN = 1000
ENLARGED = 288
"""Pixels of a photograph's side before the pipeline makes it smaller."""


@dataclass(frozen=True)
class Sources:
    """Where published images and weights are, and where those made here are kept."""

    cifar: Path
    fashion: Path
    weights: Path
    work: Path


@dataclass(frozen=True)
class Images:
    """Which images a folder has."""

    name: str
    """Of the data set that they are from: `cifar…` or `fashion…`."""
    classes: tuple[int, ...]
    count: int
    enlarged: bool = True
    seed: int = 0


@dataclass(frozen=True)
class Folder:
    """Images as float32 (N, 3, side, side), normalised by mean and deviation of 0.5."""

    images: Tensor
    labels: Tensor
    unseen: Tensor
    unseen_labels: Tensor
    classes: int


FIRST = (0, 1, 2, 3, 4)
ALL = (*FIRST, 5, 6, 7, 8, 9)


@dataclass(frozen=True)
class Recipe:
    """A way to fine-tune."""

    optimizer: str
    rate: float
    decay: float = 0.05
    batch: int = 32
    flip: bool = True
    crop: bool = False
    average: float = 0.0
    """Decay of the averaged weights per hundredth of an epoch; 0: the last weights count."""
    layer_decay: float = 1.0
    """Factor on the rate for each twelfth of the network, from its end to its beginning."""
    head: float = 1.0
    """Factor on the rate of the new head."""
    head_sum: float = 0.0
    """Where not 0: rate of the new head, times its number of features; `head` does not count."""
    by_hand: bool = False
    """As in twenty lines of PyTorch: torch's own head, one decay, half a cosine from the peak."""


@dataclass(frozen=True)
class Problem:
    """A trained network, and a folder that it is fine-tuned on."""

    network: str
    side: int
    images: Images
    weights: str = ""
    """A file of published weights."""
    before: Images | None = None
    """What the network is trained on here, in place of a file."""
    before_epochs: int = 0
    before_recipe: Recipe = Recipe("AdamW", rate=0.002, batch=64, crop=True)


@dataclass(frozen=True)
class Trial:
    """One training."""

    problem: str
    recipe: Recipe
    epochs: int
    seed: int = 0


LITE = "timm:tf_efficientnet_lite"
LAST = (5, 6, 7, 8, 9)
BEFORE = Images("cifar-before", ALL, 10000, enlarged=False)
OTHERS = Images("cifar-others", LAST, 10000, enlarged=False)
MOBILENET = Problem("torchvision:mobilenet_v3_small", 48, OTHERS, before=OTHERS, before_epochs=7)
FEW = Images("cifar", FIRST, 300)
RESNET18 = Problem("torchvision:resnet18", 48, OTHERS, before=OTHERS, before_epochs=5)
LITE0 = Problem(f"{LITE}0", 96, FEW, "lite0.pt")
FASHION = Images("fashion", ALL, 600, seed=3)
PROBLEMS = MappingProxyType(
    {
        "mobilenet-fashion": Problem(
            "torchvision:mobilenet_v3_small",
            64,
            Images("fashion", ALL, 600),
            before=BEFORE,
            before_epochs=3,
            before_recipe=Recipe("SGD", rate=0.05, decay=5e-4, batch=64, crop=True),
        ),
        "resnet20-fashion": Problem(
            "resnet20", 32, Images("fashion", ALL, 300, seed=1), "resnet20_cifar10.npz"
        ),
        "lite0-first": LITE0,
        "lite0-first-575": replace(LITE0, images=Images("cifar", FIRST, 575)),
        "mobilenet-few": replace(MOBILENET, images=FEW),
        "lite0-64": replace(LITE0, side=64),
        "mobilenet-clothes": replace(MOBILENET, images=FASHION),
        "resnet18-few": replace(RESNET18, images=FEW),
        "resnet18-clothes": replace(RESNET18, images=FASHION),
        "lite1-last": Problem(f"{LITE}1", 64, Images("cifar", LAST, 300, seed=4), "lite1.pt"),
        "lite2-last": Problem(f"{LITE}2", 64, Images("cifar", LAST, 300, seed=4), "lite2.pt"),
    }
)
CHEAP = ("mobilenet-fashion", "resnet20-fashion")


def _adam(rate: float) -> Recipe:
    return Recipe("AdamW", rate)


def _sgd(rate: float) -> Recipe:
    return Recipe("SGD", rate, decay=5e-4)


def _each(
    recipes: Sequence[Recipe], problems: Sequence[str], epochs: int, seed: int
) -> list[Trial]:
    return [Trial(problem, recipe, epochs, seed) for recipe in recipes for problem in problems]


RATES = (
    _adam(3e-4),
    _adam(1e-3),
    _sgd(0.01),
    _adam(1e-4),
    _sgd(0.03),
    _adam(3e-3),
    _sgd(0.003),
)
HEADS = (
    replace(_adam(3e-4), head=10),
    replace(_adam(1e-3), head=10),
    replace(_adam(1e-3), batch=16),
    replace(_sgd(0.01), head=10),
    replace(_adam(1e-3), head=10, batch=16),
    _sgd(0.1),
)
"""The rates say: far from the first data, few steps at a low rate leave a head of zeros behind."""
BETWEEN = replace(_adam(5e-4), head=10)
SMALLER = replace(BETWEEN, batch=16)
SUM = replace(_adam(5e-4), head_sum=4, batch=16)
FOUND = tuple(replace(SUM, rate=5e-4 * factor) for factor in (1 / 3, 1, 3))
"""What `target.learning_rate = "auto"` compares."""
CHOICE = (
    BETWEEN,
    SMALLER,
    replace(_adam(1e-3), batch=16),
    replace(_adam(1e-3), head=3, batch=16),
    replace(_adam(1e-3), head=10, batch=16),
    SUM,
    replace(_adam(1e-3), head_sum=4, batch=16),
    replace(_sgd(0.01), batch=16),
    replace(_sgd(0.01), head=10, batch=16),
    replace(SMALLER, layer_decay=0.9),
    replace(SMALLER, average=0.9),
    replace(SMALLER, crop=True),
)
CHOSEN_ON = ("mobilenet-few", "resnet20-fashion")
HANDS = tuple(replace(_adam(rate), decay=0.01, by_hand=True) for rate in (3e-4, 1e-3))
"""Twenty lines of PyTorch."""
STAGES = MappingProxyType(
    {
        "rates": _each(RATES, CHEAP, 5, 0),
        "heads": _each(HEADS, CHEAP, 5, 0),
        "first": [Trial("lite0-first-575", _adam(3e-4), 5)],
        "lite": _each((HEADS[1], HEADS[0], _adam(1e-3), _sgd(0.03)), ("lite0-first",), 5, 0),
        "between": [
            *_each([BETWEEN], (*CHEAP, "lite0-first"), 5, 0),
            *_each([replace(BETWEEN, batch=16)], ("lite0-first",), 5, 0),
        ],
        "choice": _each(CHOICE, CHOSEN_ON, 5, 0),
        "left": [
            *_each([SUM], ["lite0-first"], 5, 0),
            *_each([BETWEEN, SMALLER, SUM, *HANDS], CHOSEN_ON, 5, 1),
            *_each(HANDS, CHOSEN_ON, 5, 0),
        ],
        "small": _each([HANDS[1], SUM, BETWEEN, replace(_adam(1e-3), head=3)], ["lite0-64"], 5, 0),
        "judges": [
            *_each([SMALLER, HANDS[1], BETWEEN, SUM], ["lite1-last", "mobilenet-clothes"], 5, 0),
            *_each([SMALLER], ["lite0-64"], 5, 0),
            *_each([SUM, HANDS[1]], ["lite2-last"], 5, 0),
            *_each([HANDS[1]], ["lite0-first"], 5, 0),
        ],
        "found": [
            *_each(FOUND, ["resnet20-fashion"], 5, 0),
            *_each(FOUND, ["resnet20-fashion"], 5, 1),
            *_each(FOUND, ["mobilenet-clothes"], 5, 0),
            *_each(FOUND, ["mobilenet-clothes"], 5, 1),
            *_each(FOUND, ["lite1-last"], 5, 0),
            *_each(FOUND, ["lite1-last"], 5, 1),
        ],
        "long": [
            *_each([SUM, HANDS[1]], ["resnet20-fashion", "mobilenet-clothes"], 20, 0),
            *_each([SUM, HANDS[1]], ["resnet20-fashion", "mobilenet-clothes"], 20, 1),
            *_each([SUM, HANDS[1]], ["lite1-last"], 20, 0),
        ],
        "resnet18": [
            *_each([SUM, *HANDS], ["resnet18-few", "resnet18-clothes"], 5, 0),
            *_each([SUM, *HANDS], ["resnet18-few", "resnet18-clothes"], 5, 1),
            *_each([SUM, HANDS[1]], ["resnet18-few", "resnet18-clothes"], 20, 0),
        ],
        "lengths": _each([SUM], ["resnet20-fashion", "lite0-64", "lite1-last"], 10, 0),
    }
)


@lru_cache(maxsize=4)
def folder_of(images: Images, side: int, sources: Sources) -> Folder:
    """Reads a folder at so many pixels."""
    read = _cifar if images.name.startswith("cifar") else _fashion
    directory = sources.cifar if images.name.startswith("cifar") else sources.fashion
    parts = []
    for training, count in ((True, images.count), (False, UNSEEN)):
        pixels, labels = read(directory, training=training)
        rows = _rows(labels, images.classes, count, seed=images.seed)
        x = np.stack([_resized(pixels[row], side, enlarged=images.enlarged) for row in rows])
        x = torch.from_numpy(x).permute(0, 3, 1, 2).float().div(127.5).sub(1)
        y = torch.tensor([images.classes.index(int(labels[row])) for row in rows])
        parts += [x.contiguous(), y]
    return Folder(parts[0], parts[1], parts[2], parts[3], len(images.classes))


def _rows(
    labels: NDArray[np.int64], classes: tuple[int, ...], count: int, *, seed: int
) -> NDArray[np.int64]:
    """Equally many images of each class, in random order."""
    random = np.random.default_rng(seed)
    each = count // len(classes)
    taken = [random.permutation(np.flatnonzero(labels == one))[:each] for one in classes]
    return random.permutation(np.concatenate(taken))


def _resized(pixels: NDArray[np.uint8], side: int, *, enlarged: bool) -> NDArray[np.uint8]:
    image = Image.fromarray(pixels).convert("RGB")
    if enlarged:
        image = image.resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC)
    if image.size != (side, side):
        image = image.resize((side, side), Image.Resampling.BICUBIC)
    return np.asarray(image)


def _cifar(directory: Path, *, training: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    published = CIFAR10(str(directory), train=training)
    return published.data, np.asarray(published.targets, np.int64)


def _fashion(directory: Path, *, training: bool) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    part = "train" if training else "t10k"
    content = gzip.decompress((directory / f"{part}-images-idx3-ubyte.gz").read_bytes())
    pixels = np.frombuffer(content, np.uint8, offset=16).reshape(-1, 28, 28)
    content = gzip.decompress((directory / f"{part}-labels-idx1-ubyte.gz").read_bytes())
    return pixels, np.frombuffer(content, np.uint8, offset=8).astype(np.int64)
