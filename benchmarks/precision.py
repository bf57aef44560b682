"""Is a training step on this CPU faster in bfloat16 or in float32? Side by side, and what `auto`
takes.

    OMP_NUM_THREADS=1 python -m benchmarks.precision

Both precisions take turns on the same network and batch: forward, loss, backward, SGD. The ratio is
that of a pair of steps; its spread is the standard deviation over pairs. A ratio below 1 means that
bfloat16 is faster.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from nas_attn import backbones
from nas_attn.training.arithmetic import computes_bfloat16, has_depthwise

NETWORKS: dict[str, tuple[int | None, int, int]] = {
    "resnet8": (8, 32, 64),
    "resnet20": (16, 32, 64),
    "torchvision:resnet18": (None, 128, 16),
    "torchvision:mobilenet_v3_small": (None, 128, 32),
    "torchvision:mobilenet_v2": (None, 128, 16),
    "torchvision:efficientnet_b0": (None, 128, 8),
    "torchvision:mnasnet1_0": (None, 128, 16),
    "torchvision:shufflenet_v2_x1_0": (None, 128, 16),
    "torchvision:regnet_y_400mf": (None, 128, 16),
    "torchvision:resnext50_32x4d": (None, 96, 8),
    "timm:convnext_atto": (None, 96, 16),
    "torchvision:convnext_tiny": (None, 96, 8),
    "timm:vit_tiny_patch16_224": (None, 224, 8),
}
"""Backbone -> width, side of the images, images of a batch."""


def step(
    net: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, y: Tensor, *, low: bool
) -> float:
    """Seconds of one training step."""
    began = time.perf_counter()
    with torch.autocast("cpu", torch.bfloat16, enabled=low):
        loss = cross_entropy(net(x), y)
    torch.autograd.backward(loss)
    optimizer.step()
    optimizer.zero_grad()
    return time.perf_counter() - began


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pairs", type=int, default=15)
    asked = parser.parse_args()
    print(
        "| network | batch | float32, ms | bfloat16, ms | ratio | `auto` takes"
        " |\n|---|---|---|---|---|---|"
    )
    for name, (width, side, batch) in NETWORKS.items():
        net = backbones.create(name, input_shape=(3, side, side), classes=10, width=width)
        net.to(memory_format=torch.channels_last)
        optimizer = torch.optim.SGD(net.parameters(), 0.01)
        x = torch.rand(batch, 3, side, side).contiguous(memory_format=torch.channels_last)
        y = torch.randint(10, (batch,))
        pairs = [
            [step(net, optimizer, x, y, low=low) for low in (False, True)]
            for _ in range(2 + asked.pairs)
        ][2:]
        plain, low = (1000 * statistics.median(times) for times in zip(*pairs, strict=True))
        ratios = [b / a for a, b in pairs]
        spread = f"{statistics.median(ratios):.2f} ± {statistics.stdev(ratios):.2f}"
        taken = (
            "bfloat16"
            if computes_bfloat16(torch.device("cpu"), depthwise=has_depthwise(net))
            else "float32"
        )
        print(
            f"| {name} | {batch} of {side} x {side} | {plain:.0f} | {low:.0f} | {spread} |"
            f" {taken} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
