"""The palettes of masks: the same value must have the same colour in all of them.

A mask's values are class numbers. Programs that make a palette for each file number its colours
anew, so that 1 is the road in one file and the sky in the next. Nothing else would show it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path

import numpy as np

from nas_attn.data.opening import opened_image
from nas_attn.data.remembered import remembered
from nas_attn.errors import DataError, printable
from nas_attn.system.processes import cores

# of what is kept in the cache
PALETTE_FORMAT = 1
Colour = tuple[int, ...]


def check_palettes(root: Path, masks: Sequence[Path]) -> None:
    """Raises DataError: a value has two colours in these masks of a folder."""
    if problem := palettes_problem(root, masks):
        raise DataError(problem)


def palettes_problem(root: Path, masks: Sequence[Path]) -> str:
    """Which value has two colours in these masks of a folder, and the way out; empty if none."""
    question = ("palettes", PALETTE_FORMAT)
    return str(remembered(root, question, masks, lambda: _problem(root, masks)))


def _problem(root: Path, masks: Sequence[Path]) -> str:
    """What is wrong; empty if nothing is. Only files whose palettes differ are decoded."""
    with ThreadPoolExecutor(cores()) as pool:
        palettes = dict(zip(masks, pool.map(_palette, masks), strict=True))
    if len(set(palettes.values()) - {b""}) < 2:
        return ""
    first: dict[int, tuple[Colour, Path]] = {}
    for path, colours in _used(palettes):
        for value, colour in colours.items():
            colour_before, where = first.setdefault(value, (colour, path))
            if colour_before != colour:
                return (
                    f"the masks of '{root}' have different palettes: the value {value} is the"
                    f" colour {colour_before} in '{_below(where, root)}' and {colour} in"
                    f" '{_below(path, root)}', so that it means two classes; save all masks with"
                    " one palette, or as grey images of class numbers"
                )
    return ""


def _palette(mask: Path) -> bytes:
    """Empty: it has none, or cannot be read, which whoever decodes it reports."""
    # decoders raise any error
    with suppress(Exception), opened_image(mask) as image:
        if image.mode == "P" and image.palette is not None:
            return image.palette.tobytes()
    return b""


def _used(palettes: Mapping[Path, bytes]) -> Iterator[tuple[Path, Mapping[int, Colour]]]:
    """The colours of the values that each mask with a palette has."""
    for path, palette in palettes.items():
        if not palette:
            continue
        with suppress(Exception), opened_image(path) as image:
            values = np.unique(np.asarray(image)).tolist()
            yield path, {value: tuple(palette[3 * value : 3 * value + 3]) for value in values}


def _below(path: Path, root: Path) -> str:
    return printable(path.relative_to(root).as_posix())
