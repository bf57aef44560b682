"""Normalisations that also take a single value per channel (batch 1, map 1x1), which torch's refuse, and that can be traced."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import is_traced

TORCH = nn.BatchNorm2d.__module__
"""What an instance gives as its module, so that torch.fx keeps it whole: a graph of its inside would not follow `eval()`."""


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of `(N, C, H, W)`; with one value per channel it uses the running statistics.

    One value has no spread: torch raises in training, although networks end in 1x1 maps and batches in single images.
    """

    def __init__(self, channels: int, **options: Any) -> None:
        super().__init__(channels, **options)
        self.__module__ = TORCH

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class BatchNorm1d(BatchNorm2d):
    """The same of `(N, C)`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, None, None])[:, :, 0, 0]


class GroupNorm(nn.GroupNorm):
    """Group normalisation of `(N, C, *)`; a group with one value becomes its bias.

    Traced, it is written out: torch's becomes ONNX's InstanceNormalization, which some runtimes reject (RK3588).
    """

    def __init__(self, groups: int, channels: int) -> None:
        super().__init__(groups, channels)
        self.__module__ = TORCH

    def forward(self, x: Tensor) -> Tensor:
        if not is_traced(x):
            return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
        x_NGVP = torch.unflatten(x.flatten(2), 1, (self.num_groups, -1))
        d_NGVP = x_NGVP - x_NGVP.mean((2, 3), keepdim=True)
        z_NGVP = d_NGVP / (d_NGVP.square().mean((2, 3), keepdim=True) + self.eps).sqrt()
        y_NCP = z_NGVP.flatten(1, 2) * self.weight[:, None] + self.bias[:, None]
        return torch.unflatten(y_NCP, 2, x.shape[2:])
