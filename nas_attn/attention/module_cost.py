"""What a module costs: counted by torch while it runs on one map."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from nas_attn.attention.fitting import Count, MapShape


def run(build: Callable[[], nn.Module], shape: MapShape, device: str) -> tuple[Tensor, Count]:
    """(What a module makes of one map of zeros, its cost.)

    Args:
        device: `meta` for modules that look at no value, which builds and runs them on shapes
            alone; else `cpu`.
    """
    with torch.random.fork_rng(devices=()), torch.device(device):
        module = build().eval()
        x_1CHW = torch.zeros((1, *shape))
    # The written-out form of attention counts as what it is on every device.
    attention = sdpa_kernel(SDPBackend.MATH)
    with torch.no_grad(), attention, FlopCounterMode(display=False) as counter:
        y_1CHW: Tensor = module(x_1CHW)
    parameters = sum(parameter.numel() for parameter in module.parameters())
    return y_1CHW, Count(parameters, counter.get_total_flops() // 2)
