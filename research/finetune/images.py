"""The folders: some images of some classes to train on, and 1,000 others to judge by."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

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
