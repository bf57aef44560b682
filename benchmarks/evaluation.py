r"""How fast and how well candidates are evaluated, side by side: same candidates, same data, same
device.

    # cluttered digits on the CPU
    python -m benchmarks.evaluation
    python -m benchmarks.evaluation --data cifar10 --root DIR --backbone resnet20 --flip \
      --batch-size 128 --rate 0.1
    python -m benchmarks.evaluation --data cifar10 --root DIR --backbone resnet20 --flip \
      --batch-size 512 --device cuda --executions eager cuda-graph compile --workers 12

(a) a hand-written PyTorch loop: DataLoader with workers and pinned memory, torchvision's transforms
    v2, autocast, fused SGD, one-cycle learning rate; from scratch;
(b) the package's trainer, the same epochs from scratch; once for each of `--executions`. What the
    rule for arithmetic costs is told by `--executions auto float32 bfloat16`;
(c) its cheap setting: one epoch from a trained backbone, attention starting as the identity.

`seconds` are training and scoring. `outside` is the share of the training's wall time outside the
steps (forward, loss, backward, optimiser): waiting for data, augmentation, averaging weights,
bookkeeping. On CUDA both are the device's times, so that `outside` counts what the device waits or
does beside the network. What is compiled or recorded counts.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import platform
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev
from unittest import mock

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2

from benchmarks.rows import append_row
from nas_attn import attachment, backbones
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset, Split
from nas_attn.recipe.recipe import Augment, BackboneSection, DataSection, TrainingSection
from nas_attn.space import search_space
from nas_attn.storage.records import Score
from nas_attn.training.numerics import computes_bfloat16
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Training
from nas_attn.training.stepping import Stepper
from nas_attn.training.trainer import Trainer

CANDIDATES = {
    "none": "stage1=none",
    "se": "stage1=se(reduction=4) stage2=se(reduction=4) stage3=se(reduction=4)",
    "simam": "stage1=simam stage2=simam stage3=simam",
}


@dataclass
class Row:
    """One way of evaluating one candidate with one seed."""

    way: str
    candidate: str
    seed: int
    epochs: int
    seconds: float
    """Training and scoring, wall clock."""
    processor_s: float
    """The same on the host's processor, workers included."""
    images_per_s: float
    """Training images per second of training."""
    outside: float
    """Share of the training's time outside the network's own arithmetic."""
    accuracy: float
    loss: float


class Stopwatch:
    """Adds up the time of what it is put around: on the host's clock, or the device's on CUDA."""

    def __init__(self, device: torch.device) -> None:
        self._device = device
        self._spans: list[tuple[float, float]] = []
        self._events: list[tuple[torch.cuda.Event, torch.cuda.Event]] = []

    @contextmanager
    def running(self) -> Iterator[None]:
        if self._device.type == "cuda":
            begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
            begin.record()
            yield
            end.record()
            self._events.append((begin, end))
        else:
            began = time.perf_counter()
            yield
            self._spans.append((began, time.perf_counter()))

    def take(self) -> float:
        """Seconds so far; back to zero."""
        if self._events:
            torch.cuda.synchronize(self._device)
        total = (
            sum(b - a for a, b in self._spans)
            + sum(a.elapsed_time(b) for a, b in self._events) / 1000
        )
        self._spans.clear()
        self._events.clear()
        return total


class Images(TorchDataset[tuple[Tensor, int]]):
    """What people write: one image at a time, transformed in a worker."""

    def __init__(self, split: Split, transform: Callable[[Tensor], Tensor]) -> None:
        self.images, self.labels = split.first(len(split)).cpu().contiguous(), split.labels.tolist()
        self.transform = transform

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> tuple[Tensor, int]:
        return self.transform(self.images[index]), self.labels[index]


class HandWritten:
    """A well-written training loop without this package."""

    def __init__(
        self, dataset: Dataset, section: TrainingSection, device: torch.device, workers: int
    ) -> None:
        self.section, self.device, self.size = section, device, len(dataset.validation)
        self.low = computes_bfloat16(device)
        self.steps, self.whole = Stopwatch(device), Stopwatch(device)
        normalise = [
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize(dataset.train.mean, dataset.train.std),
        ]
        asked = {one.name: one.arguments for one in section.augment}
        crop = v2.RandomCrop(dataset.input_shape[1:], padding=asked["crop"]["padding"])
        flip = [v2.RandomHorizontalFlip()] if "flip" in asked else []
        train = Images(dataset.train, v2.Compose([crop, *flip, *normalise]))
        options = {
            "num_workers": workers,
            "pin_memory": device.type == "cuda",
            "persistent_workers": workers > 0,
        }
        self.train = DataLoader(train, section.batch_size, shuffle=True, drop_last=True, **options)
        self.validation = DataLoader(
            Images(dataset.validation, v2.Compose(normalise)), 512, **options
        )

    def fit(self, model: nn.Module, epochs: int, rate: float) -> None:
        section = self.section
        options = {
            "momentum": 0.9,
            "weight_decay": section.weight_decay,
            "nesterov": True,
            "fused": True,
        }
        optimizer = torch.optim.SGD(model.parameters(), lr=rate, **options)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rate, total_steps=epochs * len(self.train)
        )
        next(iter(self.train))  # the start of the workers is not counted
        model.train()
        with self.whole.running():
            for _ in range(epochs):
                for images, labels in self.train:
                    x = images.to(self.device, non_blocking=True, memory_format=torch.channels_last)
                    y = labels.to(self.device, non_blocking=True)
                    with self.steps.running():
                        optimizer.zero_grad()
                        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
                            loss = cross_entropy(model(x).float(), y)
                        loss.backward()
                        optimizer.step()
                    schedule.step()

    @torch.no_grad()
    def score(self, model: nn.Module) -> tuple[float, float]:
        """(accuracy, loss) on the validation split."""
        model.eval()
        right = loss = 0.0
        for images, labels in self.validation:
            x = images.to(self.device, memory_format=torch.channels_last)
            y = labels.to(self.device)
            with torch.autocast(self.device.type, torch.bfloat16, enabled=self.low):
                logits = model(x).float()
            right += (logits.argmax(1) == y).sum().item()
            loss += cross_entropy(logits, y, reduction="sum").item()
        return right / self.size, loss / self.size


class TimedTrainer(Trainer):
    """The trainer, which also tells how long its steps took."""

    def __init__(self, section: TrainingSection, dataset: Dataset, device: torch.device) -> None:
        super().__init__(section, dataset, device=device)
        self.steps, self.scoring, self.whole = (
            Stopwatch(device),
            Stopwatch(device),
            Stopwatch(device),
        )

    def score(self, *arguments: object, **options: object) -> Score:
        with self.scoring.running():
            return super().score(*arguments, **options)

    def fit(self, *arguments: object, **options: object) -> tuple[Score, ...]:
        plain = Training.stepper

        def stepper(training: Training, steps: int) -> Stepper:
            inner = plain(training, steps)

            def step(x: Tensor, y: Tensor, rate: float, parts: int) -> None:
                with self.steps.running():
                    inner(x, y, rate, parts)

            return step

        with mock.patch.object(Training, "stepper", stepper):
            return super().fit(*arguments, **options)


class Benchmark:
    """The candidates, the data, and the three ways."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.device, self.candidates = torch.device(arguments.device), arguments.candidates
        self.epochs, self.rate, self.cheap_rate = (
            arguments.epochs,
            arguments.rate,
            arguments.cheap_rate,
        )
        self.backbone = BackboneSection(name=arguments.backbone)
        self.dataset = loading.load(
            DataSection(name=arguments.data, root=arguments.root, train_subset=arguments.subset),
            device=self.device,
        )
        augment = [Augment(name="crop", padding=arguments.crop_padding)]
        augment += [Augment(name="flip")] if arguments.flip else []
        section = TrainingSection(
            batch_size=arguments.batch_size, augment=augment, attention_learning_rate=5.0
        )
        self.trainers = {
            execution: TimedTrainer(
                section.model_copy(update=settings_of(execution)), self.dataset, device=self.device
            )
            for execution in arguments.executions
        }
        self.loop = HandWritten(self.dataset, section, self.device, arguments.workers)
        self.sites = attachment.find_sites(self.bare(0), self.dataset.input_shape)

    def bare(self, seed: int) -> nn.Module:
        torch.manual_seed(seed)
        shape, classes = self.dataset.input_shape, len(self.dataset.classes)
        return backbones.build(self.backbone, input_shape=shape, classes=classes)

    def model(
        self, name: str, init: str, seed: int, weights: dict[str, Tensor] | None = None
    ) -> nn.Module:
        model = self.bare(seed)
        if weights is not None:
            model.load_state_dict(weights)
        attachment.attach(
            model, search_space.resolve(search_space.parse(CANDIDATES[name]), self.sites, init=init)
        )
        return model.to(self.device, memory_format=torch.channels_last)

    def by_hand(self, name: str, seed: int) -> Row:
        model, loop = self.model(name, "paper", seed), self.loop
        began, processor = time.perf_counter(), processor_seconds()
        loop.fit(model, self.epochs, self.rate)
        training, steps = loop.whole.take(), loop.steps.take()
        accuracy, loss = loop.score(model)
        seconds, processor = time.perf_counter() - began, processor_seconds() - processor
        rate = self.epochs * len(loop.train) * loop.section.batch_size / training
        return Row(
            "(a) by hand",
            name,
            seed,
            self.epochs,
            seconds,
            processor,
            rate,
            1 - steps / training,
            accuracy,
            loss,
        )

    def by_trainer(
        self, way: str, name: str, seed: int, model: nn.Module, epochs: int, execution: str
    ) -> Row:
        modules = attachment.attached_modules(model).items()
        attention = {
            f"{path}.{parameter}"
            for path, module in modules
            for parameter, _ in module.named_parameters()
        }
        trainer = self.trainers[execution]
        rate = self.rate if way.startswith("(b)") else self.cheap_rate or self.rate / 5
        began, processor = time.perf_counter(), processor_seconds()
        with trainer.whole.running():
            (score,) = trainer.fit(
                model, seed=seed, rungs=[epochs], rates=LearningRates(rate, frozenset(attention))
            )
        seconds, processor = time.perf_counter() - began, processor_seconds() - processor
        training, steps = trainer.whole.take() - trainer.scoring.take(), trainer.steps.take()
        metrics, images = score.metrics, epochs * len(self.dataset.train) / training
        return Row(
            way,
            name,
            seed,
            epochs,
            seconds,
            processor,
            images,
            1 - steps / training,
            metrics["accuracy"],
            metrics["loss"],
        )

    def run(self, seeds: int) -> Iterator[Row]:
        first = next(iter(self.trainers))
        for seed in range(seeds):
            weights: dict[str, Tensor] | None = None
            for name in self.candidates:
                yield self.by_hand(name, seed)
                for execution in self.trainers:
                    scratch = self.model(name, "paper", seed)
                    way = "(b) trainer" if len(self.trainers) == 1 else f"(b) trainer, {execution}"
                    yield self.by_trainer(way, name, seed, scratch, self.epochs, execution)
                    if weights is None:  # the study's backbone: paid for once
                        weights = {
                            key: value.clone() for key, value in scratch.state_dict().items()
                        }
                start = self.model(name, "identity", seed, weights)
                yield self.by_trainer("(c) cheap", name, seed, start, 1, first)


def settings_of(execution: str) -> dict[str, str]:
    """The settings that a word of `--executions` stands for."""
    key = "precision" if execution in ("float32", "bfloat16") else "execution"
    return {key: execution}


def processor_seconds() -> float:
    """Processor time of this process and of those it started (Linux), in seconds."""
    total = time.process_time()
    for child in multiprocessing.active_children():
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")
    return total


def spread(values: list[float], form: str) -> str:
    """Mean and, of several, standard deviation."""
    mean = format(fmean(values), form)
    return mean if len(values) == 1 else f"{mean} ± {format(stdev(values), form)}"


def show(rows: list[Row]) -> None:
    """A markdown table: mean and standard deviation over seeds."""
    print(
        "| way | candidate | epochs | seconds | times (a) | processor s | images/s | outside |"
        " accuracy | loss |"
    )
    print("|---|---|---|---|---|---|---|---|---|---|")
    by_hand = {(row.candidate, row.seed): row.seconds for row in rows if row.way.startswith("(a)")}
    for way, name in dict.fromkeys((row.way, row.candidate) for row in rows):
        of = [row for row in rows if (row.way, row.candidate) == (way, name)]
        cells = [
            spread([row.seconds for row in of], ".1f"),
            spread([row.seconds / by_hand[name, row.seed] for row in of], ".2f"),
            spread([row.processor_s for row in of], ".1f"),
            spread([row.images_per_s for row in of], ",.0f"),
            spread([row.outside for row in of], ".1%"),
            spread([row.accuracy for row in of], ".3f"),
            spread([row.loss for row in of], ".3f"),
        ]
        print(f"| {way} | {name} | {of[0].epochs} | {' | '.join(cells)} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", default="digits")
    parser.add_argument("--root", default="data")
    parser.add_argument("--subset", type=int, help="at most this many training images")
    parser.add_argument("--backbone", default="resnet8")
    parser.add_argument("--candidates", nargs="+", choices=CANDIDATES, default=list(CANDIDATES))
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--batch-size", type=int, default=64)
    parser.add_argument("--rate", type=float, default=0.2, help="peak learning rate")
    parser.add_argument(
        "--cheap-rate", type=float, help="that of the cheap setting; default: a fifth"
    )
    parser.add_argument("--crop-padding", type=int, default=4)
    parser.add_argument("--flip", action="store_true")
    parser.add_argument("--device", default="cpu")
    parser.add_argument(
        "--executions",
        nargs="+",
        default=["auto"],
        help="of the trainer: auto, eager, compile, cuda-graph; or float32, bfloat16",
    )
    parser.add_argument("--threads", type=int, default=1, help="intra-op threads")
    parser.add_argument(
        "--workers", type=int, default=1, help="of the hand-written loop's DataLoader"
    )
    parser.add_argument("--json", help="write the rows to this file as well")
    parser.add_argument(
        "--results", type=Path, help="file to which a line of JSON is added for each row"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    where = (
        torch.cuda.get_device_name()
        if arguments.device.startswith("cuda")
        else platform.processor()
    )
    load = os.getloadavg()[0]
    print(
        f"torch {torch.__version__}, {where or platform.machine()}, {arguments.threads} threads,"
        f" load {load:.1f}\n"
    )
    rows: list[Row] = []
    for row in Benchmark(arguments).run(arguments.seeds):
        rows.append(row)
        if arguments.results is not None:
            append_row(arguments.results, {"part": "trainer and loop", **asdict(row)})
        if arguments.json:
            Path(arguments.json).write_text(
                json.dumps([asdict(row) for row in rows], indent=1), "utf-8"
            )
    show(rows)


if __name__ == "__main__":
    main()
