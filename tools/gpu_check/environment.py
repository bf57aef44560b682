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

from gpu_check.findings import Finding
from nas_attn.system.processes import cores
from nas_attn.training.numerics import computes_bfloat16

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
        built_for = torch.version.cuda
        said = (
            f"torch (for CUDA {built_for}) sees no GPU: does nvidia-smi show one, is its driver"
            " recent enough, and is CUDA_VISIBLE_DEVICES unset?"
        )
        if built_for is None:
            said = "this torch is built without CUDA: install a build with it from pytorch.org"
        yield Finding(ENVIRONMENT, "GPU", "bad", said, {"cuda": built_for})
        return
    yield _gpu(device)
    yield precision(device)


def _versions() -> Finding:
    """Python, torch and the packages that nas_attn needs."""
    missing = [name for name in NEEDED_PACKAGES if importlib.util.find_spec(name) is None]
    lacking = [name for name in USEFUL if importlib.util.find_spec(name) is None]
    python = platform.python_version()
    values = {
        "python": python,
        "torch": str(torch.__version__),
        "cuda": torch.version.cuda,
        "system": platform.platform(),
        "cores": cores(),
        "missing": missing,
        "not_installed": lacking,
    }
    if missing:
        said = f"missing: {', '.join(missing)}; install nas-attn with its dependencies"
        return Finding(ENVIRONMENT, "versions", "bad", said, values)
    said = f"Python {python}, torch {torch.__version__}, {cores()} cores"
    return Finding(ENVIRONMENT, "versions", "ok", said, values)


def _gpu(device: torch.device) -> Finding:
    properties = torch.cuda.get_device_properties(device)
    memory_gib = properties.total_memory / 2**30
    values: dict[str, Any] = {
        "gpu": properties.name,
        "capability": f"{properties.major}.{properties.minor}",
        "memory_gib": round(memory_gib, 1),
        "l2_mib": round(properties.L2_cache_size / 2**20, 1),
        "gpus": torch.cuda.device_count(),
        "cudnn": torch.backends.cudnn.version(),  # type: ignore[no-untyped-call]
        "visible_devices": os.environ.get("CUDA_VISIBLE_DEVICES"),
        **_driver(),
    }
    said = f"{properties.name}, {memory_gib:.1f} GiB, CUDA {torch.version.cuda}"
    return Finding(ENVIRONMENT, "GPU", "ok", said, values)


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
    said = (
        "float32, since this GPU does not compute in bfloat16: training takes about twice as long"
    )
    return Finding(ENVIRONMENT, "precision", "note", said)
