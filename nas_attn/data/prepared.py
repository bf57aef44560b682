"""Images of files, decoded as a recipe asks and mapped into memory.

Images become RGB, turned by their EXIF data, with white for transparent parts, and as large as
`size`, as `fit` says. The result is kept in the user's cache folder until a file's name, size or
time changes.
"""

from __future__ import annotations

import json
import os
import warnings
import zlib
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn.data.bands import missing_reader, read_bands
from nas_attn.data.cache import (
    State,
    cache_file,
    cache_folder,
    cache_mark,
    exclusive,
    remove_unused,
    states,
)
from nas_attn.data.decoding import Cut, Source, decode_all
from nas_attn.data.inventory import WHOLE
from nas_attn.data.pixels import Images, images_file
from nas_attn.data.samples import Parts, Samples, below, detector_side
from nas_attn.data.splitting import amount
from nas_attn.errors import DataError, NasAttnWarning, did_you_mean, few, printable, several
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import LARGEST_SIDE
from nas_attn.recipe.tables import Kind
from nas_attn.system.paths import user_path, whole_file

# side of an image in pixels, where the recipe does not say it
FOLDER_SIZE = 64
# torchvision's names of them
INTERPOLATIONS = ("nearest", "nearest-exact", "bilinear", "bicubic", "box", "hamming", "lanczos")
# of the images of a folder that is not divided
TEST_SHARE = 0.2
# of the prepared images: a change of how they are made needs another number
CACHE_FORMAT = 10
# largest share of a GPU's free memory for the images of a split
MEMORY_SHARE = 0.25


def parts_of(
    listed: Samples, kind: Kind, section: DataSection, device: torch.device, workers: int
) -> Parts:
    """Prepares the splits of images in files: their own; without these, a fifth of all is for the
    test. Raises DataError: an image or a class is missing, or a group is divided.

    Args:
        listed: The images, unread.
        kind: What is known of them.
        section: The recipe's data.
        device: Where they go.
        workers: That share this machine.
    """
    missing = missing_test(listed, kind)
    if "validation" in listed.splits and section.validation is not None:
        raise DataError(
            f"data.validation does not apply, since '{listed.root}' has validation images of its"
            " own: remove it"
        )
    if WHOLE in listed.splits:
        count = amount(TEST_SHARE, listed.labels, "the test split")
        split = np.full(len(listed), "train", "<U10")
        split[listed.divided(count, section.seed, kind)[0]] = "test"
        listed = replace(listed, split=split)
    if section.groups is not None:
        _check_apart(listed)
    train = listed.of_split("train")
    cut = _cut(section, train, kind)

    def ready(name: str) -> Samples:
        return _prepared(listed.of_split(name), cut, section, device, workers)

    return Parts(
        ready("train"),
        ready("validation") if "validation" in listed.splits else None,
        lambda: ready("test"),
        missing,
        None if missing else listed.of_split("test").listing,
    )


def missing_test(listed: Samples, kind: Kind) -> str:
    """Why there is no test split, or none that can be used. Raises DataError: another split cannot
    be used.
    """
    missing = "" if {"test", WHOLE}.intersection(listed.splits) else listed.missing_test
    for split in listed.splits:
        try:
            if why := listed.refused.get(split):
                raise DataError(f"'{listed.root}': {why}")
            if kind == "classes" and split != WHOLE:
                listed.of_split(split).check_classes(f"{split} of '{listed.root}'")
        except DataError as error:
            if split != "test":
                raise
            missing = str(error)
    return missing


def _check_apart(listed: Samples) -> None:
    """Raises DataError: a group has images in two splits."""
    # group -> the split of its first image, and that image
    first: dict[str, tuple[str, str]] = {}
    groups = () if listed.groups is None else listed.groups.tolist()
    for group, split, name in zip(groups, listed.split.tolist(), listed.names, strict=True):
        other, before = first.setdefault(group, (split, name))
        if other != split:
            raise DataError(
                f"group '{group}' of data.groups is on both sides of a split, in '{before}' and"
                f" '{name}' of '{listed.root}': move its images into one folder"
            )


def _cut(section: DataSection, train: Samples, kind: Kind) -> Cut:
    """How images are made alike: all have bands of 8 bits, or of more, as the first training image
    that can be read. Raises DataError: `data.options` has a wrong key or value, or a package that
    reads bands is missing.
    """
    size = detector_side(section) if kind == "boxes" else section.size or FOLDER_SIZE
    cut = Cut.of(size, "letterbox" if kind == "boxes" else section.fit)
    options = section.options
    for key in options.keys() - {"resize", "interpolation"}:
        raise DataError(
            f"unknown option data.options.{key} of a folder: give resize or interpolation"
        )
    resize = options.get("resize", cut.height)
    if "resize" in options and (cut.fit != "cut" or cut.height != cut.width):
        raise DataError(
            "data.options.resize is for a square that is cut out: remove it, or data.fit and a"
            " data.size of two numbers"
        )
    how = options.get("interpolation", "bilinear")
    # not True
    if type(resize) is not int or not cut.height <= resize <= LARGEST_SIDE:
        raise DataError(
            f"data.options.resize = {resize} must be a number of pixels, data.size ="
            f" {cut.height} or more"
        )
    if how not in INTERPOLATIONS:
        raise DataError(f"data.options.interpolation: {did_you_mean(str(how), INTERPOLATIONS)}")
    cut = replace(cut, resize=resize, interpolation=str(how))
    if section.channels is None:
        return cut
    if lacking := missing_reader(train.paths):
        raise DataError(f"the images of '{train.root}': {lacking}")
    deep = section.nodata is not None
    for path in () if deep else train.paths:
        # readers raise any error for damaged files
        with suppress(Exception):
            deep = read_bands(path).dtype != np.uint8
            break
    return replace(cut, channels=section.channels, nodata=section.nodata, deep=deep)


def _prepared(
    files: Samples, cut: Cut, section: DataSection, device: torch.device, workers: int
) -> Samples:
    """Images that can be read, with their boxes as large as they are. Raises DataError: one cannot
    and is to be refused.
    """
    assert files.sources is not None
    sources: list[Source] = files.sources.tolist()
    all_states = [states(source.files) for source in sources]
    content, why, pixels = _cached(files.root, sources, all_states, cut)
    # for one worker's images
    free = torch.cuda.mem_get_info(device)[0] // workers if device.type == "cuda" else 0
    identity = []
    for source, own in zip(sources, all_states, strict=True):
        sizes = zip(source.files, own, strict=True)
        named = "|".join(f"{below(path, files.root)}:{state[0]}" for path, state in sizes)
        identity.append(zlib.crc32(named.encode("utf-8", "surrogateescape")))
    boxes = files.boxes
    if boxes is not None:
        longest = np.array([max(source.size or ()) for source in sources], np.float32)
        boxes = boxes.copy()
        boxes[..., 1:] *= (cut.height / longest)[:, None, None]
    prepared = replace(
        files,
        pixels=replace(pixels, held=pixels.held or pixels.rows.nbytes <= MEMORY_SHARE * free),
        identity=np.array(identity, np.int64),
        content=np.array(content, np.int64),
        boxes=boxes,
    )
    if not any(why):
        return prepared
    _report(files, why, section)
    return prepared.subset(np.flatnonzero(np.array(why) == ""))


def _report(files: Samples, why: Sequence[str], section: DataSection) -> None:
    """Raises DataError for images that cannot be read, or warns of them, as the recipe says; `why`:
    of each, empty for the others.
    """
    assert files.sources is not None
    first = files.sources[0]
    broken = [(printable(n), why) for n, why in zip(files.names, why, strict=True) if why]
    name, reason = broken[0]
    count = f"{several(len(broken), 'image')} of '{files.root}' cannot be read"
    if first.mask:
        count += " with its mask" if len(broken) == 1 else " with their masks"
    if first.size:
        count += " at the size that its annotations say"
    if len(broken) == len(files):
        raise DataError(f"{count}: all of them; the first, '{name}': {reason}")
    if section.broken_images == "refuse":
        raise DataError(
            f"{count}, the first is '{name}' ({reason}): repair or remove it or set"
            ' data.broken_images = "skip"'
        )
    _warn(f"{count}, left out: {few([name for name, _ in broken])}; the first: {reason}")


def _warn(sentence: str) -> None:
    warnings.warn(sentence, NasAttnWarning, stacklevel=3)


def _cached(
    root: Path, sources: Sequence[Source], all_states: Sequence[Sequence[State]], cut: Cut
) -> tuple[list[int], list[str], Images]:
    """Checksums of the files; why each cannot be read, else empty; the images, (C, height, width)
    each.
    """
    path = cache_file(root, (CACHE_FORMAT, cut, str(root.resolve()), sources, all_states), ".json")
    mapped = path.with_suffix(".npy")
    count = len(sources)
    shape = cut.shape(sources[0])
    try:
        with exclusive(path.with_suffix(".lock"), f"the prepared images of '{root}'"):
            made = _read_made(path, count)
            if made is None:
                remove_unused(path.parent)
                with images_file(mapped, count, shape, cut.dtype) as write:
                    made = _decode(sources, cut, write)
                with whole_file(path) as file:
                    file.write(json.dumps(made).encode())
            return *made, Images.mapped(mapped)
    except OSError as error:
        _warn(f"prepared images cannot be saved in {path.parent} ({error})")
    images = np.zeros((count, *shape), cut.dtype)
    rows = iter(images)
    made = _decode(sources, cut, lambda pixels: np.copyto(next(rows), pixels))
    return *made, Images.of(torch.from_numpy(images))


def _decode(
    sources: Sequence[Source], cut: Cut, write: Callable[[NDArray[Any]], object]
) -> tuple[list[int], list[str]]:
    """Decodes all images and writes each, black for broken ones."""
    black = np.zeros(cut.shape(sources[0]), cut.dtype)
    content: list[int] = []
    why: list[str] = []
    for pixels, of_files, reason in decode_all(sources, cut):
        write(black if pixels is None else pixels)
        content.append(of_files)
        why.append(reason)
    return content, why


def _read_made(path: Path, count: int) -> tuple[list[int], list[str]] | None:
    """What is known of prepared images; None if nothing was prepared, or it is damaged."""
    mapped = path.with_suffix(".npy")
    with suppress(FileNotFoundError, ValueError, EOFError):
        content, why = json.loads(path.read_text("utf-8"))
        for used in (path, mapped):
            os.utime(used)
        if len(np.load(mapped, mmap_mode="r")) == len(why) == len(content) == count:
            return content, why
    return None


def prepared_files(section: DataSection) -> list[Path]:
    """Returns all prepared files of `folder:PATH` or `coco:FOLDER`; none for other data."""
    source, _, path = section.name.partition(":")
    folder = cache_folder()
    if source not in ("folder", "coco") or not folder.is_dir():
        return []
    mark = cache_mark(user_path(path, what="image folder", error=DataError))
    return sorted(found for found in folder.iterdir() if found.name.startswith(f"{mark}-"))
