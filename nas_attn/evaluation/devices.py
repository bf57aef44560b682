"""Where to train."""

from __future__ import annotations

import torch

from nas_attn.errors import RecipeError


def pick_device(name: str) -> torch.device:
    """The training device that a name means; `auto` takes a GPU where there is one.

    Raises:
        RecipeError: there is no such device.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = None
    if device is None or device.type not in ("cpu", "cuda"):
        raise RecipeError(f"unknown device '{name}': give auto, cpu, cuda or cuda:1")
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        raise RecipeError(f"device '{name}' does not exist: this machine has {torch.cuda.device_count()} CUDA devices")
    return device
