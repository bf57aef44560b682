"""Which devices the workers of this machine use, and how many there are."""

from __future__ import annotations

import torch

from nas_attn.space.placement import BARE
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.processes import cores
from nas_attn.training.plan import study_plan
from nas_attn.training.starts import pick_device

# of a backbone for one image, up to which it leaves most of a GPU idle
SMALL_MACS = 200e6
# workers of small networks, by default
MOST_ON_A_GPU = 4
# of a GPU's memory, for each of them
BYTES_OF_A_WORKER = 8 * 2**30


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
