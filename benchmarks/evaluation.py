"""How fast and how well candidates are evaluated, side by side: same candidates, same data, same device.

    python benchmarks/evaluation.py                                  # cluttered digits on the CPU
    python benchmarks/evaluation.py --data cifar10 --root DIR --backbone resnet20 --flip --device cuda

(a) a hand-written PyTorch loop: DataLoader with workers and pinned memory, torchvision's transforms v2, autocast, fused
    SGD, one-cycle learning rate; from scratch;
(b) the package's trainer, the same epochs from scratch;
(c) its cheap setting: one epoch from a trained backbone, attention starting as the identity.

`outside` is the share of the training's wall time outside forward, loss, backward and optimiser step, by the profiler:
waiting for data, augmentation, averaging weights, bookkeeping. On CUDA, where the host does not wait for the device, it
is not known (`-`).
"""

from __future__ import annotations

import argparse
import cProfile
import json
import multiprocessing
import os
import platform
import pstats
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2

from nas_attn import attachment, backbones, data, space
from nas_attn.data import Dataset, Split
from nas_attn.recipe import AugmentSection, BackboneSection, DataSection, TrainingSection
from nas_attn.training import Trainer

CANDIDATES = {
    "none": "stage1=none",
    "se": "stage1=se(reduction=4) stage2=se(reduction=4) stage3=se(reduction=4)",
    "simam": "stage1=simam stage2=simam stage3=simam",
}
ARITHMETIC = ("_wrapped_call_impl", "logits", "cross_entropy", "backward", "wrapper")
"""Profiler's names of a network's call (the trainer's: `logits`), the loss, backward, and an optimiser's step."""
STEP = ("_epoch_by_hand", "_descend")
"""Functions whose calls of ARITHMETIC are the training's: of HandWritten, of the trainer."""


@dataclass
class Row:
    """One way of evaluating one candidate."""

    way: str
    candidate: str
    epochs: int
    seconds: float
    """Training and scoring, wall clock."""
    processor_s: float
    """The same on the processor, workers included: what counts on a machine that others use as well."""
    images_per_s: float
    """Training images per second of training."""
    outside: float | None
    """Share of the training's time outside the network's own arithmetic."""
    accuracy: float
    loss: float


class Images(TorchDataset[tuple[Tensor, int]]):
    """What people write: one image at a time, transformed in a worker."""

    def __init__(self, split: Split, transform: Callable[[Tensor], Tensor]) -> None:
        self.images, self.labels, self.transform = split.first(len(split)).cpu(), split.labels.tolist(), transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


class HandWritten:
    """A well-written training loop without this package."""

    def __init__(self, dataset: Dataset, section: TrainingSection, device: torch.device, workers: int) -> None:
        self.section, self.device, self.size = section, device, len(dataset.validation)
        self.low = device.type == "cuda"  # what people write; the trainer also looks at the CPU
        normalise = [v2.ToDtype(torch.float32, scale=True), v2.Normalize(dataset.mean, dataset.std)]
        crop = v2.RandomCrop(dataset.input_shape[1:], padding=section.augment.crop_padding)
        flip = [v2.RandomHorizontalFlip()] if section.augment.flip else []
        train = Images(dataset.train, v2.Compose([crop, *flip, *normalise]))
        options = {"num_workers": workers, "pin_memory": device.type == "cuda", "persistent_workers": workers > 0}
        self.train = DataLoader(train, section.batch_size, shuffle=True, drop_last=True, **options)
        self.validation = DataLoader(Images(dataset.validation, v2.Compose(normalise)), 512, **options)

    def fit(self, model: nn.Module, epochs: int, rate: float, profiler: cProfile.Profile) -> float:
        """Trains; returns seconds."""
        section = self.section
        options = {"momentum": section.momentum, "weight_decay": section.weight_decay, "nesterov": True, "fused": True}
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, **options)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=epochs * len(self.train))
        next(iter(self.train))  # the start of the workers is not counted
        model.train()
        began = time.perf_counter()
        profiler.enable()
        for _ in range(epochs):
            self._epoch_by_hand(model, optimizer, schedule)
        profiler.disable()
        return time.perf_counter() - began

    def _epoch_by_hand(
        self, model: nn.Module, optimizer: torch.optim.Optimizer, schedule: torch.optim.lr_scheduler.OneCycleLR
    ) -> None:
        for x, y in self.train:
            x = x.to(self.device, non_blocking=True, memory_format=torch.channels_last)
            y = y.to(self.device, non_blocking=True)
            optimizer.zero_grad()
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
                loss = cross_entropy(model(x).float(), y)
            loss.backward()
            optimizer.step()
            schedule.step()
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    @torch.no_grad()
    def score(self, model: nn.Module) -> tuple[float, float]:
        """(accuracy, loss) on the validation split."""
        model.eval()
        right = loss = 0.0
        for x, y in self.validation:
            logits, y = model(x.to(self.device)), y.to(self.device)
            right += (logits.argmax(1) == y).sum().item()
            loss += cross_entropy(logits, y, reduction="sum").item()
        return right / self.size, loss / self.size


class Benchmark:
    """The candidates, the data, and the three ways."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device = torch.device(arguments.device)
        self.epochs, self.rate = arguments.epochs, arguments.rate
        self.backbone = BackboneSection(name=arguments.backbone)
        self.dataset = data.load(
            DataSection(name=arguments.data, root=arguments.root, train_subset=arguments.subset), device=self.device
        )
        augment = AugmentSection(crop_padding=arguments.crop_padding, flip=arguments.flip)
        self.section = TrainingSection(batch_size=arguments.batch_size, augment=augment, attention_learning_rate=5.0)
        self.trainer = Trainer(self.section, self.dataset, device=self.device)
        self.loop = HandWritten(self.dataset, self.section, self.device, arguments.workers)
        self.sites = attachment.find_sites(self.bare(), self.dataset.input_shape)

    def bare(self) -> nn.Module:
        torch.manual_seed(0)
        shape, classes = self.dataset.input_shape, len(self.dataset.classes)
        return backbones.build(self.backbone, input_shape=shape, classes=classes)

    def model(self, name: str, init: str, weights: dict[str, Tensor] | None = None) -> nn.Module:
        model = self.bare()
        if weights is not None:
            model.load_state_dict(weights)
        attachment.attach(model, space.resolve(space.parse(CANDIDATES[name]), self.sites, init=init))
        return model.to(self.device, memory_format=torch.channels_last)

    def by_hand(self, name: str) -> Row:
        model, profiler = self.model(name, "paper"), cProfile.Profile()
        processor = processor_seconds()
        seconds = self.loop.fit(model, self.epochs, self.rate, profiler)
        began = time.perf_counter()
        accuracy, loss = self.loop.score(model)
        total, processor = seconds + time.perf_counter() - began, processor_seconds() - processor
        images = self.epochs * len(self.loop.train) * self.section.batch_size
        share = self.outside(profiler, seconds)
        return Row("(a) by hand", name, self.epochs, total, processor, images / seconds, share, accuracy, loss)

    def by_trainer(self, way: str, name: str, model: nn.Module, epochs: int, rate: float) -> Row:
        modules = attachment.attached_modules(model).items()
        attention = {f"{path}.{parameter}" for path, module in modules for parameter, _ in module.named_parameters()}
        profiler = cProfile.Profile()
        profiler.enable()
        (score,) = self.trainer.fit(model, seed=0, rungs=[epochs], learning_rate=rate, attention_parameters=attention)
        profiler.disable()
        (training,) = (times[3] for key, times in pstats.Stats(profiler).stats.items() if key[2] == "_epoch")
        images, share = epochs * len(self.dataset.train) / training, self.outside(profiler, training)
        metrics = score.metrics
        return Row(way, name, epochs, score.wall_s, score.device_s, images, share, metrics["accuracy"], metrics["loss"])

    def outside(self, profiler: cProfile.Profile, seconds: float) -> float | None:
        """Share of `seconds` outside the calls of ARITHMETIC in the training's steps."""
        if self.device.type == "cuda":
            return None
        inside = 0.0
        for (_, _, name), (*_, callers) in pstats.Stats(profiler).stats.items():
            if name in ARITHMETIC:
                inside += sum(times[3] for (_, _, caller), times in callers.items() if caller in STEP)
        return 1.0 - inside / seconds

    def run(self) -> list[Row]:
        rows = []
        for name in CANDIDATES:
            rows.append(self.by_hand(name))
            scratch = self.model(name, "paper")
            rows.append(self.by_trainer("(b) trainer", name, scratch, self.epochs, self.rate))
            if name == "none":  # the study's backbone: paid for once
                weights = {key: value.clone() for key, value in scratch.state_dict().items()}
            start = self.model(name, "identity", weights)
            rows.append(self.by_trainer("(c) cheap", name, start, 1, self.rate / 5))
        return rows


def processor_seconds() -> float:
    """Processor time of this process and of those it started (Linux), in seconds."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def show(rows: list[Row]) -> None:
    """A markdown table."""
    print("| way | candidate | epochs | seconds | processor s | images/s | outside | accuracy | loss |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in rows:
        outside = "-" if row.outside is None else f"{row.outside:.1%}"
        print(
            f"| {row.way} | {row.candidate} | {row.epochs} | {row.seconds:.1f} | {row.processor_s:.1f} "
            f"| {row.images_per_s:,.0f} | {outside} | {row.accuracy:.3f} | {row.loss:.3f} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="digits")
    parser.add_argument("--root", default="data")
    parser.add_argument("--subset", type=int, help="at most this many training images")
    parser.add_argument("--backbone", default="resnet8")
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.2, help="peak learning rate; the cheap setting takes a fifth")
    parser.add_argument("--crop-padding", type=int, default=4)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads")
    parser.add_argument("--workers", type=int, default=1, help="of the hand-written loop's DataLoader")
    parser.add_argument("--json", help="write the rows to this file as well")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    where = torch.cuda.get_device_name() if arguments.device.startswith("cuda") else platform.processor()
    print(f"torch {torch.__version__}, {where or platform.machine()}, {arguments.threads} intra-op threads\n")
    rows = Benchmark(arguments).run()
    show(rows)
    if arguments.json:
        with open(arguments.json, "w", encoding="utf-8") as file:
            json.dump([asdict(row) for row in rows], file, indent=1)


if __name__ == "__main__":
    main()
