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

from nas_attn.checkup.findings import Finding
from nas_attn.processes import cores
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
    """Says why torch may see none."""
    built = torch.version.cuda
    if built is None:
        result = (
            "this torch is built without CUDA: install one of the builds with it from pytorch.org"
        )
    else:
        result = (
            f"torch (for CUDA {built}) sees no GPU: does nvidia-smi show one, is its driver recent"
            " enough, and is CUDA_VISIBLE_DEVICES unset?"
        )
    return Finding(ENVIRONMENT, "GPU", "bad", result, {"cuda": built})


def _versions() -> Finding:
    missing = [name for name in NEEDED_PACKAGES if importlib.util.find_spec(name) is None]
    lacking = [name for name in USEFUL if importlib.util.find_spec(name) is None]
    values = {
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "cores": cores(),
        "missing": missing,
        "not_installed": lacking,
    }
    if missing:
        result = f"missing: {', '.join(missing)}; install nas-attn with its dependencies"
        return Finding(ENVIRONMENT, "versions", "bad", result, values)
    result = f"Python {values['python']}, torch {values['torch']}, {values['cores']} cores"
    return Finding(ENVIRONMENT, "versions", "ok", result, values)


def _gpu(device: torch.device) -> Finding:
    properties = torch.cuda.get_device_properties(device)
    values: dict[str, Any] = {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(properties.total_memory / 2**30, 1),
        "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        "gpus": torch.cuda.device_count(),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        **_driver(),
    }
    result = f"{values['gpu']}, {values['memory_gib']} GiB, CUDA {torch.version.cuda}"
    return Finding(ENVIRONMENT, "GPU", "ok", result, values)


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
    if computes_bfloat16(device):
        return Finding(ENVIRONMENT, "precision", "ok", "bfloat16, which this GPU computes in")
    result = (
        "float32, since this GPU does not compute in bfloat16: training takes about twice as long"
    )
    return Finding(ENVIRONMENT, "precision", "note", result)


def _mps() -> Finding:
    there = shutil.which("nvidia-cuda-mps-control") is not None
    how = "compute at the same time" if there else "take turns"
    result = f"{'installed' if there else 'not installed'}: several workers on one GPU {how}"
    return Finding(ENVIRONMENT, "MPS", "ok" if there else "note", result)
