"""What a detector's choice among its boxes (non-maximum suppression) takes, on images: it depends on what is in them."""

from __future__ import annotations

import copy
import itertools
import statistics
import time
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.backbones.detectors import undecided
from nas_attn.training.threads import intra_op_threads

IMAGES = 20
"""At most so many are timed, each after as many untimed calls as ROUNDS."""
ROUNDS = 3


def time_choice(model: nn.Module, images: Iterable[Tensor]) -> dict[str, Any] | None:
    """Median milliseconds for an image with and without the choice, one thread; None where the network makes it itself.

    Args:
        model: a trained detector of ultralytics or torchvision.
        images: (1, 3, H, W) each, 0 to 1.
    """
    model = copy.deepcopy(model).cpu().eval()
    without = undecided(copy.deepcopy(model))
    whole: Callable[[Tensor], object] = model
    if type(without) is type(model):
        if getattr(model, "end2end", False) or not _of_ultralytics(model):
            return None
        whole = _chosen_by_ultralytics(model)

    times: dict[str, list[float]] = {"with_ms": [], "without_ms": []}
    with torch.no_grad(), intra_op_threads(1):
        for x in itertools.islice(images, IMAGES):
            for name, network in (("with_ms", whole), ("without_ms", without)):
                times[name].append(min(_milliseconds(network, x) for _ in range(ROUNDS)))
    if not times["with_ms"]:
        return None
    return {**{name: statistics.median(found) for name, found in times.items()}, "images": len(times["with_ms"])}


def _of_ultralytics(model: nn.Module) -> bool:
    return any(cls.__module__.startswith("ultralytics.") for cls in type(model).__mro__)


def _chosen_by_ultralytics(model: nn.Module) -> Callable[[Tensor], object]:
    try:
        from ultralytics.utils.nms import non_max_suppression
    except ImportError:  # where it was before 8.3.180
        from ultralytics.utils.ops import non_max_suppression

    return lambda x: non_max_suppression(model(x))


def _milliseconds(network: Callable[[Tensor], object], x: Tensor) -> float:
    began = time.thread_time_ns()
    network(x)
    return (time.thread_time_ns() - began) / 1e6
