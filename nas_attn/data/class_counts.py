"""What the numbers of images in each class tell: which class a split lacks, which is small."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from nas_attn.data.facts import WHOLE, FewOfClass, LackingClasses, UnequalClasses, UnknownClasses
from nas_attn.data.walking import subfolders, walk
from nas_attn.errors import DataError, several

# images of a class in a folder without splits
FEWEST_TO_SPLIT = 3
# validation images of a class, below which one image is 10 points of it
FEW_TO_SCORE = 10
# times as many images in the largest class as in the smallest
UNEQUAL = 20
# times as many images in the largest class as in the smallest, below which accuracy hides none
ALIKE = 1.5
# of the images of a folder without splits
VALIDATION_SHARE = 0.16


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


def unknown_classes(split: str, folder: Path, classes: Sequence[str]) -> list[UnknownClasses]:
    """The classes that the training images do not have."""
    strange = tuple(name for name in subfolders(folder) if name not in classes)
    return [UnknownClasses(split, strange)] if strange else []


def lacking_classes(counts: Mapping[str, Mapping[str, int]]) -> list[LackingClasses]:
    """The classes without an image in a split."""
    remarks = []
    for split, by_class in counts.items():
        lacking = tuple(name for name, count in by_class.items() if not count)
        if lacking:
            remarks.append(LackingClasses(split, lacking))
    return remarks


def small_classes(
    counts: Mapping[str, Mapping[str, int]],
) -> list[UnequalClasses | FewOfClass]:
    """The class that accuracy hides: far smaller than the largest, or with few images."""
    train = counts.get("train", counts.get(WHOLE, {}))
    rarest = min(train, key=lambda name: train[name])
    largest = max(train, key=lambda name: train[name])
    if train[largest] >= UNEQUAL * max(train[rarest], 1):
        return [UnequalClasses(rarest, train[rarest], largest, train[largest])]
    smallest, number = _least_scored(counts, train)
    if 0 < number < FEW_TO_SCORE:
        # estimates of so few are rounded, and rounding makes equal classes unequal
        counted = counts.get("validation", train).values()
        alike = max(counted) < ALIKE * max(min(counted), 1)
        estimated = "validation" not in counts
        return [FewOfClass(smallest, number, estimated=estimated, alike=alike)]
    return []


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
