"""What the numbers of images in each class tell: which class a split lacks, which is small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas_attn.data.walking import subfolders, walk
from nas_attn.errors import DataError, few, several

# the name of the only split of a folder that is not divided
WHOLE = "all"
# images of a class in a folder without splits
FEWEST_TO_SPLIT = 3
# validation images of a class, below which one image is 10 points of it
FEW_TO_SCORE = 10
# times as many images in the largest class as in the smallest
UNEQUAL = 20
# of the images of a folder without splits
VALIDATION_SHARE = 0.16
BALANCED = 'give objectives = ["balanced_accuracy", "latency"], in which each class counts the same'


def check_counts(
    root: Path, counts: Mapping[str, Mapping[str, int]], unreadable: Mapping[str, Mapping[str, str]]
) -> None:
    """Raises DataError: a class of a folder that is not divided has too few images for splits.
    `unreadable`: class -> file -> why.
    """
    for name, count in counts.get(WHOLE, {}).items():
        if count < FEWEST_TO_SPLIT:
            broken = unreadable.get(name, {})
            beside = []
            if broken:
                beside.append(f"{len(broken):,} unreadable ({next(iter(broken.values()))})")
            for reason, files in walk(root / name).left_out.items():
                beside.append(f"{several(len(files), 'file')} {reason}")
            raise DataError(
                f"class '{name}' of '{root}' has"
                f" {' beside '.join([several(count, 'image'), *beside])}, and each class needs"
                f" {FEWEST_TO_SPLIT} for splits: add some, or move the folder away if it is no"
                " class"
            )


def unknown_classes(split: str, folder: Path, classes: Sequence[str]) -> list[str]:
    """About classes that the training images do not have, which no network can learn."""
    strange = [name for name in subfolders(folder) if name not in classes]
    if not strange:
        return []
    said = (
        f"{split} has the class {few(strange)}, which train has not: {_refused(split)} will be"
        " refused; add"
        " it to train, or move it out of the folder"
    )
    return [said]


def _refused(split: str) -> str:
    return "the final test" if split == "test" else "the search"


def lacking_classes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """About classes without an image in a split."""
    said = []
    for split, by_class in counts.items():
        lacking = [name for name, count in by_class.items() if not count]
        if lacking:
            said.append(
                f"{split} has no image of class {few(lacking)}: {_refused(split)} will be refused;"
                " add some"
            )
    return said


def small_classes(counts: Mapping[str, Mapping[str, int]]) -> list[str]:
    """About the class that accuracy hides: far smaller than the largest, or with few images."""
    said = []
    train = counts.get("train", counts.get(WHOLE, {}))
    smallest, number = _least_scored(counts, train)
    rarest = min(train, key=lambda name: train[name])
    largest = max(train, key=lambda name: train[name])
    if train[largest] >= UNEQUAL * max(train[rarest], 1):
        said.append(
            f"class '{rarest}' has {several(train[rarest], 'image')} and '{largest}'"
            f" {train[largest]:,}: accuracy hides the smallest class; {BALANCED}"
        )
    elif 0 < number < FEW_TO_SCORE:
        about = "" if "validation" in counts else "about "
        only = f"{about}{several(number, 'validation image')}"
        said.append(f"class '{smallest}' has {only}, and accuracy hides small classes; {BALANCED}")
    return said


def _least_scored(
    counts: Mapping[str, Mapping[str, int]], train: Mapping[str, int]
) -> tuple[str, int]:
    """The class with the fewest validation images, and how many; if they are taken from the
    training images, at least one of each class is.
    """
    scored: Mapping[str, int] | None = counts.get("validation")
    if scored is None:
        share = VALIDATION_SHARE if WHOLE in counts else 0.2
        scored = {name: max(1, round(share * count)) for name, count in train.items()}
    smallest = min(scored, key=lambda name: scored[name])
    return smallest, scored[smallest]
