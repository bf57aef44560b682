"""Writes the folders of few images, and the unseen images of the same classes.

    python -m research.folders.make --root DATA --out DIR

DATA holds CIFAR-10's and Fashion-MNIST's published files. DIR/FOLDER/images is what a search gets,
DIR/FOLDER/unseen what judges its answer.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from nas_attn.data.digits import draw_masked
from nas_attn.data.published import read
from nas_attn.data.samples import Samples
from nas_attn.recipe.recipe import DataSection

SEED = 20_261_128
LATER_SEED = 20_261_129
LATEST_SEED = 20_261_130
LAST_SEED = 20_261_201
DIGITS_SEED = 77
CLUTTER = {"size": 20, "fragments": 8, "fragment_size": 4}
FEW_DIGITS = 800
UNSEEN = 5_000


@dataclass(frozen=True)
class Images:
    """`pixels`: uint8 (N, height, width) or (N, height, width, 3); `labels`: int64 (N,)."""

    pixels: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True)
class Source:
    """A folder that is drawn from published images."""

    name: str
    classes: tuple[int, ...]
    few: int


PHOTOS = (Source("photos-a", (0, 2, 3, 7, 9), 900), Source("photos-b", (1, 4, 5, 6, 8), 500))
CLOTHES = Source("clothes", (0, 2, 3, 4, 6), 600)
LATER = (Source("photos-c", (0, 1, 4, 5, 7), 900), Source("photos-d", (2, 3, 6, 8, 9), 400))
"""Mixed anew, to judge what the folders before led to."""
LATEST = (Source("photos-g", (0, 3, 5, 8, 9), 900), Source("photos-h", (1, 2, 4, 6, 7), 2_000))
"""Mixed once more, to judge answers by whatever means."""
LAST = (Source("photos-i", (0, 1, 2, 3, 6), 900), Source("photos-j", (4, 5, 7, 8, 9), 500))
"""To judge what `photos-g` led to."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--root", type=Path, required=True, help="where the published files lie")
    parser.add_argument("--out", type=Path, required=True, help="the folders' folder")
    options = parser.parse_args()
    photos = _published("cifar10", options.root)
    clothes = _published("fashion-mnist", options.root)
    random = np.random.default_rng(SEED)
    for source, images in [*((photo, photos) for photo in PHOTOS), (CLOTHES, clothes)]:
        _draw(options.out / source.name, source, images, random)
    for seed, sources in ((LATER_SEED, LATER), (LATEST_SEED, LATEST), (LAST_SEED, LAST)):
        random = np.random.default_rng(seed)
        for photo in sources:
            _draw(options.out / photo.name, photo, photos, random)
    for part, images in _cluttered():
        _write(options.out / "clutter" / part, images)


def _published(name: str, root: Path) -> Images:
    """All published images, the test images last."""
    section = DataSection(name=name, root=str(root))
    parts = read(section)
    splits = [parts.train, parts.test()]
    pixels = np.concatenate([_pixels(split) for split in splits])
    return Images(pixels, np.concatenate([split.labels for split in splits]))


def _pixels(images: Samples) -> NDArray[np.uint8]:
    """As Pillow takes them: (N, height, width, 3), or (N, height, width) if they are grey."""
    everything = torch.arange(len(images.labels))
    batch = next(iter(images.pixels.fetch([everything])))
    pixels: NDArray[np.uint8] = batch.permute(0, 2, 3, 1).numpy()
    return pixels[..., 0] if pixels.shape[3] == 1 else pixels


def _draw(folder: Path, source: Source, images: Images, random: np.random.Generator) -> None:
    """As many images of each class for the search, and for its judges."""
    few = source.few // len(source.classes)
    unseen = UNSEEN // len(source.classes)
    for label in source.classes:
        order = random.permutation(np.flatnonzero(images.labels == label))
        for part, rows in (("images", order[:few]), ("unseen", order[few : few + unseen])):
            _write(folder / part, Images(images.pixels[rows], images.labels[rows]))


def _cluttered() -> Iterator[tuple[str, Images]]:
    """Digits among fragments; those of the judges come from other people's digits."""
    for part, split, count in (
        ("images", "train", FEW_DIGITS),
        ("unseen", "validation", UNSEEN // 2),
        ("unseen", "test", UNSEEN // 2),
    ):
        pixels, _, labels = draw_masked(DIGITS_SEED, split, {**CLUTTER, split: count})
        yield part, Images(pixels, labels)


def _write(folder: Path, images: Images) -> None:
    for pixels, label in zip(images.pixels, images.labels, strict=True):
        target = folder / f"class{label}"
        target.mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(target / f"{len(list(target.iterdir())):05}.png")


if __name__ == "__main__":
    main()
