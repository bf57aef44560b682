"""How fast the trainer takes a small network to 94 % on CIFAR-10's test images (the task of
airbench).

    python -m benchmarks.airbench --root DIR                                   # on a GPU
    python -m benchmarks.airbench --root DIR --executions eager cuda-graph compile --seeds 5
    python -m benchmarks.airbench --root DIR --device cpu --epochs 1 --subset 5000      # whether it
    runs

Network and settings after Jordan, "94% on CIFAR-10 in 3.29 seconds on a single GPU" (arXiv
2404.00498): whitening convolution from image patches, three blocks, logits scaled down, Nesterov
SGD, label smoothing. The trainer is the package's, so there is no test-time augmentation, no rate
of its own for biases, and random instead of alternating mirroring; it takes more epochs for that.
The first run of each execution warms up and is not counted; it is on data in memory, as there.

The task needs all of CIFAR-10. On a part of it, on other images or for fewer epochs, the trainer
is timed, and the task is reported as not run.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev

import torch
from torch import Tensor, nn

from benchmarks.rows import append_row
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.recipe.recipe import Augment, DataSection, TrainingSection
from nas_attn.training.parameters import LearningRates
from nas_attn.training.trainer import Trainer

WIDTHS = (64, 256, 256)
SCALE = 1 / 9
PATCH_IMAGES = 5000
EPOCHS = 16
WHOLE = 50_000  # training images of CIFAR-10


def block(channels: int, width: int) -> list[nn.Module]:
    """Two convolutions, the first with pooling."""
    return [
        nn.Conv2d(channels, width, 3, padding="same", bias=False),
        nn.MaxPool2d(2),
        nn.BatchNorm2d(width),
        nn.GELU(),
        nn.Conv2d(width, width, 3, padding="same", bias=False),
        nn.BatchNorm2d(width),
        nn.GELU(),
    ]


class Network(nn.Module):
    """x (N, 3, 32, 32) -> (N, 10)."""

    def __init__(self, patches: Tensor) -> None:
        """
        Args:
            patches: float32 (K, 3, 2, 2), normalised: what the first convolution makes white.
        """
        super().__init__()
        self.whiten = nn.Conv2d(3, 24, 2)
        layers = [
            layer for pair in zip((24, *WIDTHS), WIDTHS, strict=False) for layer in block(*pair)
        ]
        self.body = nn.Sequential(
            nn.GELU(), *layers, nn.MaxPool2d(3), nn.Flatten(), nn.Linear(WIDTHS[-1], 10, bias=False)
        )
        flat = patches.flatten(1)
        values, vectors = torch.linalg.eigh(flat.T @ flat / len(flat))
        filters = (vectors / (values + 5e-4).sqrt()).T.flip(0).view(12, 3, 2, 2)
        with torch.no_grad():
            self.whiten.weight.copy_(torch.cat([filters, -filters]))
            self.whiten.bias.zero_()
            for layer in layers:  # each block begins near the identity, as far as its channels go
                if isinstance(layer, nn.Conv2d):
                    nn.init.dirac_(layer.weight[: layer.in_channels])
        self.whiten.weight.requires_grad_(False)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.body(self.whiten(x))
        return logits * SCALE


def patches(dataset: Dataset) -> Tensor:
    """float32 (K, 3, 2, 2): the 2x2 patches of the first training images, on the CPU."""
    x, _ = next(dataset.train.batches(PATCH_IMAGES))
    return x.cpu().unfold(2, 2, 1).unfold(3, 2, 1).permute(0, 2, 3, 1, 4, 5).reshape(-1, 3, 2, 2)


def why_not(arguments: argparse.Namespace, dataset: Dataset) -> str:
    """Why the runs are not of the task; empty if they are."""
    if arguments.images is not None and arguments.images < WHOLE:
        return f"{arguments.images:,} of CIFAR-10's {WHOLE:,} training images are there"
    images = len(dataset.train) + len(dataset.validation)
    if images < WHOLE:
        return f"it trains on {images:,} of CIFAR-10's {WHOLE:,} training images"
    if arguments.epochs < EPOCHS:
        return f"it trains for {arguments.epochs} of {EPOCHS} epochs"
    return ""


def run(trainer: Trainer, model: nn.Module, seed: int, arguments: argparse.Namespace) -> float:
    """Seconds of training."""
    began = time.perf_counter()
    trainer.fit(model, seed=seed, rungs=[arguments.epochs], rates=LearningRates(arguments.rate))
    return time.perf_counter() - began


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--root", default="data", help="folder of CIFAR-10's files")
    parser.add_argument("--data", default="cifar10", help="another data set of such images")
    parser.add_argument(
        "--results", type=Path, help="file to which a line of JSON is added for each execution"
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--epochs", type=int, default=EPOCHS)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--rate", type=float, default=1.5)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--subset", type=int, help="at most this many training images")
    parser.add_argument(
        "--images", type=int, help="different images of CIFAR-10 in --data; 0: it is another one"
    )
    parser.add_argument("--executions", nargs="+", default=["eager"])
    return parser.parse_args()


def main() -> None:
    arguments = _arguments()
    where = platform.machine()
    if arguments.device.startswith("cuda"):
        where = torch.cuda.get_device_name()
    print(
        f"torch {torch.__version__}, {where}, load {os.getloadavg()[0]:.1f}, {arguments.epochs}"
        " epochs\n"
    )
    section = DataSection(
        name=arguments.data, root=arguments.root, validation=100, train_subset=arguments.subset
    )
    dataset = loading.load(section, device=arguments.device)
    reason = why_not(arguments, dataset)
    if reason:
        print(f"94 % on CIFAR-10: not run, since {reason}; the trainer's time:\n")
    print("| execution | seeds | seconds | accuracy (test split) |\n|---|---|---|---|")
    for execution in arguments.executions:
        times_s, accuracies = _repeated(arguments, dataset, execution, score=not reason)
        if arguments.results is not None:
            line = {"part": "airbench", "execution": execution, "epochs": arguments.epochs}
            line |= {"images": len(dataset.train), "data": arguments.data}
            line |= {"seconds": [round(seconds, 3) for seconds in times_s]}
            if reason:
                line |= {"task": "not run", "why": reason}
            else:
                line |= {"accuracy": [round(accuracy, 4) for accuracy in accuracies]}
            append_row(arguments.results, line)
        accuracy_cell = "not run" if reason else spread(accuracies, 4)
        print(
            f"| {execution} | {len(times_s)} | {spread(times_s, 2)} | {accuracy_cell} |", flush=True
        )


def _repeated(
    arguments: argparse.Namespace, dataset: Dataset, execution: str, *, score: bool
) -> tuple[list[float], list[float]]:
    """Seconds of each seed's training, after one that warms up, and its accuracy with `score`."""
    settings = {
        "batch_size": arguments.batch_size,
        "optimizer_arguments": {"momentum": 0.85, "nesterov": True},
        "weight_decay": 1.33e-3,
        "loss": {"name": "CrossEntropyLoss", "label_smoothing": 0.2},
        "augment": [Augment(name="flip"), Augment(name="crop", padding=2)],
    }
    trainer = Trainer(
        TrainingSection(**settings, execution=execution), dataset, device=arguments.device
    )
    first = patches(dataset)
    times_s = []
    accuracies = []
    for seed in range(arguments.seeds + 1):
        torch.manual_seed(seed)
        model = Network(first)
        seconds = run(trainer, model, seed, arguments)
        if seed == 0:  # it warms up
            continue
        times_s.append(seconds)
        if score:
            test = dataset.read_test("benchmark of the trainer against a published task")
            accuracies.append(trainer.score(model, test).metrics["accuracy"])
    return times_s, accuracies


def spread(values: Sequence[float], digits: int) -> str:
    """Mean and standard deviation."""
    deviation = stdev(values) if len(values) > 1 else 0.0
    return f"{fmean(values):.{digits}f} ± {deviation:.{digits}f}"


if __name__ == "__main__":
    main()
