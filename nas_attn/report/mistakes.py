"""What the compared networks get wrong, as the report and the notebook show it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nas_attn.answer.answer import Answer
from nas_attn.answer.per_image import ABSOLUTE_ERROR, Mistakes
from nas_attn.recipe import units
from nas_attn.report import page_tables
from nas_attn.report.album import Album

MISTAKEN_IMAGES: Mapping[str, str] = {
    "accuracy": (
        "The share of its runs in which each network is right, and what it takes the image for most"
        " often."
    ),
    "mean_ap": (
        "The F1 of the labels that each network finds, as the mean over its runs. Labels: the true"
        " ones."
    ),
    "mean_iou": (
        "The share of pixels that each network has right, as the mean over its runs. Masks: the"
        " true one, then the networks'."
    ),
    "mae": (
        "The true number, what each network says whose weights are kept, and by how much each is"
        " off, as the mean over its runs."
    ),
    "map50_95": (
        "The F1 of each network's boxes, as the mean over its runs. Boxes: the true ones, then the"
        " networks'."
    ),
}
"""What of a network's mistakes is shown -> what stands above the images."""

TITLES_OF_CLASSES: Mapping[str, str] = {"mean_iou": "IoU", "mean_ap": "average precision"}
"""What is a mean over the classes -> the title of its value for one."""


@dataclass(frozen=True, slots=True)
class Wrong:
    """Networks' mistakes, and example images by their numbers in the validation split."""

    mistakes: Mistakes
    pictures: Album


class ShownImage(NamedTuple):
    """An image with the lines under it."""

    source: str
    alt: str
    lines: Sequence[str]


def mistakes_parts(answer: Answer, wrong: Wrong | None) -> dict[str, Any] | None:
    """What `templates/parts.html` shows of them; None where they are not known."""
    if wrong is None:
        return None
    mistakes = wrong.mistakes
    names = [role(answer, key) for key in mistakes.keys]
    shown: dict[str, Any] = {
        "classes": None,
        "title": "The images on which they differ most",
        "caption": MISTAKEN_IMAGES[mistakes.what],
        "images": _images(wrong, names),
        "confusions": page_tables.confusions(mistakes, names),
        "equal": not mistakes.different,
    }
    if not mistakes.classes:
        shown["title"] = f"The images on which the {names[0]} network is off most"
        return shown
    title = TITLES_OF_CLASSES.get(mistakes.what) or units.title(mistakes.what)
    over = "runs and images" if mistakes.images else "runs, where there are several"
    return {
        **shown,
        "intro": (
            f"The {title} of each class on the validation images, as the mean over the runs of the"
            f" last rung. ± is half of the 95 % interval of a gain, over {over}; bold: the interval"
            " excludes zero. Of many classes some exclude it by chance."
        ),
        "classes": page_tables.mistakes_table(mistakes, names),
    }


def _images(wrong: Wrong, names: Sequence[str]) -> list[list[ShownImage]]:
    """The images on which the networks differ most: each once, or with what each network found."""
    shown = []
    for different in wrong.mistakes.different:
        taken = [f" ({name})" if name else "" for name in different.found] or [""] * len(names)
        results = {
            name: f"{name}: {_result(wrong.mistakes.what, value)}{took}"
            for name, value, took in zip(names, different.values, taken, strict=False)
        }
        pictures = wrong.pictures.get(different.image, ())
        lines = [
            [results.pop(one.label, one.label)] if len(pictures) > 1 else one.label.splitlines()
            for one in pictures
        ]
        if not pictures:
            continue
        # the results of networks without a picture of their own
        lines[-1] += results.values()
        shown.append(
            [
                ShownImage(
                    data_url(picture.png), f"Image {different.image}: {' '.join(under)}", under
                )
                for picture, under in zip(pictures, lines, strict=True)
            ]
        )
    return shown


def _result(what: str, value: float) -> str:
    """A network's result on an image."""
    return f"off by {value:.3g}" if what == ABSOLUTE_ERROR else f"{100 * value:.0f} %"


def role(answer: Answer, key: str) -> str:
    """The name of a compared network."""
    view = answer.now.find(key)
    if key == answer.taken_key:
        return "recommended"
    return "bare" if view is not None and view.is_bare else "runner-up"


def data_url(png: bytes) -> str:
    """An image's file as the address of an `img`."""
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
