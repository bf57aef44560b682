"""Which devices the workers of this machine use, how many there are, and what they share."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.memory import Share
from nas_attn.system.processes import cores
from nas_attn.training.plan import study_plan
from nas_attn.training.starts import pick_device

# of a backbone for one image, up to which it leaves most of a GPU idle
SMALL_MACS = 200e6
# workers of small networks, by default
MOST_ON_A_GPU = 4
# of a GPU's memory, for each of them
BYTES_OF_A_WORKER = 8 * 2**30
# GPU memory that CUDA takes for each process beside its tensors
CONTEXT_BYTES = 600 * 2**20


@contextmanager
def on_device(device: torch.device, share: Share) -> Iterator[None]:
    """Inside, a GPU is the current one, and this process takes its share of its memory."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        if share.device > 1:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(
                max(0.02, 1 / share.device - CONTEXT_BYTES / total)
            )
        yield


def default_workers(device: str) -> int:
    """Workers for this machine: one per core up to four on a CPU, one per GPU."""
    return gpus_for(device) or max(1, min(4, cores()))


def gpus_for(device: str) -> int:
    """GPUs that workers with this device share; 0: they work on the CPU."""
    if device == "cpu" or not torch.cuda.is_available():
        return 0
    return torch.cuda.device_count() if device in ("auto", "cuda") else 1


def usual_workers(opened: OpenStudy, device: str) -> int:
    """Workers for a study on this machine: as `default_workers`, and several per GPU if its
    backbone is small, so that one loads, checks or saves while others train.
    """
    gpus = gpus_for(device)
    if not gpus or opened.recipe.training.evaluator is not None:
        return default_workers(device)
    plan = study_plan(opened.store)
    if plan.cost(plan.resolved(BARE))["macs"] > SMALL_MACS:
        return gpus
    memory = torch.cuda.get_device_properties(pick_device(device)).total_memory
    return gpus * max(1, min(MOST_ON_A_GPU, memory // BYTES_OF_A_WORKER, cores() // gpus))


def devices_of(device: str, workers: int) -> list[str]:
    """The device of each of several workers: GPUs in turn if `device` does not say which."""
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return [f"cuda:{number % gpus}" if gpus else device for number in range(workers)]


def shares_of(devices: Sequence[str]) -> list[Share]:
    """How many of these workers share each one's machine and device."""
    counts = Counter(devices)
    return [Share(machine=len(devices), device=counts[device]) for device in devices]
