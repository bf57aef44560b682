"""Makes what the gallery's search of a YOLO needs, in the current folder: `boxes`, images with one
digit among fragments of others, and `yolo11n.pt`, a YOLO11n that has learned from other such images
to find the digit.

python docs/gallery/boxes.py
"""

from __future__ import annotations

import shutil
from pathlib import Path

from ultralytics import YOLO

from nas_attn.data import yolo_files
from nas_attn.recipe.recipe import DataSection

SIDE = 48
"""Of the images, in pixels; the network sees them twice as large."""
IMAGES = {"train": 300, "validation": 150, "test": 150}
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
    section = DataSection(name="digits", seed=seed, options={"size": SIDE, **IMAGES})
    shutil.copytree(yolo_files.data_file(section).parent, folder)
    for labels in folder.glob("labels/*/*.txt"):
        _, *box = labels.read_text("ascii").split()
        labels.write_text(" ".join(["0", *box]) + "\n", "ascii")
    described = folder / "data.yaml"
    described.write_text(
        f"path: {folder.resolve()}\n"
        "train: images/train\nval: images/val\ntest: images/test\nnames: [digit]\n",
        "utf-8",
    )
    return described


if __name__ == "__main__":
    main()
