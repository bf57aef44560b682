"""How the workers of one machine share its GPUs: who takes which, and NVIDIA's MPS between those on one.

Without MPS the processes on a GPU take turns; with it their kernels run at the same time, which is what small networks
gain from.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch

from nas_attn.records import Share

CONTROL = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
CONTEXT_BYTES = 600 * 2**20
"""Of a GPU's memory, what CUDA takes for each process beside its tensors."""
PROBE = (sys.executable, "-c", "import torch; torch.ones(1, device='cuda').item()")


def devices_of(device: str, workers: int) -> list[str]:
    """The device of each of several workers: GPUs in turn, where `device` leaves open which."""
    gpus = torch.cuda.device_count() if device in ("auto", "cuda") else 0
    return [f"cuda:{number % gpus}" if gpus else device for number in range(workers)]


def shares_of(devices: Sequence[str]) -> list[Share]:
    """Among how many of the workers on these devices each one's machine and device are shared."""
    counts = Counter(devices)
    return [Share(machine=len(devices), device=counts[device]) for device in devices]


@contextmanager
def on_device(device: torch.device, share: Share) -> Iterator[None]:
    """Makes a GPU the current one inside, of which this process takes its share of the memory."""
    if device.type != "cuda":
        yield
        return
    with torch.cuda.device(device):
        if share.device > 1:
            total = torch.cuda.get_device_properties(device).total_memory
            torch.cuda.set_per_process_memory_fraction(max(0.02, 1 / share.device - CONTEXT_BYTES / total))
        yield


@contextmanager
def mps(
    devices: Sequence[str], say: Callable[[str], None], probe: Sequence[str] = PROBE
) -> Iterator[Mapping[str, str]]:
    """Runs an MPS server where several workers share a GPU and MPS is installed; yields what its clients' environment needs.

    A server that runs already (`CUDA_MPS_PIPE_DIRECTORY` is set) is left as it is.

    Args:
        probe: a command that uses a GPU; where it fails under the server, workers go without.
    """
    shared = any(share.device > 1 for share in shares_of(devices)) and devices[0].startswith("cuda")
    control = shutil.which(CONTROL)
    if not shared or control is None or PIPES in os.environ:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="nas_attn-mps-") as folder:
        clients = {PIPES: folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **clients}
        try:
            answers = _succeeds([control, "-d"], environment) and _succeeds(probe, environment)
            if not answers:
                say("NVIDIA's MPS is installed but does not work here: the workers on one GPU take turns")
            yield clients if answers else {}
        finally:
            _succeeds([control], environment, "quit\n")


def _succeeds(command: Sequence[str], environment: Mapping[str, str], told: str = "") -> bool:
    quiet = subprocess.DEVNULL  # not pipes: a server that stays keeps them open
    try:
        ended = subprocess.run(
            command, env=environment, input=told.encode(), stdout=quiet, stderr=quiet, timeout=60, check=False
        )
        return ended.returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
