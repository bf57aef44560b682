"""What the compared networks get wrong, as the report and the notebook show it."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

from nas_attn.answer.per_image import Mistakes, Picture
from nas_attn.answer.snapshot import Snapshot
from nas_attn.report import tables
from nas_attn.report.prose import IMAGES_DIFFER, IMAGES_EQUAL, MISTAKEN_IMAGES, mistakes_intro


@dataclass(frozen=True, slots=True)
class Wrong:
    """Networks' mistakes, and example images by their numbers in the validation split."""

    mistakes: Mistakes
    pictures: Mapping[int, Sequence[Picture]]


class ShownImage(NamedTuple):
    """An image with the lines under it."""

    source: str
    alt: str
    lines: Sequence[str]


def mistakes_parts(snapshot: Snapshot, wrong: Wrong | None) -> dict[str, Any] | None:
    """What `templates/parts.html` shows of them; None where they are not known."""
    if wrong is None:
        return None
    mistakes = wrong.mistakes
    names = [role(snapshot, key) for key in mistakes.keys]
    return {
        "intro": mistakes_intro(mistakes),
        "caption": MISTAKEN_IMAGES[mistakes.what],
        "chance": IMAGES_DIFFER,
        "classes": tables.mistakes_table(mistakes, names),
        "confusions": tables.confusions(mistakes, names),
        "images": _images(wrong, names),
        "equal": "" if mistakes.different else IMAGES_EQUAL,
    }


def _images(wrong: Wrong, names: Sequence[str]) -> list[list[ShownImage]]:
    """The images on which the networks differ most: each once, or with what each network found."""
    shown = []
    for different in wrong.mistakes.different:
        taken = [f" ({name})" for name in different.found] or [""] * len(names)
        results = {
            name: f"{name}: {100 * value:.0f} %{took}"
            for name, value, took in zip(names, different.values, taken, strict=False)
        }
        pictures = wrong.pictures.get(different.image, ())
        lines = [
            [results.pop(one.label, one.label) if len(pictures) > 1 else one.label]
            for one in pictures
        ]
        if not pictures:
            continue
        # the results of networks without a picture of their own
        lines[-1] += results.values()
        shown.append(
            [
                ShownImage(
                    _data_url(picture.png), f"Image {different.image}: {' '.join(under)}", under
                )
                for picture, under in zip(pictures, lines, strict=True)
            ]
        )
    return shown


def role(snapshot: Snapshot, key: str) -> str:
    """The name of a compared network."""
    view = snapshot.find(key)
    if key == snapshot.taken:
        return "recommended"
    return "bare" if view is not None and view.is_bare else "runner-up"


def _data_url(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"
