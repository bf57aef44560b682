"""Makes what the gallery's search of photographs needs, in the current folder: `photos`, 900
photographs of five classes of CIFAR-10, and `unseen`, 1,000 others to judge a network by, all
enlarged to 288 pixels. And `lite0.pt`, EfficientNet-Lite0's published weights, unless it is there.

python docs/gallery/photographs.py FOLDER    # where CIFAR-10 is, or is to be loaded to
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import timm
import torch
from PIL import Image
from torchvision.datasets import CIFAR10

CLASSES = ("dog", "frog", "horse", "ship", "truck")
SEARCHED, UNSEEN = 180, 200
"""Photographs of each class."""
ENLARGED = 288
"""Pixels of a photograph's side."""
SEED = 11
WEIGHTS = Path("lite0.pt")


def main() -> None:
    """Writes both folders, each with a folder per class, and the weights."""
    parts = [CIFAR10(sys.argv[1], train=train, download=True) for train in (True, False)]
    pixels = np.concatenate([part.data for part in parts])
    labels = np.concatenate([part.targets for part in parts])
    random = np.random.default_rng(SEED)
    for name in CLASSES:
        places = random.permutation(np.flatnonzero(labels == parts[0].class_to_idx[name]))
        for place in places[:SEARCHED]:
            write(pixels[place], Path("photos", name, f"{place}.jpg"))
        for place in places[SEARCHED : SEARCHED + UNSEEN]:
            write(pixels[place], Path("unseen", name, f"{place}.jpg"))
    if not WEIGHTS.exists():
        network = timm.create_model("tf_efficientnet_lite0", pretrained=True)
        torch.save(network.state_dict(), WEIGHTS)


def write(pixels: np.ndarray, path: Path) -> None:
    """One photograph."""
    path.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    image.resize((ENLARGED, ENLARGED), Image.Resampling.BICUBIC).save(path, quality=92)


if __name__ == "__main__":
    main()
