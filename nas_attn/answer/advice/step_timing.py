"""How long a training step takes here for each image, before there is a recipe."""

from __future__ import annotations

import copy
import time
from collections.abc import Iterator, Mapping

import torch
from torch import Tensor, nn

from nas_attn.training.numerics import cores_for, intra_op_threads

FIRST_IMAGES = 2
"""Of the first batch, in which the largest network has its step."""
GROWTH = 4
"""Of the next batch: with more steps, finding the size would take longer than the last one."""
LONG_STEP_S = 2.0
"""What takes so long is not repeated, and no batch is tried that would take longer."""
BACKWARD = 3.0
"""A training step in times of a forward pass, about, where none can be timed."""


def training_image_s(model: nn.Module, input_shape: tuple[int, int, int], batch_size: int) -> float:
    """Seconds of a training step for each image, about: a step on noise, on a GPU if there is one,
    else in one thread and divided by the cores. The network is not changed. Where a step needs
    labels, as in detectors: three times a forward pass.

    Args:
        batch_size: of the training. A large network is timed in a smaller batch, where what a step
            takes whatever the batch hardly counts.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    learner = copy.deepcopy(model).train().to(device)
    with intra_op_threads(1):
        image_s = _stepped_image_s(learner, input_shape, device, batch_size)
        if image_s is None:
            x = torch.rand(FIRST_IMAGES, *input_shape, device=device)
            image_s = BACKWARD * _forward_s(learner.eval(), x) / FIRST_IMAGES
    cores = 1 if device.type == "cuda" else cores_for(1)
    return image_s / cores


def _stepped_image_s(
    learner: nn.Module, input_shape: tuple[int, int, int], device: torch.device, batch_size: int
) -> float | None:
    """By steps in larger and larger batches; None: not even the first one works."""
    images = min(FIRST_IMAGES, batch_size)
    image_s: float | None = None
    while True:
        x = torch.rand(images, *input_shape, device=device)
        try:
            step_s, wall_s = _step_s(learner, x)
        except Exception:
            # whatever a network raises that wants more than images, or a device without memory
            return image_s
        image_s = step_s / images
        larger = min(GROWTH * images, batch_size)
        if images == batch_size or wall_s * larger / images > LONG_STEP_S:
            return image_s
        images = larger


def _step_s(learner: nn.Module, x: Tensor) -> tuple[float, float]:
    """(seconds of a training step, the same on the wall clock): the shorter one of two, unless the
    first takes long.
    """
    steps: list[tuple[float, float]] = []
    while not steps or (len(steps) < 2 and steps[0][1] < LONG_STEP_S):
        wall = time.perf_counter()
        began = _clock_s(x.device)
        total = sum(tensor.float().sum() for tensor in _tensors(learner(x)))
        if isinstance(total, Tensor):
            torch.autograd.backward(total)
        step_s = _clock_s(x.device) - began
        steps.append((step_s, time.perf_counter() - wall))
    return min(step_s for step_s, _ in steps), min(wall_s for _, wall_s in steps)


def _forward_s(model: nn.Module, x: Tensor) -> float:
    """Of a second pass: the first is slow."""
    with torch.inference_mode():
        model(x)
        began = _clock_s(x.device)
        model(x)
        return _clock_s(x.device) - began


def _clock_s(device: torch.device) -> float:
    """On a CPU the thread's own time, so that other programs do not count."""
    if device.type == "cuda":
        torch.cuda.synchronize()
        return time.perf_counter()
    return time.thread_time()


def _tensors(output: object) -> Iterator[Tensor]:
    """All tensors of an output that depend on weights."""
    if isinstance(output, Tensor):
        if output.requires_grad:
            yield output
    elif isinstance(output, Mapping):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)
