"""Versions, devices and tools of this machine."""

from __future__ import annotations

import importlib.util
import os
import platform
import shutil
import subprocess
from collections.abc import Iterator
from typing import Any

import torch

from nas_attn.checkup.findings import Finding, Gpu, Mps, NoGpu, Precision, Versions
from nas_attn.system.processes import cores
from nas_attn.training.arithmetic import computes_bfloat16

ENVIRONMENT = "environment"
NEEDED_PACKAGES = (
    "PIL",
    "alembic",
    "filelock",
    "jinja2",
    "numpy",
    "optuna",
    "platformdirs",
    "plotly",
    "psutil",
    "pydantic",
    "rich",
    "scipy",
    "sqlalchemy",
    "tomlkit",
    "torchvision",
    "typer",
)
USEFUL = ("hypothesis", "onnxruntime", "pytest", "pytest_timeout", "timm", "triton")
QUERIES = "driver_version,clocks.sm,clocks.max.sm,power.limit,compute_mode,mig.mode.current"


def findings(device: torch.device) -> Iterator[Finding]:
    """Python, packages, and the device with its driver and precision."""
    yield _versions()
    if device.type != "cuda":
        return
    if not torch.cuda.is_available():
        yield no_gpu()
        return
    yield _gpu(device)
    yield precision(device)
    yield _mps()


def no_gpu() -> Finding:
    """Torch sees none."""
    built_for = torch.version.cuda
    return Finding(ENVIRONMENT, "GPU", "bad", NoGpu(built_for), {"cuda": built_for})


def _versions() -> Finding:
    """Python, torch and the packages that nas_attn needs."""
    missing = [name for name in NEEDED_PACKAGES if importlib.util.find_spec(name) is None]
    lacking = [name for name in USEFUL if importlib.util.find_spec(name) is None]
    versions = Versions(platform.python_version(), str(torch.__version__), cores(), tuple(missing))
    values = {
        "python": versions.python,
        "torch": versions.torch,
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "cores": versions.cores,
        "missing": missing,
        "not_installed": lacking,
    }
    return Finding(ENVIRONMENT, "versions", "bad" if missing else "ok", versions, values)


def _gpu(device: torch.device) -> Finding:
    properties = torch.cuda.get_device_properties(device)
    memory_gib = properties.total_memory / 2**30
    gpu = Gpu(properties.name, memory_gib, torch.version.cuda)
    values: dict[str, Any] = {
        "gpu": gpu.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(memory_gib, 1),
        "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        "gpus": torch.cuda.device_count(),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        **_driver(),
    }
    return Finding(ENVIRONMENT, "GPU", "ok", gpu, values)


def _driver() -> dict[str, str]:
    """What nvidia-smi says of the first GPU; nothing where it is missing."""
    program = shutil.which("nvidia-smi")
    if program is None:
        return {}
    asked = [program, f"--query-gpu={QUERIES}", "--format=csv,noheader", "-i", "0"]
    try:
        answer = subprocess.run(asked, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return {}
    words = [word.strip() for word in answer.stdout.strip().split(",")]
    return dict(zip(QUERIES.split(","), words, strict=False))


def precision(device: torch.device) -> Finding:
    """What `precision = "auto"` takes on a GPU."""
    bfloat16 = computes_bfloat16(device)
    return Finding(ENVIRONMENT, "precision", "ok" if bfloat16 else "note", Precision(bfloat16))


def _mps() -> Finding:
    installed = shutil.which("nvidia-cuda-mps-control") is not None
    return Finding(ENVIRONMENT, "MPS", "ok" if installed else "note", Mps(installed))
