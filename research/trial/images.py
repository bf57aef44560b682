"""The trial's images: published ones at half their side, so that eight seeds fit into a night.

Each pixel is the mean of two by two. The two functions are data sets that a recipe names
(`data.name = "research.trial.images:fashion"`). `data.seed` draws the images for training and
validation; the test images are the published ones. Images are uint8 (N, C, H, W).
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn.data.parts import Labelled, Parts, Place
from nas_attn.data.published import read
from nas_attn.data.splitting import stratified
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection


def fashion(section: DataSection, place: Place) -> Parts:
    """Fashion-MNIST, grey, 14 x 14 pixels.

    Options: `train` and `validation`, how many images; `first_class` and `classes`, the first of
    the classes to keep, and how many.
    """
    return _halved("fashion-mnist", section, place)


def cifar(section: DataSection, place: Place) -> Parts:
    """CIFAR-10, 16 x 16 pixels; options as of `fashion`."""
    return _halved("cifar10", section, place)


def _halved(name: str, section: DataSection, place: Place) -> Parts:
    published = read(section.model_copy(update={"name": name, "options": {}}), place)
    first = _whole(section, "first_class", 0)
    classes = range(first, first + _whole(section, "classes", len(published.classes)))
    images = _of_classes(published.train, classes)
    train, rest = stratified(images.labels, _whole(section, "train"), section.seed)
    validation, _ = stratified(images.labels[rest], _whole(section, "validation"), section.seed)
    return Parts(
        _half(images.subset(train)),
        _half(images.subset(rest[validation])),
        lambda: _half(_of_classes(published.test(), classes)),
        tuple(published.classes[number] for number in classes),
    )


def _whole(section: DataSection, option: str, default: int | None = None) -> int:
    """An option that is a whole number. Raises DataError: it is missing, or something else."""
    value = section.options.get(option, default)
    if not isinstance(value, int):
        raise DataError(f"data.options.{option} must be a whole number, not {value!r}")
    return value


def _of_classes(images: Labelled, classes: range) -> Labelled:
    """The images of these classes, which are numbered anew in this order."""
    kept = images.subset(np.flatnonzero(np.isin(images.labels, classes)))
    new_number = {old: new for new, old in enumerate(classes)}
    labels = np.array([new_number[int(old)] for old in kept.labels], dtype=np.int64)
    return Labelled(kept.pixels, labels, kept.identity)


def _half(images: Labelled) -> Labelled:
    """Each two by two pixels become one."""
    pixels = _array(images)
    count, channels, height, width = pixels.shape
    blocks = pixels.reshape(count, channels, height // 2, 2, width // 2, 2)
    return Labelled.of(np.round(blocks.mean((3, 5))).astype(np.uint8), images.labels)


def _array(images: Labelled) -> NDArray[np.uint8]:
    everything = torch.arange(len(images.labels))
    batch: NDArray[np.uint8] = next(iter(images.pixels.fetch([everything]))).numpy()
    return batch
