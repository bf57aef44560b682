"""The table of data sets: a row for each name that `[data]` can have. What reads them is imported when it is asked for."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from nas_attn.errors import DataError, did_you_mean
from nas_attn.importing import load_object, named

Kind = Literal["classes", "masks", "boxes"]
"""What is known of an image: its class, a class for each pixel, or boxes with classes."""


@dataclass(frozen=True, slots=True)
class Row:
    """One data set, or one layout of a user's own files.

    `classes`, `masks` and `boxes` name the functions (`package.module:function`) that read it with such labels, empty where it
    has none. They are called with a `DataSection`, the device and the worker's share of the machine, and return
    `nas_attn.data.parts.Parts`.
    """

    name: str
    """What a recipe writes; of a layout with the place of its files, `folder:PATH`."""
    classes: str = ""
    masks: str = ""
    boxes: str = ""
    grey: bool = False
    """Images of one channel: the mean and deviation of published weights do not apply."""
    small: bool = False
    """Small pictures that a few epochs suffice for, and that must not be mirrored."""


_DIGITS, _BOXES, _PUBLISHED = "nas_attn.data.digits", "nas_attn.data.boxed", "nas_attn.data.published"
ROWS = (
    Row("cued-digits", classes="nas_attn.data.cued:cued", grey=True, small=True),
    Row(
        "digits",
        classes=f"{_DIGITS}:cluttered",
        masks=f"{_DIGITS}:masked",
        boxes=f"{_BOXES}:digits",
        grey=True,
        small=True,
    ),
    Row("digits-8x8", classes=f"{_DIGITS}:plain", grey=True, small=True),
    Row("fashion-mnist", classes=f"{_PUBLISHED}:read", grey=True, small=True),
    Row("mnist", classes=f"{_PUBLISHED}:read", grey=True, small=True),
    Row("cifar10", classes=f"{_PUBLISHED}:read"),
    Row("cifar100", classes=f"{_PUBLISHED}:read"),
    Row("folder:PATH", classes="nas_attn.data.folder:read", masks="nas_attn.data.mask_folder:read"),
    Row("coco:FOLDER", boxes=f"{_BOXES}:coco_folder"),
    Row("yolo:PATH.yaml"),  # a trainer other than ours reads these itself
)


def find(name: str) -> Row | None:
    """The row of a name as a recipe writes it; None where there is none.

    Any other `package.module:function` is a user's own, which reads whatever labels the task needs: one that takes a `split` gives
    a `torch.utils.data.Dataset` (`nas_attn.data.own`), another one is called as those of the table.
    """
    source, colon, _ = name.partition(":")
    known = next((row for row in ROWS if row.name == name or (colon and row.name.startswith(f"{source}:"))), None)
    return known or (Row(name, classes=name, masks=name, boxes=name) if colon else None)


def names(kind: Kind) -> list[str]:
    """The data sets that have such labels."""
    return [row.name for row in ROWS if getattr(row, kind)]


def reader(name: str, kind: Kind) -> Callable[..., Any]:
    """The function that reads a data set with such labels.

    Raises:
        DataError: there is no such data set, or it has no such labels.
    """
    row = find(name)
    if row is None:
        raise DataError(f"unknown data set '{name}': {did_you_mean(name, names(kind))}")
    if not getattr(row, kind):
        raise DataError(f"'{name}' has no {kind}: give {', '.join(names(kind))}")
    function: Callable[..., Any] = load_object(getattr(row, kind), what="data set", error=DataError)
    if "split" in inspect.signature(function).parameters:  # a user's own torch.utils.data.Dataset
        return partial(named("nas_attn.data.own:read"), function, kind)
    return function
