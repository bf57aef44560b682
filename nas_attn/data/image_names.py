"""What the names of images tell: which of them belong together, and which differ only in form.

A program that makes several images of one photograph, film or patient writes that one's name before
a number: `person20_bacteria_3.jpeg`, `clip05_frame0012.jpg`, `cat003_jpg.rf.8e61….jpg` (Roboflow's
copies of one photograph). Images of one name must not be on both sides of a split.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import PurePosixPath

from nas_attn.data.class_folders import plain
from nas_attn.data.copies import Seen, open_split
from nas_attn.data.facts import SameNames, SharedNames

_ROBOFLOW = re.compile(r"^(.+)\.rf\.\w+$")
# A name with a digit, then a number, perhaps with letters before it: those of one class, `cat_12`,
# have no digit in what they share.
_NUMBERED = re.compile(r"^(.*\d[^_\-. ()]*(?:[_\-. ()]+[^\W\d_]+)*)[_\-. (]+[^\W\d_]*\d+\)?$")
# separators before a number, for an expression of `data.groups`
_SEPARATORS = re.compile(r"[_\-. (]")
# share of the images whose names must be shared, and times as many such names as classes, so that
# they are hardly those of the classes
LEAST_SHARED = 0.5
LEAST_NAMES = 2


def origin(name: str) -> str:
    """What an image's name shares with those of the same photograph, film or patient; empty:
    nothing.
    """
    stem = PurePosixPath(name).stem
    match = _ROBOFLOW.match(stem) or _NUMBERED.match(stem)
    return match.group(1) if match else ""


def pattern_for(name: str) -> str:
    """The expression for `data.groups` that gives a name's origin."""
    stem = PurePosixPath(name).stem
    if _ROBOFLOW.match(stem):
        return r"^(.+)\.rf\."
    separator = _SEPARATORS.findall(stem.rstrip(")"))[-1]
    return f"^(.+){re.escape(separator) if separator in '.(' else separator}"


def belonging(seen: Sequence[Seen], *, grouped: bool, by_groups: bool) -> list[SharedNames]:
    """Images whose names say that they belong together, but that are in two splits, or may come
    into two. `grouped`: groups keep images together; `by_groups`: they can.
    """
    origins = [origin(image.name) for image in seen]
    if grouped or not _are_shared(origins, classes=len({image.label for image in seen})):
        return []
    first: dict[str, Seen] = {}
    across: dict[str, Seen] = {}
    parted: dict[str, Seen] = {}
    divided = open_split(seen)
    for image, called in zip(seen, origins, strict=True):
        if not called:
            continue
        before = first.setdefault(called, image)
        if before.split != image.split:
            across.setdefault(called, image)
        elif before is not image and image.split == divided:
            parted.setdefault(called, image)
    remarks = []
    if across:
        called, other = next(iter(across.items()))
        pair = (first[called].name, other.name)
        remarks.append(SharedNames(len(across), pair, called, "splits"))
    if parted:
        called, other = next(iter(parted.items()))
        pair = (first[called].name, other.name)
        pattern = pattern_for(other.name) if by_groups else ""
        remarks.append(SharedNames(len(parted), pair, called, "parted", pattern))
    return remarks


def _are_shared(origins: Sequence[str], *, classes: int) -> bool:
    counts = Counter(filter(None, origins))
    shared = {called: count for called, count in counts.items() if count > 1}
    return len(shared) >= LEAST_NAMES * classes and sum(shared.values()) >= LEAST_SHARED * len(
        origins
    )


def alike(seen: Sequence[Seen]) -> list[SameNames]:
    """Files of one folder whose names differ only in case or Unicode form."""
    names_by_form: dict[str, str] = {}
    others = []
    for image in seen:
        other = names_by_form.setdefault(plain(image.name), image.name)
        if other != image.name:
            others.append(image.name)
    if not others:
        return []
    return [SameNames(len(others), (names_by_form[plain(others[0])], others[0]))]
