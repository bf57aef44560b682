"""Normalisations that also stand a single value per channel (batch 1, map 1x1), which torch's refuse."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of `(N, C, H, W)`; with one value per channel it uses the running statistics.

    One value has no spread: torch raises in training, although networks end in 1x1 maps and batches in single images.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        return super().forward(x)


class BatchNorm1d(BatchNorm2d):
    """The same of `(N, C)`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, None, None])[:, :, 0, 0]


class GroupNorm(nn.GroupNorm):
    """Group normalisation; a group with one value becomes its bias."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)
