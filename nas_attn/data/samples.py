"""One table of a data set's images, a row for each: what every reader of files fills in, and what
is divided, decoded, counted, compared and put on a device.

Shapes: N images, K labels or columns, M boxes. In segmentation an image's last channel is its mask.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from nas_attn.data.decoding import Source
from nas_attn.data.inventory import WHOLE, Remark
from nas_attn.data.manifest import Listing
from nas_attn.data.pixels import Images, Indices
from nas_attn.data.splitting import Seed, divided
from nas_attn.errors import DataError, few
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tables import Kind
from nas_attn.recipe.task import DETECTOR_SIDE

# (M, 5): class from 1 (below: a crowd, not counted), left, top, right, bottom in pixels
BoxTable = NDArray[np.float32]


@dataclass(frozen=True, eq=False)
class Samples:
    """Images with what is known of each, and what their files tell beside."""

    # (N,), indices into the classes; zeros for other labels
    labels: NDArray[np.int64]
    # or labels, or columns
    classes: tuple[str, ...]
    # (N,): `train`, `validation`, `test`, or WHOLE where they are not divided yet
    split: NDArray[np.str_]
    # (N, K): 0 or 1 for each of K labels, or the numbers of K columns; NaN: unknown
    targets: NDArray[np.float32] | None = None
    # (N, M, 5), `BoxTable`; zeros if an image has fewer
    boxes: NDArray[np.float32] | None = None
    # (N, K), 0 or 1: the classes that each mask shows; None: a division need not regard them
    shown: NDArray[np.float32] | None = None
    # (N,), images of one group stay on one side of a split; None: no groups
    groups: NDArray[np.str_] | None = None
    # (N,), `Source`; None: the images are in no files of their own
    sources: NDArray[np.object_] | None = None
    root: Path = Path()
    # those of images that are read: (N,), a checksum of each, or of its file's name and size
    identity: NDArray[np.int64] | None = None
    # (N,), checksums of the files' contents; None: those of the pixels, in `identity`
    content: NDArray[np.int64] | None = None
    pixels: Images | None = None
    # False: the images are others at each reading, so that content tells nothing
    fixed: bool = True
    # those that there are, also without an image
    splits: tuple[str, ...] = ()
    # split -> why it cannot be used
    refused: Mapping[str, str] = field(default_factory=dict)
    # why there is no test split, with the way out
    missing_test: str = ""
    # reason -> files that are not read
    left_out: Mapping[str, Sequence[Path]] = field(default_factory=dict)
    # lines about labels
    about: Sequence[str] = ()
    remarks: Sequence[Remark] = ()

    @classmethod
    def of(
        cls,
        images: NDArray[np.uint8],
        labels: NDArray[np.integer[Any]],
        classes: Sequence[str] = (),
    ) -> Self:
        """Takes an array (N, C, H, W) or (N, H, W). Raises DataError: another shape or dtype, or
        not one label for each image.
        """
        if (
            images.dtype != np.uint8
            or images.ndim not in (3, 4)
            or labels.dtype.kind not in "iu"
            or labels.shape != (len(images),)
        ):
            shapes = f"{images.dtype} {images.shape} and {labels.dtype} {labels.shape}"
            raise DataError(
                "images must be uint8 (N, C, H, W), with an integer label for each, but they are"
                f" {shapes}"
            )
        images = np.ascontiguousarray(images[:, None] if images.ndim == 3 else images)
        return cls(
            labels.astype(np.int64),
            tuple(classes),
            np.full(len(images), WHOLE),
            identity=checksums(images),
            pixels=Images.of(torch.from_numpy(images)),
        )

    @classmethod
    def listed(
        cls,
        root: Path,
        classes: Sequence[str],
        rows: Sequence[tuple[str, Source]],
        labels: Sequence[int] = (),
        splits: Sequence[str] = (),
        **more: Any,
    ) -> Self:
        """Takes images that are not read yet.

        Args:
            root: The folder by which they are named.
            classes: Their names.
            rows: The split and the files of each.
            labels: Its class; none: they have other labels.
            splits: All that there are; none: those of the rows.
            more: Other fields.
        """
        sources = np.empty(len(rows), np.object_)
        sources[:] = [source for _, source in rows]
        split = [split for split, _ in rows]
        return cls(
            np.array(labels or [0] * len(rows), np.int64),
            tuple(classes),
            np.array(split, np.str_),
            sources=sources,
            root=root,
            splits=tuple(splits or dict.fromkeys(split)),
            **more,
        )

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, index: Indices) -> Self:
        """Returns the rows of these numbers."""
        columns: dict[str, Any] = {}
        for column in fields(self):
            value = getattr(self, column.name)
            if isinstance(value, np.ndarray):
                columns[column.name] = value[index]
        if self.pixels is not None:
            columns["pixels"] = self.pixels.subset(index)
        return replace(self, **columns)

    def of_split(self, name: str) -> Self:
        """Returns the rows of a split, with as many boxes as an image of them has at most."""
        part = self.subset(np.flatnonzero(self.split == name))
        if part.boxes is None:
            return part
        most = int((part.boxes[..., 0] != 0).sum(1).max(initial=1))
        return replace(part, boxes=part.boxes[:, :most])

    def divided(self, count: int, seed: Seed, kind: Kind) -> tuple[Indices, Indices]:
        """Returns the numbers of about so many rows, and of the others, as `splitting.divided`."""
        strata = self.classes if kind == "classes" else ("image",)
        tags = self.shown
        if kind == "tags" and self.targets is not None:
            tags = np.nan_to_num(self.targets)
        return divided(self.labels, count, seed, strata, self.groups, tags)

    @property
    def paths(self) -> list[Path]:
        """The image files."""
        return [] if self.sources is None else [source.image for source in self.sources]

    @property
    def names(self) -> list[str]:
        """The image files' paths below the folder, as on every system."""
        return [below(path, self.root) for path in self.paths]

    @property
    def listing(self) -> Listing:
        """The images, to be compared with those of later."""
        content = self.identity if self.content is None else self.content
        rows: Iterable[NDArray[np.float32]] | None = self.targets
        if self.boxes is not None:
            rows = (table[table[:, 0] != 0] for table in self.boxes)
        return Listing(
            self.labels if rows is None else checksums(rows),
            None if self.sources is None else np.array(self.names, np.str_),
            content if self.fixed else None,
            boxed=rows is not None,
        )

    def undrawn(self) -> list[str]:
        """Returns the classes that no mask shows."""
        assert self.pixels is not None
        for every in (False, True):
            counts = self.pixels.histogram(every=every)[-1]
            missing = [name for number, name in enumerate(self.classes) if not counts[number]]
            if not missing:
                break
        return missing

    def with_shown(self) -> Self:
        """Returns the same with the classes that each mask shows, as a division regards them."""
        assert self.pixels is not None
        each = (self.pixels.item(row)[-1].long() for row in range(len(self)))
        counts = [torch.bincount(mask.flatten(), minlength=256) for mask in each]
        shown = torch.stack(counts)[:, : len(self.classes)] > 0
        return replace(self, shown=shown.float().cpu().numpy())

    def check_classes(self, what: str) -> None:
        """Raises DataError: a class has no image here, in `what`."""
        present = np.bincount(self.labels, minlength=len(self.classes))
        lacking = [name for name, count in zip(self.classes, present, strict=True) if not count]
        if lacking:
            raise DataError(
                f"{what} has no image of class {few(lacking)}: every class needs images in every"
                " split"
            )


@dataclass(frozen=True)
class Parts:
    """A source's own splits. `test` is a function, so that the test images stay unread until they
    are asked for.
    """

    train: Samples
    # None: a part of `train`
    validation: Samples | None
    test: Callable[[], Samples]
    # why there is no test split, with the way out; else empty
    missing_test: str = ""
    # names and classes of the test images, if they are known unread
    unread: Listing | None = None


def box_table(boxes: Sequence[BoxTable]) -> NDArray[np.float32]:
    """Returns the boxes of N images as one table (N, M, 5), zeros where an image has fewer."""
    table = np.zeros((len(boxes), max([1, *map(len, boxes)]), 5), np.float32)
    for row, image_boxes in zip(table, boxes, strict=True):
        row[: len(image_boxes)] = image_boxes
    return table


def checksums(rows: Iterable[NDArray[Any]]) -> NDArray[np.int64]:
    """Returns (N,) checksums of what N images have, by which a change is noticed."""
    return np.array([zlib.crc32(row.tobytes()) for row in rows], np.int64)


def below(path: Path, root: Path) -> str:
    """Returns a path as it is named below a folder; in full, if it is elsewhere."""
    inside = path.relative_to(root) if path.is_relative_to(root) else path
    return inside.as_posix()


def detector_side(section: DataSection, usual: int = DETECTOR_SIDE) -> int:
    """Returns the side of a detector's input. Raises DataError: the recipe has another shape."""
    if isinstance(section.size, tuple) or section.fit != "cut":
        raise DataError(
            f"data.size = {section.size} and data.fit = '{section.fit}': a detector's images keep"
            " their shape in a square, so give data.size as one number, and no data.fit"
        )
    return section.size or usual
