"""What a user is warned of by floors that build no sentence: facts, each of which
`nas_attn.words.notes` says.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Literal

from nas_attn.errors import NasAttnWarning
from nas_attn.importing import named
from nas_attn.registry import Registry


@dataclass(frozen=True, slots=True)
class OddAnnotations:
    """Boxes or images in annotations of COCO's form that are not used as they are."""

    kind: Literal["boxes_without_size", "repeated_boxes", "repeated_images"]
    # of the annotations
    path: str
    # boxes, or image files
    number: int
    # of the images
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class MoreFields:
    """Items of a user's data set have more fields than an image and a label."""

    dataset: str
    fields: int
    # names of those that are taken, and of the others; empty: they have no names
    taken: tuple[str, ...]
    others: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class ImagesNotSaved:
    """Prepared images could not be kept for the next time."""

    folder: str
    why: str


Note = OddAnnotations | MoreFields | ImagesNotSaved


@dataclass(frozen=True, slots=True)
class Wording:
    """How notes are said, in one language."""

    name: str
    text: str
    """Takes a `Note` and returns a sentence."""


WORDINGS: Registry[Wording] = Registry()


def warn(note: Note, *, stacklevel: int = 1) -> None:
    """Gives a `NasAttnWarning` that says a note. `stacklevel`: as in `warnings.warn`."""
    text = named(WORDINGS["english"].text)(note)
    warnings.warn(text, NasAttnWarning, stacklevel=stacklevel + 1)
