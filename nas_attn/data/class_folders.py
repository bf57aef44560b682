"""Which folders are classes, and what is said where they are not."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Sequence
from pathlib import Path

from nas_attn.data.walking import image_endings, subfolders
from nas_attn.errors import DataError, few, several


def class_names(folders: Sequence[Path]) -> tuple[str, ...]:
    """The class folders of the folders with training images.

    Raises DataError: there are not two; it says what the first folder looks like.
    """
    folder = folders[0]
    names = sorted({name for one in folders for name in subfolders(one)})
    lower = {name.lower() for name in names}
    if {"images", "masks"} <= lower:
        raise DataError(
            f"'{folder}' has images and masks, which is data for segmentation, not classes: give"
            " --task segmentation (task.name in a recipe)"
        )
    if len(names) < 2:
        raise DataError(_why_no_classes(folder, names))
    for one, other in _alike(names):
        raise DataError(
            f"'{folder}' has two classes whose names differ only in Unicode form or case, '{one}'"
            f" and '{other}': rename one, or put their images together"
        )
    return tuple(names)


def _why_no_classes(folder: Path, names: list[str]) -> str:
    need = f"'{folder}' has {several(len(names), 'class folder')}: it needs at least two"
    inside = subfolders(folder / names[0]) if names else []
    if len(inside) > 1:
        return f"{need}; give the folder inside, folder:{folder / names[0]}"
    loose = [p for p in sorted(folder.iterdir()) if p.suffix.lower() in image_endings()]
    tables = [p.name for p in sorted(folder.iterdir()) if p.suffix.lower() in (".csv", ".tsv")]
    if not loose:
        return f"{need}, one per class"
    beside = f" beside {few(tables)}" if tables else ""
    return (
        f"{need}, but {several(len(loose), 'image')} lie in it directly{beside}: move each image"
        " into a folder with the name of its class, or name a function that reads them in data.name"
    )


def _alike(names: list[str]) -> Iterator[tuple[str, str]]:
    known: dict[str, str] = {}
    for name in names:
        other = known.setdefault(plain(name), name)
        if other != name:
            yield other, name


def plain(name: str) -> str:
    """A name without what file systems may change in it: Unicode form and case."""
    return unicodedata.normalize("NFC", name).casefold()
