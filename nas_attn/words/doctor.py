"""What `doctor` says of a machine: its libraries, devices, disk and database."""

from __future__ import annotations

from collections.abc import Mapping

TITLE = "This machine"
NO_GPU = "none that torch can use; training runs on the CPU"


def libraries_text(versions: Mapping[str, str]) -> str:
    """`torch 2.9.0, optuna 4.5.0`."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def gpu_text(name: str, memory_gib: float, cuda: str | None) -> str:
    """Which GPU it is."""
    return f"{name}, {memory_gib:.0f} GiB, CUDA {cuda}"


def mps_text(*, installed: bool) -> str:
    """Whether workers can share a GPU at the same time."""
    if installed:
        return "installed: several workers on one GPU compute at the same time"
    return "not installed: several workers on one GPU take turns"


def cpu_text(cores: int, load: float, *, busy: bool) -> str:
    """How many cores there are, and whether other work is on them."""
    more = " (busy: expect slow searches)" if busy else ""
    return f"{cores} cores, load {load:.1f}{more}"


def disk_text(free_gib: float, folder: object) -> str:
    """How much can be written here."""
    return f"{free_gib:.1f} GiB free in {folder}"


def no_database_text(shown: str, folder: object, *, writable: bool) -> str:
    """That the database would be made at its first use, if its folder can be written."""
    able = "is writable" if writable else "cannot be written"
    return f"{shown}: does not exist yet; {folder} {able}"


def database_text(shown: str, studies: int) -> str:
    """What the database has."""
    counted = "1 study" if studies == 1 else f"{studies} studies"
    return f"{shown}: {counted}"


def extra_text(extra: str, *, installed: bool) -> str:
    """Whether what an extra installs is there."""
    if installed:
        return "installed"
    return f"not installed: pip install 'nas-attn[{extra}]'"


def trying_line(part: str) -> str:
    """That a part of the check of a GPU begins."""
    return f"trying the GPU: {part}"


def good_modules_text(count: int) -> str:
    """How many attention modules are right on the GPU."""
    return f"{count} compute what float64 computes on the CPU"
