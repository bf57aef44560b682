"""A user's folder of images: one sub-folder per class as torchvision has it, or images with masks,
for segmentation.

Either in `PATH/train` beside `PATH/val` (or `valid`, `validation`) and `PATH/test`, or in the
folders that `data.splits` names, or in `PATH` itself, of which a fifth is kept for the test.
Never read: hidden files and folders, and what systems and programs put beside the user's files.
Links are followed.

Masks lie in `masks` beside `images`, in the folder or in each of its splits. A mask is a PNG with
its image's name, or lies where `data.masks` says, scaled to the nearest value. Its values are class
numbers: 0 is the first in `PATH/classes.txt`, 255 none.
"""

from __future__ import annotations

import itertools
import os
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from PIL import Image

from nas_attn.data.bands import is_array
from nas_attn.data.decoding import SUFFIXES, Source
from nas_attn.data.inventory import WHOLE
from nas_attn.data.samples import Samples, below
from nas_attn.data.splitting import groups_of
from nas_attn.errors import DataError, did_you_mean, few, several, shorten
from nas_attn.recipe.recipe import DataSection, SplitsSection
from nas_attn.system.paths import user_path

NOT_READ = frozenset(
    {"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"}
    | {"thumbs.db", "desktop.ini", "ehthumbs.db"}
)
# What Pillow may read besides SUFFIXES, depending on its version and on plug-ins. Others of its
# formats are no photographs, or start a program (PostScript).
OTHER_FORMATS = (".avif", ".jfif", ".jpe", ".jp2", ".tga", ".dib", ".apng", ".pnm", ".pbm", ".heic")
FURTHER_BY_PLUGIN = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
NAMES_FILE = "classes.txt"
MOST_CLASSES = 255
# why images are not read
LOOSE = "outside the class folders of the splits"
LONE_MASKS = "which are masks without an image"
# `data.masks` where it is not given
USUAL_MASKS = "masks/{folder}/{stem}.png"
_FOLD = re.compile(r"fold[ _-]?\d+", re.IGNORECASE)
SPLITS_WAY = (
    "say with data.splits which folders train, validate and test, as in --set"
    """ 'data.splits={train=["a", "b"], validation=["c"], test=["d"]}'"""
)
OTHER_LAYOUTS = (
    "give the folder that holds them, unpacked; a CSV file with a column of images is read with"
    " --task classification, multi-label or regression, images beside masks with --task"
    f" segmentation, boxes with --data coco:FOLDER or yolo:PATH.yaml; of splits, {SPLITS_WAY}"
)


@lru_cache(maxsize=1)
def image_endings() -> frozenset[str]:
    """Returns the endings of files that are read, in lower case."""
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()
    formats = Image.registered_extensions()
    openable = {ending for ending, kind in formats.items() if kind in Image.OPEN}
    return frozenset(SUFFIXES) | (openable & {*OTHER_FORMATS, *FURTHER_BY_PLUGIN})


@dataclass
class Walked:
    """What is below a folder."""

    root: Path
    # sorted
    images: list[Path] = field(default_factory=list)
    # reason -> files
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave(self, reason: str, files: Iterable[Path]) -> None:
        """Says why files are not read."""
        self.left_out.setdefault(reason, []).extend(files)


def walk(root: Path) -> Walked:
    """Finds all image files below a folder; none if it does not exist."""
    walked = Walked(root)
    arrays: list[Path] = []
    for here, folders, files in os.walk(root, followlinks=True):
        # a loop of links
        if os.path.realpath(here) in map(os.path.realpath, Path(here).parents):
            folders.clear()
            continue
        folders[:] = filter(is_read, folders)
        for path in (Path(here, name) for name in sorted(filter(is_read, files))):
            if is_array(path) and path.exists():
                arrays.append(path)
            elif why := _left_out(path):
                walked.leave(why, [path])
            elif path.is_file():
                walked.images.append(path)
    if walked.images:
        # where photographs are, arrays are made from them
        for path in arrays:
            walked.leave(_left_out(path), [path])
    walked.images = sorted(walked.images or arrays)
    return walked


def is_read(name: str) -> bool:
    """Whether a file or folder of this name is the user's own."""
    return not name.startswith(".") and name.lower() not in NOT_READ


def _left_out(path: Path) -> str:
    """Why a file is not read; empty if it is."""
    ending = path.suffix.lower()
    if not path.exists():
        return "behind a broken link"
    if ending in image_endings():
        return ""
    if ending in FURTHER_BY_PLUGIN:
        return f"that Pillow reads only with {FURTHER_BY_PLUGIN[ending]} ({ending})"
    return f"of another kind ({ending or 'without ending'})"


def subfolders(folder: Path) -> list[str]:
    """Returns the names of the folders in a folder, sorted."""
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and is_read(entry.name)
    )


def image_folder(section: DataSection) -> Path:
    """Returns the folder of `folder:PATH` or `coco:PATH`. Raises DataError: it does not exist."""
    place = section.name.partition(":")[2]
    root = user_path(place, what="image folder", error=DataError)
    if not root.is_dir():
        raise DataError(f"image folder '{root}' does not exist (looked in {Path.cwd()})")
    return root


def split_folders(root: Path, given: SplitsSection | None = None) -> Mapping[str, Sequence[Path]]:
    """Returns the folders of each split, as they are given, else by their names; all of it as
    WHOLE, if it is not divided. Raises DataError: the names can be read in two ways, or one is not
    there.
    """
    names = subfolders(root)
    if given is not None:
        return {
            split: [_inside(root, split, name, names) for name in part]
            for split, part in given.by_split.items()
        }
    said = f"'{root}' has {few([f'{name}/' for name in names])}"
    called = {
        split: found
        for split, own in SPLIT_NAMES.items()
        if (found := [name for name in names if name.lower() in own])
    }
    if not called or not _are_splits(root, names, list(itertools.chain(*called.values())), said):
        # `seg_train`, `seg_test`; `fold_0`, `fold_1`
        words = {word for name in names for word in re.split("[^a-z]+", name.lower())}
        folds = len(names) > 1 and all(map(_FOLD.fullmatch, names))
        if folds or (not called and {"train", "test"} <= words):
            raise DataError(f"{said}: splits, or classes? If splits, {SPLITS_WAY}; else rename one")
        return {WHOLE: [root]}
    twice = [split for split, folders in called.items() if len(folders) > 1]
    if twice or "train" not in called:
        wrong = f"several folders for {twice[0]}" if twice else "no folder 'train' to learn from"
        raise DataError(f"{said}, {wrong}: keep one for each split, or {SPLITS_WAY}")
    return {split: [root / folders[0]] for split, folders in called.items()}


def _inside(root: Path, split: str, name: str, names: Sequence[str]) -> Path:
    """A folder in the root, or further inside, `seg_train/seg_train`. Raises DataError: it is
    none.
    """
    path = PurePosixPath(name)
    inside = all(map(is_read, path.parts)) and not path.is_absolute()
    if not inside or not (root / name).is_dir():
        raise DataError(
            f"data.splits.{split} names '{name}', which is no folder in '{root}':"
            f" {did_you_mean(name, names)}"
        )
    return root / name


def _are_splits(root: Path, names: Sequence[str], called: Sequence[str], said: str) -> bool:
    """Whether folders with the names of splits are splits: a class may be called so. Raises
    DataError: other folders with images are beside them.
    """
    others = [name for name in names if name not in called and walk(root / name).images]
    # images lie in them directly, as in the folder of a class
    if others and not any(subfolders(root / name) for name in called):
        return False
    if others:
        raise DataError(
            f"{said}: splits, or classes? If splits, move {few(others)} out of the folder, or"
            f" {SPLITS_WAY}; if classes, rename {few(called)}"
        )
    return True


def class_names(folders: Sequence[Path]) -> list[str]:
    """Returns the class folders of the folders with training images. Raises DataError: there are
    not two.
    """
    names = sorted({name for folder in folders for name in subfolders(folder)})
    if {"images", "masks"} <= {name.lower() for name in names}:
        raise DataError(
            f"'{folders[0]}' has images and masks, which is data for segmentation, not classes:"
            " give --task segmentation (task.name in a recipe)"
        )
    if len(names) < 2:
        raise DataError(
            f"'{folders[0]}' has {several(len(names), 'class folder')}"
            f" ({few(names) or 'no folder is in it'}), and needs at least two, one for each class:"
            f" {OTHER_LAYOUTS}"
        )
    return names


def read(section: DataSection) -> Samples:
    """Lists `folder:PATH` with a folder for each class. Raises DataError: no folder or classes."""
    root = image_folder(section)
    places = split_folders(root, section.splits)
    classes = class_names(places.get("train", places.get(WHOLE, ())))
    walked = walk(root)
    folders = {
        folder / name: (split, name)
        for split, there in places.items()
        for folder in there
        for name in subfolders(folder)
    }
    by_folder: dict[Path, list[Path]] = {folder: [] for folder in folders}
    for image in walked.images:
        home = next((parent for parent in image.parents if parent in folders), None)
        if home is not None:
            by_folder[home].append(image)
        else:
            walked.leave(LOOSE, [image])
    number_of = {name: number for number, name in enumerate(classes)}
    rows: list[tuple[str, Source]] = []
    labels: list[int] = []
    inside: list[str] = []
    for folder, (split, name) in folders.items():
        for image in by_folder[folder] if name in number_of else ():
            rows.append((split, Source(image)))
            labels.append(number_of[name])
            inside.append(image.relative_to(folder).as_posix())
    refused = {
        split: f"{split} has the class '{name}', which train has not, or only in another Unicode"
        " form or case"
        for split, name in folders.values()
        if name not in number_of
    }
    return Samples.listed(
        root,
        classes,
        rows,
        labels,
        tuple(places),
        refused=refused,
        left_out=walked.left_out,
        missing_test=no_test(section, root),
        groups=groups_of(section.groups, root, [source.image for _, source in rows], inside),
    )


def no_test(section: DataSection, root: Path) -> str:
    """What is said where a folder has no test split."""
    way_out = f"add the folder '{root / 'test'}', laid out as 'train'"
    if section.splits is not None:
        way_out = "begin a new study whose data.splits.test names a folder"
    return f"image folder '{root}' has no test split: {way_out}"


def plain(name: str) -> str:
    """Returns a name without what file systems may change in it: Unicode form and case."""
    return unicodedata.normalize("NFC", name).casefold()


def read_masks(section: DataSection) -> Samples:
    """Lists `folder:PATH` for segmentation. Raises DataError: no folder, mask or names."""
    root = image_folder(section)
    classes = _names(root)
    places: Mapping[str, Sequence[Path]] = {WHOLE: [root]}
    if section.splits is not None or "images" not in map(str.lower, subfolders(root)):
        places = split_folders(root, section.splits)
    rows: list[tuple[str, Source]] = []
    inside: list[str] = []
    alone: list[Path] = []
    for split, folders in places.items():
        for folder in folders:
            images, others = _pairs(root, folder, section.masks)
            alone += others
            for image, mask in images.items():
                rows.append((split, Source(image, mask, len(classes))))
                inside.append(image.relative_to(_home(folder)).as_posix())
    everything = walk(root)
    named = {file for _, source in rows for file in source.files}.union(alone)
    left_out = {
        reason: [file for file in files if file != root / NAMES_FILE and file not in named]
        for reason, files in everything.left_out.items()
    }
    left_out[LONE_MASKS] = alone
    left_out["outside images and masks"] = [i for i in everything.images if i not in named]
    return Samples.listed(
        root,
        classes,
        rows,
        left_out=left_out,
        missing_test=no_test(section, root),
        groups=groups_of(section.groups, root, [source.image for _, source in rows], inside),
    )


def _names(root: Path) -> tuple[str, ...]:
    path = root / NAMES_FILE
    try:
        names = [line.strip() for line in path.read_text("utf-8-sig").splitlines() if line.strip()]
        if not 2 <= len(names) <= MOST_CLASSES or len(set(names)) < len(names):
            raise ValueError(f"it has {len(names)}")
    except (OSError, ValueError) as error:
        raise DataError(
            f"'{path}' must name 2 to {MOST_CLASSES} different classes, one per line, starting with"
            f" value 0: {shorten(str(error))}"
        ) from None
    return tuple(names)


def _home(folder: Path) -> Path:
    """Where the images of a split are."""
    return folder / "images" if (folder / "images").is_dir() else folder


def _masks_of(
    root: Path, folder: Path, pattern: str
) -> tuple[dict[Path, Path], Mapping[Path, Path]]:
    """The images of a split with their masks by `data.masks`, and those whose masks are not there
    with the places where these should be.
    """
    home = _home(folder)
    masks: dict[Path, Path] = {}
    lacking: dict[Path, Path] = {}
    for image in walk(home).images:
        inside = image.relative_to(home).parent.as_posix()
        name = pattern.replace("{folder}", inside).replace("{stem}", image.stem)
        places = [folder / name, root / name]
        found = next(filter(Path.is_file, places), None)
        if found is None:
            lacking[image] = places[0]
        else:
            masks[image] = found
    drawn = set(masks.values())
    images = {image: mask for image, mask in masks.items() if image not in drawn}
    return images, {image: mask for image, mask in lacking.items() if image not in drawn}


def _pairs(root: Path, folder: Path, pattern: str | None) -> tuple[dict[Path, Path], list[Path]]:
    """The images of a folder with their masks, and the masks without an image. Raises DataError: a
    mask is missing.
    """
    pairs, lacking = _masks_of(root, folder, pattern or USUAL_MASKS)
    others = {*walk(folder / "masks").images}.difference(pairs.values())
    if lacking or not pairs:
        names = few([below(mask, root) for mask in lacking.values()])
        other = f", and '{min(others).name}' is none of them" if others else ""
        raise DataError(
            f"{len(lacking)} of {len(pairs) + len(lacking)} images of '{folder}' have no mask:"
            f" {names}{other}; put the images into the folder images, and for each a PNG of the"
            " same name, in which class numbers are kept exactly, as JPEG does not, into the folder"
            " masks, or say with data.masks how masks are called, as in masks/{stem}_mask.png"
        )
    return pairs, sorted(others)


def mask_pattern(folder: Path) -> str | None:
    """Proposes `data.masks` for a folder with `images` and `masks`, by the name of the first mask;
    None: masks are called as images are, or no pattern gives all images a mask.
    """
    images = walk(folder / "images").images
    masks = walk(folder / "masks").images
    stems = {image.stem for image in images}
    if not masks or not stems or masks[0].stem in stems:
        return None
    name = masks[0].name
    inside = [stem for stem in stems if stem in masks[0].stem]
    if not inside:
        return None
    called = name.replace(max(inside, key=len), "{stem}", 1)
    pattern = USUAL_MASKS.replace("{stem}.png", called)
    lacking = _masks_of(folder, folder, pattern)[1]
    return None if lacking or called.lower().endswith((".jpg", ".jpeg")) else pattern


def count_trained(section: DataSection) -> float:
    """Returns the approximate number of a folder's training images, without reading them. Raises
    DataError: there is no such folder.
    """
    folders = split_folders(image_folder(section), section.splits)
    if WHOLE in folders:
        # a fifth is the test split, a fifth of the rest the validation split
        return 0.64 * len(walk(folders[WHOLE][0]).images)
    count = sum(len(walk(folder).images) for folder in folders["train"])
    return (1 if "validation" in folders else 0.8) * count
