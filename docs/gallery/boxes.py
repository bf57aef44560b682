"""Makes what the gallery's search of a YOLO needs, in the current folder: `boxes`, images with one
digit among fragments of others, and `yolo11n.pt`, a YOLO11n that has learned from other such images
to find the digit.

python docs/gallery/boxes.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

from PIL import Image
from ultralytics import YOLO

from nas_attn.data.digits import box_of, draw_masked

SIDE = 48
"""Of the images, in pixels; the network sees them twice as large."""
DIGITS = {
    "size": SIDE,
    "fragments": 14,
    "fragment_size": 4,
    "train": 300,
    "validation": 150,
    "test": 150,
}
EPOCHS = 30


def main() -> None:
    """Writes the images, then trains the network on others."""
    write_boxes(Path("boxes"), seed=0)
    others = write_boxes(Path("others"), seed=1)
    yolo = YOLO("yolo11n.yaml")
    yolo.train(
        data=str(others),
        imgsz=2 * SIDE,
        epochs=EPOCHS,
        optimizer="AdamW",
        lr0=0.002,
        workers=0,
        seed=0,
        plots=False,
        project=str(Path("others").resolve()),
    )
    shutil.copy(yolo.trainer.last, "yolo11n.pt")


def write_boxes(folder: Path, *, seed: int) -> Path:
    """Writes images with a box around each digit, all of one class; gives their data YAML."""
    for part, split in {"train": "train", "val": "validation", "test": "test"}.items():
        images, masks, _ = draw_masked(seed, split, DIGITS)
        for inside in ("images", "labels"):
            (folder / inside / part).mkdir(parents=True)
        for number, (image, mask) in enumerate(zip(images, masks, strict=True)):
            path = folder / "images" / part / f"{number:06}.png"
            Image.fromarray(image).convert("RGB").save(path)
            _, left, top, right, bottom = box_of(mask)
            box = ((left + right) / 2, (top + bottom) / 2, right - left, bottom - top)
            line = " ".join(["0", *(f"{value / len(mask):.6f}" for value in box)])
            (folder / "labels" / part / f"{number:06}.txt").write_text(f"{line}\n", "ascii")
    described = folder / "data.yaml"
    described.write_text(
        f"path: {folder.resolve()}\n"
        "train: images/train\nval: images/val\ntest: images/test\nnames: [digit]\n",
        "utf-8",
    )
    return described


if __name__ == "__main__":
    main()
