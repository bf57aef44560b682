"""ResNets for small images.

He et al., "Deep Residual Learning for Image Recognition", section 4.2 (arXiv 1512.03385): three
stages of n basic blocks with C, 2C and 4C channels, depth 6n + 2, parameter-free shortcuts (option
A: subsample and pad with zeros).

Shapes: x (N, C, H, W).
"""

from __future__ import annotations

from typing import Final

from torch import Tensor, nn
from torch.nn import functional

DEPTHS: Final = (8, 14, 20, 32, 56)


class Shortcut(nn.Module):
    """Option A: every stride-th pixel, the missing channels filled with zeros on both sides.

    The pixels are taken by a pooling over one pixel each: unlike slices with a step, all runtimes
    have it.
    """

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        missing = out_channels - in_channels
        self.stride = stride
        self.padding = (missing // 2, missing - missing // 2)

    def forward(self, x: Tensor) -> Tensor:
        subsampled = functional.avg_pool2d(x, 1, self.stride)
        return functional.pad(subsampled, (0, 0, 0, 0, *self.padding))


def _conv3x3(in_channels: int, out_channels: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(in_channels, out_channels, 3, stride=stride, padding=1, bias=False)


class BasicBlock(nn.Module):
    """conv-bn-relu-conv-bn, plus the shortcut, then relu."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(in_channels, out_channels, stride)
        self.bn1 = nn.BatchNorm2d(out_channels)
        self.conv2 = _conv3x3(out_channels, out_channels)
        self.bn2 = nn.BatchNorm2d(out_channels)
        self.shortcut: nn.Module = nn.Identity()
        if stride > 1 or in_channels != out_channels:
            self.shortcut = Shortcut(in_channels, out_channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        branch: Tensor = self.bn2(self.conv2(y))
        return functional.relu(branch + self.shortcut(x))


class ResNet(nn.Module):
    """Three stages under `layer1` to `layer3`, a pooled linear head under `linear`. Parameter names
    are those of the widely used reproduction of the paper's CIFAR networks.

    Args:
        depth: 6n + 2, else ValueError.
        classes: the number of logits.
        in_channels: channels of an image.
        width: channels of the first stage (the paper: 16).
    """

    def __init__(self, depth: int, *, classes: int, in_channels: int = 3, width: int = 16) -> None:
        super().__init__()
        if depth < 8 or (depth - 2) % 6:
            raise ValueError(f"a CIFAR ResNet's depth is 6n + 2 (8, 14, 20, …), not {depth}")
        blocks = (depth - 2) // 6
        self.conv1 = _conv3x3(in_channels, width)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = self._stage(width, width, blocks, 1)
        self.layer2 = self._stage(width, 2 * width, blocks, 2)
        self.layer3 = self._stage(2 * width, 4 * width, blocks, 2)
        self.linear = nn.Linear(4 * width, classes)
        for module in self.modules():
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight)

    def _stage(
        self, in_channels: int, out_channels: int, blocks: int, stride: int
    ) -> nn.Sequential:
        first = BasicBlock(in_channels, out_channels, stride)
        return nn.Sequential(
            first, *(BasicBlock(out_channels, out_channels, 1) for _ in range(blocks - 1))
        )

    def forward(self, x: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(x)))
        x = self.layer3(self.layer2(self.layer1(x)))
        logits: Tensor = self.linear(x.mean(dim=(2, 3)))
        return logits


MODELS: Final = {f"resnet{depth}": depth for depth in DEPTHS}
"""Name -> depth."""
