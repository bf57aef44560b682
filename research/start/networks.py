"""The experiment's second backbone: a small network of inverted residuals (MobileNetV2, arXiv
1801.04381) for images of 14 to 20 pixels.

Shapes: x (N, C, H, W).
"""

from __future__ import annotations

from torch import Tensor, nn

EXPANSION = 2
# Channels of the three stages; each begins with a stride of 2 but the first.
STAGES = (8, 16, 32)
# Of the last layer before the classifier.
LAST_CHANNELS = 64


class InvertedResidual(nn.Module):
    """1x1, depthwise 3x3, 1x1 without activation; the input is added where shapes allow."""

    def __init__(self, in_channels: int, out_channels: int, stride: int) -> None:
        super().__init__()
        hidden = EXPANSION * in_channels
        self.expand = _conv_norm_relu(in_channels, hidden, 1)
        self.depthwise = _conv_norm_relu(hidden, hidden, 3, stride=stride, groups=hidden)
        self.project = nn.Conv2d(hidden, out_channels, 1, bias=False)
        self.norm = nn.BatchNorm2d(out_channels)
        self.adds = stride == 1 and in_channels == out_channels

    def forward(self, x: Tensor) -> Tensor:
        branch: Tensor = self.norm(self.project(self.depthwise(self.expand(x))))
        return x + branch if self.adds else branch


class Mobile(nn.Module):
    """A 3x3 convolution, three stages of two inverted residuals, a classifier."""

    def __init__(self, classes: int, in_channels: int) -> None:
        super().__init__()
        channels = STAGES[0]
        self.stem = _conv_norm_relu(in_channels, channels, 3)
        blocks: list[nn.Module] = []
        for stage, width in enumerate(STAGES):
            blocks.append(InvertedResidual(channels, width, 1 if stage == 0 else 2))
            blocks.append(InvertedResidual(width, width, 1))
            channels = width
        self.blocks = nn.Sequential(*blocks)
        self.last = _conv_norm_relu(channels, LAST_CHANNELS, 1)
        self.linear = nn.Linear(LAST_CHANNELS, classes)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.last(self.blocks(self.stem(x)))
        logits: Tensor = self.linear(y.mean((2, 3)))
        return logits


def mobile(classes: int, in_channels: int) -> nn.Module:
    """A backbone that a recipe names: `research.start.networks:mobile`."""
    return Mobile(classes, in_channels)


def _conv_norm_relu(
    in_channels: int, out_channels: int, kernel_size: int, *, stride: int = 1, groups: int = 1
) -> nn.Sequential:
    conv = nn.Conv2d(
        in_channels,
        out_channels,
        kernel_size,
        stride=stride,
        padding=kernel_size // 2,
        groups=groups,
        bias=False,
    )
    return nn.Sequential(conv, nn.BatchNorm2d(out_channels), nn.ReLU(inplace=True))
