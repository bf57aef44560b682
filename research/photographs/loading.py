r"""How fast photographs reach a network: decoded once and mapped into memory, beside torchvision's
ImageFolder with a DataLoader.

    # 1,000 generated JPEGs of 500 x 375, at 224 pixels
    python -m research.photographs.loading
    python -m research.photographs.loading --folder PHOTOS --images 20000 --rounds 3 --backbone \
      torchvision:resnet18

In each round, the same loop is timed over: (a) one batch in memory, which is the network alone; (b)
the mapped images with random flips and padded crops; (c) the mapped images with RandomResizedCrop
and RandomHorizontalFlip in `--workers` processes; (d) ImageFolder with the transforms of (c) in a
DataLoader of as many. Seconds are wall time of `--steps` batches; ratios are to (a) of the same
round. Beside other programs, the processors' time for an image says more: of this process and of
those that load. Then the same of the loading alone, without a network, over five times as many
batches.
"""

from __future__ import annotations

import argparse
import itertools
import os
import platform
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from statistics import fmean, stdev

import numpy as np
import psutil
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.datasets import ImageFolder
from torchvision.transforms import v2

from nas_attn import backbones
from nas_attn.backbones.building import IMAGENET_MEAN, IMAGENET_STD
from nas_attn.data.dataset import Dataset
from nas_attn.data.loading import load
from nas_attn.recipe.recipe import Augment, DataSection

Batches = Iterable[tuple[Tensor, Tensor]]
BATCHED = [Augment(name="flip"), Augment(name="crop", padding=16)]
NAMED = [Augment(name="RandomResizedCrop"), Augment(name="RandomHorizontalFlip")]
WAYS = ("network alone", "mapped, flip and crop", "mapped, torchvision's transforms", "ImageFolder")


def photographs(folder: Path, count: int) -> Path:
    """Smooth noise with the detail of a photograph: JPEGs of about 50 KB in two classes."""
    random = np.random.default_rng(0)
    for number in range(count):
        path = folder / ("first", "second")[number % 2] / f"{number:05}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        rough = Image.fromarray(random.integers(0, 256, (38, 50, 3), dtype=np.uint8)).resize(
            (500, 375), Image.Resampling.BICUBIC
        )
        grain = random.normal(0, 8, (375, 500, 1))
        Image.fromarray(np.clip(np.asarray(rough) + grain, 0, 255).astype(np.uint8)).save(
            path, quality=85
        )
    return folder


def train(model: nn.Module, batches: Batches) -> int:
    """A step for each batch; how many images they had."""
    optimizer, seen = torch.optim.SGD(model.parameters(), lr=1e-3, momentum=0.9), 0
    for x, y in batches:
        optimizer.zero_grad()
        cross_entropy(model(x.contiguous(memory_format=torch.channels_last)), y).backward()
        optimizer.step()
        seen += len(x)
    return seen


def look(_model: nn.Module, batches: Batches) -> int:
    """The images alone."""
    return sum(len(x) for x, _ in batches)


def plain(folder: Path, arguments: argparse.Namespace) -> DataLoader[tuple[Tensor, Tensor]]:
    """What people write."""
    steps = [
        v2.RandomResizedCrop(arguments.size),
        v2.RandomHorizontalFlip(),
        v2.ToImage(),
        v2.ToDtype(torch.float32, scale=True),
    ]
    images = ImageFolder(folder, v2.Compose([*steps, v2.Normalize(IMAGENET_MEAN, IMAGENET_STD)]))
    return DataLoader(
        images,
        arguments.batch_size,
        shuffle=True,
        num_workers=arguments.workers,
        persistent_workers=True,
    )


def processors_s() -> float:
    """Seconds that this process and its children have computed."""
    me = psutil.Process()
    return sum(sum(one.cpu_times()[:2]) for one in (me, *me.children(recursive=True)))


def rounds(
    dataset: Dataset,
    loader: Batches,
    arguments: argparse.Namespace,
    work: Callable[[nn.Module, Batches], int],
) -> Iterator[list[tuple[float, float]]]:
    """In each of the WAYS, images a second and milliseconds of processors for an image."""
    shape = dataset.input_shape
    model = backbones.create(arguments.backbone, input_shape=shape, classes=len(dataset.classes))
    model = model.train().to(memory_format=torch.channels_last)
    one = (
        torch.rand(arguments.batch_size, *shape),
        torch.zeros(arguments.batch_size, dtype=torch.long),
    )
    work(model, [one])

    def mapped(epoch: int, augment: list[Augment]) -> Batches:
        return dataset.train.epoch(arguments.batch_size, seed=0, epoch=epoch, augment=augment)

    for batches in (loader, mapped(0, NAMED)):
        next(iter(batches))  # starts the processes
    steps = arguments.steps if work is train else 5 * arguments.steps
    for number in range(arguments.rounds):
        found = []
        for batches in (
            itertools.repeat(one),
            mapped(number, BATCHED),
            mapped(number, NAMED),
            loader,
        ):
            began, before = time.perf_counter(), processors_s()
            seen = work(model, itertools.islice(batches, steps))
            found.append(
                (seen / (time.perf_counter() - began), 1000 * (processors_s() - before) / seen)
            )
        print(found, file=sys.stderr, flush=True)
        yield found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--folder", type=Path, help="photographs in class folders; else some are generated"
    )
    parser.add_argument("--images", type=int, default=1000)
    parser.add_argument("--size", type=int, default=224)
    parser.add_argument("--backbone", default="torchvision:mobilenet_v3_small")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=20, help="batches of a round")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    with tempfile.TemporaryDirectory() as scratch:
        os.environ["XDG_CACHE_HOME"] = scratch
        folder = arguments.folder or photographs(Path(scratch) / "photographs", arguments.images)
        began = time.perf_counter()
        section = DataSection(
            name=f"folder:{folder}", size=arguments.size, train_subset=arguments.images
        )
        dataset = load(section, device="cpu")
        prepared = time.perf_counter() - began
        loader = plain(folder, arguments)
        found, alone = (list(rounds(dataset, loader, arguments, work)) for work in (train, look))
    print(
        f"torch {torch.__version__}, {platform.machine()}, {arguments.threads} threads,"
        f" {arguments.workers} workers"
    )
    print(f"{len(dataset.train)} images to train on, decoded once in {prepared:.1f} s\n")
    print(
        "| way | images a second | of the network alone | processors for an image, ms | without a"
        " network, ms |"
    )
    print("|---|---|---|---|---|")
    for way, values, loading in zip(
        WAYS, zip(*found, strict=True), zip(*alone, strict=True), strict=True
    ):
        ratios = [value[0] / row[0][0] for value, row in zip(values, found, strict=True)]
        columns = (
            [value[0] for value in values],
            ratios,
            [value[1] for value in values],
            [one[1] for one in loading],
        )
        print(
            f"| {way} |",
            " | ".join(f"{fmean(column):.3g} ± {stdev(column):.2g}" for column in columns),
            "|",
        )


if __name__ == "__main__":
    main()
