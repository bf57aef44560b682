"""Concurrent spatial and channel squeeze-and-excitation: a channel gate and a spatial gate side by side.

Guha Roy, Navab, Wachinger: MICCAI 2018, https://arxiv.org/abs/1803.02579
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.row import Init


class ConcurrentSqueezeExcitation(nn.Module):
    """`y = max(x·s(W2 relu(W1 mean(x))), x·s(conv1x1(x)))`, or the sum of the two.

    Start: `identity` zeroes the last layer of each gate; `max` uses 2s, for `sum` ½ + ½ is 1 already.
    Cost, h = C / reduction: 2Ch + h + C and C + 1 parameters, 2Ch + CHW MACs. Any map size.
    """

    def __init__(
        self, channels: int, *, reduction: int = 2, combine: Literal["max", "sum"] = "max", init: Init = "paper"
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.combine = combine
        self.doubled = init == "identity" and combine == "max"
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.spatial = nn.Conv2d(channels, 1, 1)
        if init == "identity":
            zero_(self.expand, self.spatial)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self.expand(functional.relu(self.reduce(x_NCHW.mean((2, 3)))))
        c_NC11 = gate(z_NC, x_NCHW, identity=self.doubled)[:, :, None, None]
        s_N1HW = gate(self.spatial(x_NCHW), x_NCHW, identity=self.doubled)
        if self.combine == "max":
            return torch.maximum(x_NCHW * c_NC11, x_NCHW * s_N1HW)
        return x_NCHW * (c_NC11 + s_N1HW)
