"""The fingerprint of the measuring machine."""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
from pathlib import Path
from typing import Any

import torch

from nas_attn.errors import MeasurementError
from nas_attn.recipe.recipe import LatencySection
from nas_attn.recipe.tables import LatencyMode
from nas_attn.storage.records import Fingerprint
from nas_attn.system.importing import installing

_CPUFREQ = Path("/sys/devices/system/cpu/cpu0/cpufreq")


def fingerprint(section: LatencySection) -> Fingerprint:
    """The fingerprint for these settings: equal on machines of one kind with the same software. For
    a command, its text is the device. MeasurementError: no such device, or the mode's package is
    missing.
    """
    details = {"torch": str(torch.__version__), "mode": section.mode}
    if section.command is not None:
        return Fingerprint("command", section.command, tuple(sorted(details.items())))
    details |= {"python": platform.python_version().rpartition(".")[0], "system": platform.system()}
    mode = section.row
    if mode.package:
        details[mode.package] = _version(mode)
    name, own_details = _cuda() if section.device == "cuda" else _cpu(section)
    return Fingerprint(section.device, name, tuple(sorted((details | own_details).items())))


def cpu_name() -> str:
    """The CPU's model as the system names it; if it names none, the board's."""
    for file, line in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            text = Path(file).read_text("utf-8", errors="replace")
        except OSError:
            continue
        for row in text.splitlines():
            if row.partition(":")[0].strip() == line or not line:
                return row.partition(":")[2].strip() or row.strip("\0 ")
    return platform.processor() or platform.machine()


def difference(pinned: Fingerprint, here: Fingerprint) -> str:
    """The differences of two fingerprints: `torch 2.14.0 there, 2.15.0 here`."""
    there, now = (
        dict(machine.details) | {"device": machine.device, "name": machine.name}
        for machine in (pinned, here)
    )
    differing = [key for key in sorted(there.keys() | now.keys()) if there.get(key) != now.get(key)]
    return "; ".join(
        f"{key} {there.get(key, 'unknown')} there, {now.get(key, 'unknown')} here"
        for key in differing
    )


def cuda_properties() -> Any:
    """torch's properties of the current CUDA device. Raises MeasurementError: there is none."""
    if not torch.cuda.is_available():
        raise MeasurementError(
            "latency.device is 'cuda', but torch sees no CUDA device: use 'cpu', or another machine"
        )
    return torch.cuda.get_device_properties(torch.cuda.current_device())


def _cpu(section: LatencySection) -> tuple[str, dict[str, str]]:
    details = {
        "machine": platform.machine(),
        "cpus": str(os.cpu_count()),
        "threads": str(section.threads),
        "instructions": torch.backends.cpu.get_cpu_capability(),
    }
    for key, file in (("governor", "scaling_governor"), ("max_clock_khz", "scaling_max_freq")):
        if value := _read(_CPUFREQ / file):
            details[key] = value
    mac = ""
    if platform.system() == "Darwin":
        mac = _output(["sysctl", "-n", "machdep.cpu.brand_string"])
    return mac or cpu_name(), details


def _cuda() -> tuple[str, dict[str, str]]:
    properties = cuda_properties()
    cudnn: int | None = torch.backends.cudnn.version()  # type: ignore[no-untyped-call]
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    index = torch.cuda.current_device()
    details = {
        "capability": f"{properties.major}.{properties.minor}",
        "memory_mib": str(properties.total_memory // 2**20),
        "multiprocessors": str(properties.multi_processor_count),
        "uuid_class": (
            "MIG" if index < len(visible) and visible[index].strip().startswith("MIG-") else "GPU"
        ),
        "cuda": str(torch.version.cuda),
        "cudnn": str(cudnn),
    }
    limits = {
        "driver": "driver_version",
        "power_limit": "power.limit",
        "max_clock": "clocks.max.sm",
    }
    return str(properties.name), details | _nvidia_smi(limits)


def _nvidia_smi(queries: dict[str, str]) -> dict[str, str]:
    """Name -> value of nvidia-smi's queries for the current device; unknown ones are left out."""
    gpu = f"GPU-{str(cuda_properties().uuid).removeprefix('GPU-')}"
    asked = f"--query-gpu={','.join(queries.values())}"
    text = _output(["nvidia-smi", asked, "--format=csv,noheader", "-i", gpu])
    values = [value.strip() for value in text.split(",")]
    if len(values) != len(queries):
        return {}
    return {
        key: value
        for key, value in zip(queries, values, strict=True)
        if value and not value.startswith("[")
    }


def _version(mode: LatencyMode) -> str:
    """Version of the package that a mode needs."""
    try:
        return str(importlib.import_module(mode.package).__version__)
    except ModuleNotFoundError:
        if mode.extra:
            way = installing(mode.extra)
        else:
            way = f"pip install {mode.package}"
        raise MeasurementError(
            f"latency.mode = '{mode.name}' needs {mode.package}, which is missing: {way}"
        ) from None


def _read(path: Path) -> str | None:
    try:
        return path.read_text("utf-8", errors="replace").strip() or None
    except OSError:
        return None


def _output(command: list[str]) -> str:
    """The output of a system tool; empty if it is missing or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, encoding="utf-8", errors="replace", timeout=10, check=True
        )
        return done.stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
