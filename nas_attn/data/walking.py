"""Which files below a folder are images, which folders are splits or classes, and what is left out.

Never read: hidden files and folders, and what systems and programs put beside the user's files.
Links are followed, each folder once.
"""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path, PurePosixPath

from PIL import Image

from nas_attn.data.decoding import SUFFIXES
from nas_attn.errors import DataError, did_you_mean, few
from nas_attn.recipe.recipe import SplitsSection

NO_FOLDERS = frozenset({"__macosx", "@eadir", "#recycle", "$recycle.bin", "lost+found"})
NO_FILES = frozenset({"thumbs.db", "desktop.ini", "ehthumbs.db"})
# What Pillow may read besides SUFFIXES, depending on its version and on plug-ins. Others of its
# formats are no photographs, or start a program (PostScript).
OTHER_FORMATS = (".avif", ".jfif", ".jpe", ".jp2", ".tga", ".dib", ".apng", ".pnm", ".pbm", ".heic")
FURTHER_BY_PLUGIN = {".heic": "pillow-heif", ".heif": "pillow-heif", ".jxl": "pillow-jxl-plugin"}
SPLIT_NAMES = {
    "train": ("train", "training"),
    "validation": ("val", "valid", "validation", "dev"),
    "test": ("test", "testing"),
}
_FOLD = re.compile(r"fold[ _-]?\d+", re.IGNORECASE)
_LINK = "behind a broken link"
_KIND = "of another kind"


@lru_cache(maxsize=1)
def image_endings() -> frozenset[str]:
    """The endings of files that are read, in lower case."""
    if find_spec("pillow_heif") is not None:
        import_module("pillow_heif").register_heif_opener()
    formats = Image.registered_extensions()
    openable = {ending for ending, kind in formats.items() if kind in Image.OPEN}
    return frozenset(SUFFIXES) | (openable & {*OTHER_FORMATS, *FURTHER_BY_PLUGIN})


@dataclass
class Walked:
    """What is below a folder."""

    # sorted
    images: list[Path] = field(default_factory=list)
    # reason -> files
    left_out: dict[str, list[Path]] = field(default_factory=dict)

    def leave(self, reason: str, path: Path) -> None:
        self.left_out.setdefault(reason, []).append(path)


def walk(folder: Path) -> Walked:
    """All image files below a folder; none if it does not exist."""
    walked = Walked()
    seen: set[str] = set()
    start = Path(os.path.realpath(folder))
    above = {str(parent) for parent in start.parents}
    for here, folders, files in os.walk(folder, followlinks=True):
        place = os.path.realpath(here)
        # a loop of links
        if place in seen or place in above:
            folders.clear()
            continue
        seen.add(place)
        folders[:] = sorted(name for name in folders if is_read(name))
        for name in sorted(files):
            if is_read(name):
                _sort(walked, Path(here, name))
    walked.images.sort()
    return walked


def is_read(name: str) -> bool:
    """Whether a file or folder of this name is the user's own."""
    return not name.startswith(".") and name.lower() not in NO_FOLDERS | NO_FILES


def _sort(walked: Walked, path: Path) -> None:
    ending = path.suffix.lower()
    if not path.exists():
        walked.leave(_LINK, path)
    elif ending in image_endings():
        if path.is_file():
            walked.images.append(path)
    elif ending in FURTHER_BY_PLUGIN:
        walked.leave(f"that Pillow reads only with {FURTHER_BY_PLUGIN[ending]} ({ending})", path)
    else:
        walked.leave(f"{_KIND} ({ending or 'without ending'})", path)


def subfolders(folder: Path) -> list[str]:
    """Names of the folders in a folder, sorted."""
    return sorted(
        entry.name for entry in folder.iterdir() if entry.is_dir() and is_read(entry.name)
    )


@dataclass(frozen=True)
class Layout:
    """Where the splits of a folder are."""

    root: Path
    # `train`, `validation`, `test` -> its folders; empty: the folder is not divided
    splits: Mapping[str, tuple[Path, ...]]

    @property
    def train(self) -> tuple[Path, ...]:
        """The folders with the training images; the root, if all images are together."""
        return self.splits.get("train", (self.root,))

    @property
    def folders(self) -> tuple[Path, ...]:
        """All folders with images."""
        return tuple(itertools.chain.from_iterable(self.splits.values())) or (self.root,)


class UndividedFolds(DataError):
    """A folder has the folds of a cross-validation, and nobody said which of them validate."""

    def __init__(self, root: Path, folds: Sequence[str]) -> None:
        super().__init__(
            f"'{root}' has the folds {few(folds)}, and nobody said which validates and which"
            f" tests: give data.splits, like {as_toml(divided_folds(folds))} (in a recipe below"
            " [data], or with --set 'data.splits=…')"
        )
        self.folds = tuple(folds)


def divided_folds(
    folds: Sequence[str], validation: str | None = None, test: str | None = None
) -> SplitsSection:
    """The splits of folds, where one validates and one tests, and the others train; None: the last
    one tests, if that leaves one to train, and the one before validates. `test` empty: none tests.
    """
    if test is None:
        test = folds[-1] if len(folds) > 2 and folds[-1] != validation else ""
    if validation is None:
        validation = [name for name in folds if name != test][-1]
    return SplitsSection(
        train=[name for name in folds if name not in (validation, test)],
        validation=[validation],
        test=[test] if test else [],
    )


def as_toml(splits: SplitsSection) -> str:
    """`{ train = ["fold_0"], validation = ["fold_1"] }`, as in a recipe."""
    # TOML's lists of texts are those of JSON
    keys = [
        f"{split} = {json.dumps(names, ensure_ascii=False)}"
        for split, names in splits.by_split.items()
    ]
    return f"{{ {', '.join(keys)} }}"


def layout(root: Path, splits: SplitsSection | None = None) -> Layout:
    """The splits of a folder, as they are given, else by the names of its folders. Raises
    UndividedFolds: it has folds; DataError: the names can be read in two ways, or one is not there.
    """
    names = subfolders(root)
    if splits is not None:
        return _given_layout(root, names, splits)
    folds = folds_of(names)
    if folds:
        raise UndividedFolds(root, folds)
    candidates = {}
    for split, names_of_split in SPLIT_NAMES.items():
        called_so = [name for name in names if name.lower() in names_of_split]
        if called_so:
            candidates[split] = called_so
    if not candidates or not _are_splits(root, names, candidates):
        _check_no_hidden_splits(root, names)
        return Layout(root, {})
    for split, folders in candidates.items():
        if len(folders) > 1:
            raise DataError(
                f"'{root}' has several folders for {split},"
                f" {few([str(root / name) for name in folders])}: keep one of them there, or say"
                " which with data.splits"
            )
    if "train" not in candidates:
        raise DataError(
            f"'{root}' has {few([f'{n}/' for n in names])}, but no folder 'train' to learn from"
        )
    return Layout(root, {split: (root / folders[0],) for split, folders in candidates.items()})


def folds_of(names: Sequence[str]) -> tuple[str, ...]:
    """The folds of a cross-validation, in the order of their numbers; none if other folders are
    beside them, since then they may be classes.
    """
    folds = [name for name in names if _FOLD.fullmatch(name)]
    if len(folds) < 2 or len(folds) < len(names):
        return ()
    return tuple(sorted(folds, key=lambda name: (int(re.sub(r"\D", "", name)), name)))


def _given_layout(root: Path, names: Sequence[str], splits: SplitsSection) -> Layout:
    for split, given in splits.by_split.items():
        for name in given:
            if name not in names and not _is_below(root, name):
                raise DataError(
                    f"data.splits.{split} names '{name}', which is no folder in '{root}':"
                    f" {did_you_mean(name, names)}"
                )
    folders = {}
    for split, given in splits.by_split.items():
        folders[split] = tuple(root / name for name in given)
    return Layout(root, folders)


def _is_below(root: Path, name: str) -> bool:
    """Whether it is the path of a folder in a folder of the root, `seg_train/seg_train`."""
    parts = PurePosixPath(name).parts
    if ".." in parts or PurePosixPath(name).is_absolute():
        return False
    return all(map(is_read, parts)) and (root / name).is_dir()


def _check_no_hidden_splits(root: Path, names: Sequence[str]) -> None:
    """Raises DataError: folders that would be classes are called after splits (`seg_train`,
    `seg_test`), and have folders of the same names in them.
    """
    by_split: dict[str, str] = {}
    for name in names:
        split = _split_in(name)
        if split:
            by_split.setdefault(split, name)
    if len(by_split) < 2 or "train" not in by_split:
        return
    inside = {split: folders_of_images(root / name) for split, name in by_split.items()}
    learnt = set(inside["train"])
    given = {}
    for split, folders in inside.items():
        if len(learnt & folders.keys()) > 1:
            parents = sorted({folders[name].parent for name in learnt & folders.keys()})
            given[split] = [parent.relative_to(root).as_posix() for parent in parents]
    if len(given) > 1:
        raise DataError(
            f"'{root}' has {few([f'{name}/' for name in by_split.values()])}, with folders of the"
            f" same names in them, {few(sorted(learnt))}: are they splits? Then say so with"
            f" data.splits, like {as_toml(SplitsSection(**given))} (in a recipe below [data], or"
            " with --set 'data.splits=…'); if they are classes, rename them"
        )


def _split_in(name: str) -> str:
    """The split in whose name a word of a folder's is, as in `seg_train`; else empty."""
    words = re.split(r"[^a-z]+", name.lower())
    return next(
        (
            split
            for split, names_of_split in SPLIT_NAMES.items()
            if any(word in names_of_split for word in words)
        ),
        "",
    )


def folders_of_images(folder: Path) -> dict[str, Path]:
    """The folders below a folder in which images lie, by their names; of two, the first."""
    by_name: dict[str, Path] = {}
    for image in walk(folder).images:
        if image.parent != folder:
            by_name.setdefault(image.parent.name, image.parent)
    return by_name


def _are_splits(root: Path, names: list[str], candidates: Mapping[str, list[str]]) -> bool:
    """Whether folders with the names of splits are splits: a class may be called so."""
    called = [name for folders in candidates.values() for name in folders]
    others = [name for name in names if name not in called and walk(root / name).images]
    divided = [name for name in called if subfolders(root / name)]
    if not others:
        return True
    # images lie in them directly, as in the folder of a class
    if not divided:
        return False
    raise DataError(
        f"'{root}' has {few([f'{name}/' for name in called])} beside"
        f" {few([f'{name}/' for name in others])}: splits, or classes? If splits, move the others"
        " out of the folder, or say with data.splits which is which; if classes, rename the first"
    )
