"""Squeeze-and-excitation and its kin: the means of the channels, through one or two linear layers, gate them.

- Hu, Shen, Albanie, Sun, Wu: Squeeze-and-Excitation Networks, CVPR 2018, https://arxiv.org/abs/1709.01507
- Lee, Park: CenterMask, CVPR 2020, https://arxiv.org/abs/1911.06667
- Guha Roy, Navab, Wachinger: MICCAI 2018, https://arxiv.org/abs/1803.02579
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.row import Init, hidden_width


class SqueezeExcitation(nn.Module):
    """`y = x·s(W2 relu(W1 mean(x)))`, the mean over H and W, h = max(1, C // reduction).

    Start: `identity` zeroes W2 and uses 2s.
    Cost: 2Ch parameters (and h + C biases), 2Ch MACs. Any map size.
    """

    def __init__(
        self, channels: int, *, reduction: int = 16, bias: bool = True, divisor: int = 1, init: Init = "paper"
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, divisor)
        self.identity = init == "identity"
        self.reduce = nn.Linear(channels, hidden, bias=bias)
        self.expand = nn.Linear(hidden, channels, bias=bias)
        if self.identity:
            zero_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self.expand(functional.relu(self.reduce(x_NCHW.mean((2, 3)))))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]


class EffectiveSqueezeExcitation(nn.Module):
    """`y = x·hardsigmoid(W mean(x))`, the mean over H and W, `hardsigmoid(z) = clip(z + 3, 0, 6) / 6`.

    Start: `identity` zeroes W and doubles the gate.
    Cost: C² + C parameters, C² MACs. Any map size.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__()
        self.scale = 2.0 if init == "identity" else 1.0
        self.fc = nn.Linear(channels, channels)
        if init == "identity":
            zero_(self.fc)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NC = functional.hardsigmoid(self.fc(x_NCHW.mean((2, 3)))) * self.scale
        return x_NCHW * a_NC.to(x_NCHW.dtype)[:, :, None, None]


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
