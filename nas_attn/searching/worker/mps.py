"""NVIDIA's MPS, under which the kernels of several workers run on one GPU at the same time."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from nas_attn.searching.worker.devices import shares_of

MPS_CONTROL = "nvidia-cuda-mps-control"
PIPES = "CUDA_MPS_PIPE_DIRECTORY"
VISIBLE = "CUDA_VISIBLE_DEVICES"
PROBE = (sys.executable, "-P", "-c", "import torch; torch.ones(1, device='cuda').item()")


@contextmanager
def mps(
    devices: Sequence[str], say: Callable[[str], None], probe: Sequence[str] = PROBE
) -> Iterator[dict[str, str]]:
    """NVIDIA's MPS, if it is there and workers share a GPU, whose kernels then run at the same
    time; yields its clients' environment. A server that runs stays; if `probe`, a command that uses
    a GPU, fails under it, workers go without.
    """
    shared = any(share.device > 1 for share in shares_of(devices)) and devices[0].startswith("cuda")
    control = shutil.which(MPS_CONTROL)
    if not shared or control is None or PIPES in os.environ:
        yield {}
        return
    with tempfile.TemporaryDirectory(prefix="nas_attn-mps-") as folder:
        places = {PIPES: folder, "CUDA_MPS_LOG_DIRECTORY": folder}
        environment = {**os.environ, **places}
        clients = {**places, **_visible_to_clients(os.environ.get(VISIBLE))}
        try:
            started = _succeeds([control, "-d"], environment)
            answers = started and _succeeds(probe, {**environment, **clients})
            if not answers:
                say(
                    "NVIDIA's MPS is installed but does not work here: the workers on one GPU take"
                    " turns"
                )
            yield clients if answers else {}
        finally:
            _succeeds([control], environment, "quit\n")


def _visible_to_clients(to_server: str | None) -> dict[str, str]:
    """The clients' variable of visible GPUs, if they need another one than the server. It numbers
    the GPUs that it sees anew, from 0; a name (`GPU-…`, `MIG-…`) means the same for both.
    """
    gpus = [] if to_server is None else to_server.split(",")
    if not any(gpu.strip().isdigit() for gpu in gpus):
        return {}
    return {VISIBLE: ",".join(map(str, range(len(gpus))))}


def _succeeds(command: Sequence[str], environment: Mapping[str, str], told: str = "") -> bool:
    # not pipes: a server that stays keeps them open
    quiet = subprocess.DEVNULL
    try:
        subprocess.run(
            command,
            env=environment,
            input=told.encode(),
            stdout=quiet,
            stderr=quiet,
            timeout=60,
            check=True,
        )
    except (OSError, subprocess.SubprocessError):
        return False
    return True
