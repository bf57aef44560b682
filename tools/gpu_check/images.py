"""Images for `tools/gpu_check.sh`: 50,000 for training and 10,000 for testing, like CIFAR-10's.

They come from the folder `$GPU_CHECK_DATA`. It holds CIFAR-10 itself (`cifar-10-batches-py`), or
packed parts of it, which are half as large: `data_batch_1.xz` to `data_batch_5.xz`, as many as fit,
repeated to 50,000 images, and `test_batch.xz`. Without any, the images are noise with a pattern for
each class. To pack parts:

    python tools/gpu_check/images.py SOURCE DEST --parts 1

A part is xz over: the labels, one byte each; the file names, joined by newlines, after their length
(4 bytes, little-endian); then the images (N, 3, 32, 32) after a reversible filter: channels (R - G,
G, B - G) modulo 256, then differences along x, then along y.
"""

from __future__ import annotations

import argparse
import lzma
import os
import struct
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas_attn.data.loading import reader
from nas_attn.data.samples import Parts, Samples
from nas_attn.recipe.recipe import DataSection

Bytes = NDArray[np.uint8]
IMAGES = 50_000
PART = 10_000  # images
ORIGINAL = "cifar-10-batches-py"


def cifar(section: DataSection) -> Parts:
    """For `data.name = "gpu_check.images:cifar"`."""
    if (folder() / ORIGINAL).is_dir():
        whole = section.model_copy(update={"name": "cifar10", "root": str(folder())})
        parts: Parts = reader("cifar10", "classes")(whole)
        return parts
    images, labels = training_images()
    repeats = IMAGES // len(labels)
    names = list(map(str, range(10)))
    train = Samples.of(np.tile(images, (repeats, 1, 1, 1)), np.tile(labels, repeats), names)
    return Parts(train, None, test_images)


def folder() -> Path:
    return Path(os.environ.get("GPU_CHECK_DATA") or "/no/folder")


def packed() -> list[Path]:
    """The packed training parts that are there."""
    return sorted(folder().glob("data_batch_*.xz"))


def originals() -> int:
    """How many of CIFAR-10's training images are there."""
    return IMAGES if (folder() / ORIGINAL).is_dir() else PART * len(packed())


def described() -> str:
    """What the images are, in words."""
    count = originals()
    if count == IMAGES:
        return "all of CIFAR-10"
    if count:
        return f"{count:,} training images of CIFAR-10, repeated: accuracies are not comparable"
    return "noise with a pattern for each class: accuracies are not comparable"


def training_images() -> tuple[Bytes, NDArray[np.int64]]:
    if not packed():
        return noise(PART, seed=0)
    parts = [unpacked(path) for path in packed()]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def test_images() -> Samples:
    path = folder() / "test_batch.xz"
    return Samples.of(*(unpacked(path) if path.exists() else noise(PART, seed=1)))


def noise(count: int, seed: int) -> tuple[Bytes, NDArray[np.int64]]:
    random = np.random.default_rng(seed)
    labels = random.integers(0, 10, count)
    pattern = np.random.default_rng(7).integers(0, 85, (10, 3, 32, 32), dtype=np.uint8)
    images = random.integers(0, 170, (count, 3, 32, 32), dtype=np.uint8)
    return images + pattern[labels], labels.astype(np.int64)


def unpacked(path: Path) -> tuple[Bytes, NDArray[np.int64]]:
    """Images (N, 3, 32, 32) and labels of a part."""
    raw = lzma.decompress(path.read_bytes())
    labels = np.frombuffer(raw, np.uint8, PART).astype(np.int64)
    (length,) = struct.unpack_from("<I", raw, PART)
    filtered = np.frombuffer(raw, np.uint8, offset=PART + 4 + length).reshape(-1, 3, 32, 32)
    images = np.cumsum(np.cumsum(filtered, axis=2, dtype=np.uint8), axis=3, dtype=np.uint8)
    images[:, 0] += images[:, 1]
    images[:, 2] += images[:, 1]
    return images, labels


def pack(images: Bytes, labels: NDArray[np.int64]) -> bytes:
    """A part, without file names."""
    filtered = images.copy()
    filtered[:, 0] -= images[:, 1]
    filtered[:, 2] -= images[:, 1]
    filtered[..., 1:] -= filtered[..., :-1].copy()
    filtered[:, :, 1:] -= filtered[:, :, :-1].copy()
    raw = labels.astype(np.uint8).tobytes() + struct.pack("<I", 0) + filtered.tobytes()
    return lzma.compress(raw, preset=6)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("source", type=Path, help=f"folder that holds {ORIGINAL}")
    parser.add_argument("dest", type=Path)
    parser.add_argument("--parts", type=int, nargs="+", default=[1], choices=range(1, 6))
    arguments = parser.parse_args()
    section = DataSection(name="cifar10", root=str(arguments.source))
    parts = reader("cifar10", "classes")(section)
    arguments.dest.mkdir(parents=True, exist_ok=True)
    wanted = {f"data_batch_{number}": (parts.train, number - 1) for number in arguments.parts}
    for name, (labelled, at) in {**wanted, "test_batch": (parts.test(), 0)}.items():
        rows = np.arange(at * PART, (at + 1) * PART)
        part = labelled.subset(rows)
        assert part.pixels is not None
        images = np.stack([part.pixels.item(number).numpy() for number in range(PART)])
        (arguments.dest / f"{name}.xz").write_bytes(pack(images, part.labels))
        print(arguments.dest / f"{name}.xz")


if __name__ == "__main__":
    main()
