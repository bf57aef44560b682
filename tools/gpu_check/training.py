"""The trainer on made-up images: seconds of an epoch, whether its steps are recorded, and what the
GPU does in them.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from gpu_check.findings import Finding, found_by
from gpu_check.timing import counted_replays
from nas_attn import attachment, backbones
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.pixels import Images
from nas_attn.recipe.recipe import BackboneSection, TrainingSection
from nas_attn.recipe.tasks import TASKS
from nas_attn.space import notation, search_space
from nas_attn.storage.records import EpochPoint
from nas_attn.training.parameters import LearningRates
from nas_attn.training.run import Callbacks
from nas_attn.training.trainer import Trainer

EPOCHS_PART = "epochs"
PROFILES = "profiles"
CLASSES = 10
# images of the validation split
SCORED_IMAGES = 1000
# first the bare backbone
TRIED_MODULES = ("", "se", "cbam", "ela", "simam")
# batch sizes of the small network that are profiled, the usual one first
PROFILED = (512, 128, 1024)
# kernels of a profile
MOST_SHOWN = 12
LEARNING_RATE = 0.1


@dataclass(frozen=True)
class Job:
    """One training."""

    network: str
    module: str
    side: int
    images: int
    batch: int
    execution: str
    epochs: int = 3

    @property
    def subject(self) -> str:
        """`resnet20 with se, batch 512, cuda-graph`."""
        attention = self.module or "bare"
        return f"{self.network} {attention}, {self.side} px, batch {self.batch}, {self.execution}"

    @property
    def steps(self) -> int:
        """Of one epoch."""
        return -(-self.images // self.batch)

    def as_values(self) -> dict[str, Any]:
        return {
            "network": self.network,
            "module": self.module,
            "side": self.side,
            "images": self.images,
            "batch": self.batch,
            "execution": self.execution,
        }


def jobs(device: torch.device) -> list[Job]:
    """What is timed, the most telling first."""
    if device.type != "cuda":
        return [Job("resnet8", module, 32, 256, 64, "eager", epochs=2) for module in ("", "se")]
    small = Job("resnet20", "", 32, 50_000, 512, "cuda-graph")
    large = Job("torchvision:resnet18", "", 224, 4_096, 128, "cuda-graph")
    first = [replace(small, module=module) for module in TRIED_MODULES]
    eager = [replace(small, module=module, execution="eager", epochs=2) for module in TRIED_MODULES]
    photographs = [replace(large, module=module) for module in TRIED_MODULES]
    photographs.append(replace(large, execution="eager", epochs=2))
    others = [replace(small, module=module, batch=1024) for module in TRIED_MODULES]
    others += [replace(small, module=module, batch=128, images=25_000) for module in TRIED_MODULES]
    return [*first, *photographs, *eager, *others]


def profiled_jobs(device: torch.device) -> list[Job]:
    """What is profiled: a few steps each."""
    if device.type != "cuda":
        return [Job("resnet8", "", 32, 256, 64, "eager", epochs=1)]
    small = [Job("resnet20", "", 32, 12 * batch, batch, "cuda-graph", 2) for batch in PROFILED]
    large = Job("torchvision:resnet18", "", 224, 12 * 128, 128, "cuda-graph", epochs=2)
    # the most telling first, in case of a run that is cut short
    first, *others = small
    return [
        replace(job, module=module) for job in (first, large, *others) for module in TRIED_MODULES
    ]


def epochs(device: torch.device) -> Iterator[Finding]:
    """Seconds of an epoch for each job."""
    for job in jobs(device):
        yield found_by(partial(timed, job, device), EPOCHS_PART, job.subject)


def profiles(device: torch.device) -> Iterator[Finding]:
    """Kernels and device time of a step for each job."""
    for job in profiled_jobs(device):
        yield found_by(partial(profiled, job, device), PROFILES, job.subject)


def timed(job: Job, device: torch.device) -> Finding:
    """The best of the job's epochs after the first, in which kernels are chosen."""
    ends: list[float] = []

    def on_epoch(_point: EpochPoint) -> None:
        ends.append(time.perf_counter())

    trainer = Trainer(section(job), made_up(job, device), device=device)
    model = network(job)
    began = time.perf_counter()
    with counted_replays() as replays, noted_reasons() as reasons:
        (score,) = trainer.fit(
            model,
            seed=0,
            rungs=[job.epochs],
            rates=LearningRates(LEARNING_RATE),
            callbacks=Callbacks(on_epoch=on_epoch),
        )
    epoch_s = min(end - begin for begin, end in pairwise(ends))
    images_per_s = job.images / epoch_s
    values = {
        **job.as_values(),
        "first_epoch_s": round(ends[0] - began, 3),
        # With the scoring of a thousand images
        "epoch_s": round(epoch_s, 4),
        "images_per_s": round(images_per_s),
        "steps": job.epochs * job.steps,
        "replays": replays[0],
        "loss": round(score.metrics["loss"], 4),
        "peak_mb": round((score.peak_bytes or 0) / 2**20),
    }
    if job.execution == "cuda-graph" and replays[0] == 0:
        reason = reasons[-1] if reasons else "torch gave no reason"
        said = f"no step was recorded: {reason}"
        return Finding(EPOCHS_PART, job.subject, "bad", said, values)
    said = f"{round(epoch_s, 4)} s an epoch, {images_per_s:,.0f} images/s"
    return Finding(EPOCHS_PART, job.subject, "ok", said, values)


def profiled(job: Job, device: torch.device) -> Finding:
    """What the device does in the last epoch, by kernel."""
    cuda = device.type == "cuda"
    trainer = Trainer(section(job), made_up(job, device), device=device)
    watch = profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU])
    begun = ExitStack()

    def on_epoch(point: EpochPoint) -> None:
        # The first epoch chooses kernels and records; where it is the only one, it is profiled.
        if point.epochs == job.epochs - 1:
            begun.enter_context(watch)

    with begun:
        if job.epochs == 1:
            begun.enter_context(watch)
        trainer.fit(
            network(job),
            seed=0,
            rungs=[job.epochs],
            rates=LearningRates(LEARNING_RATE),
            callbacks=Callbacks(on_epoch=on_epoch),
        )
    rows = [
        (row.key, row.count, row.self_device_time_total if cuda else row.self_cpu_time_total)
        for row in watch.key_averages()
    ]
    rows.sort(key=lambda row: -row[2])
    kernels = sum(count for _, count, _ in rows) / job.steps
    device_ms = sum(microseconds for _, _, microseconds in rows) / job.steps / 1e3
    values = {
        **job.as_values(),
        "kernels_a_step": round(kernels),
        "device_ms_a_step": round(device_ms, 3),
        "most": [[key[:80], count, round(each / 1e3, 2)] for key, count, each in rows[:MOST_SHOWN]],
    }
    said = f"{kernels:.0f} kernels and {round(device_ms, 3)} ms a step"
    return Finding(PROFILES, job.subject, "ok", said, values)


def network(job: Job) -> nn.Module:
    """The job's network, with its module in each stage."""
    torch.manual_seed(0)
    shape = (3, job.side, job.side)
    section = BackboneSection(name=job.network)
    model = backbones.build(section, input_shape=shape, classes=CLASSES)
    if not job.module:
        return model
    sites = attachment.survey(model, shape).sites
    stages = dict.fromkeys(site.name.partition(".")[0] for site in sites)
    placement = notation.parse(" ".join(f"{stage}={job.module}" for stage in stages))
    return attachment.attach(model, search_space.resolve(placement, sites, init="identity"))


def made_up(job: Job, device: torch.device) -> Dataset:
    """Noise with a colour for each class, so that the loss falls."""
    generator = torch.Generator().manual_seed(0)

    def split(count: int) -> Split:
        labels = torch.randint(0, CLASSES, (count,), generator=generator)
        shape = (count, 3, job.side, job.side)
        images = torch.randint(0, 156, shape, dtype=torch.uint8, generator=generator)
        images[:, 0] += (10 * labels).to(torch.uint8)[:, None, None]
        pixels = Images.of(images.to(device))
        return Split(pixels, labels.to(device), CLASSES, (0.5,) * 3, (0.25,) * 3)

    scored = split(SCORED_IMAGES)
    return Dataset(
        "made up",
        split(job.images),
        scored,
        tuple("abcdefghij"),
        (3, job.side, job.side),
        f"made up {job.images}",
        lambda: scored,
        task=TASKS["classification"],
    )


def section(job: Job) -> TrainingSection:
    augment = [{"name": "flip"}, {"name": "crop", "padding": 4}]
    settings = {"batch_size": job.batch, "augment": augment, "execution": job.execution}
    return TrainingSection.model_validate(settings)


@contextmanager
def noted_reasons() -> Iterator[list[str]]:
    """Inside, what the trainer logs, as why it records no steps."""
    reasons: list[str] = []

    class Note(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            reasons.append(record.getMessage())

    log = logging.getLogger("nas_attn.training")
    handler = Note()
    level = log.level
    log.addHandler(handler)
    log.setLevel(logging.INFO)
    try:
        yield reasons
    finally:
        log.removeHandler(handler)
        log.setLevel(level)
