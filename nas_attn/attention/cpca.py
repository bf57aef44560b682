"""Channel prior convolutional attention: a channel gate, then a map from depth-wise strips of several lengths.

Huang, Chen, Zou, Lu, Chen, Shen: Computers in Biology and Medicine 2024, https://arxiv.org/abs/2306.05196
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import blend, gate, unity_, zero_
from nas_attn.attention.row import Init

STRIPS = (7, 11, 21)
"""Lengths of the authors' strips."""


class ChannelPrior(nn.Module):
    """`u = x·s(MLP(mean x) + MLP(max x))`, then `y = u·W(d + Σ_k column_k(row_k(d)))`, `d = conv5(u)`, k = 7, 11, 21.

    conv5, rows and columns are depth-wise, W is a 1x1 convolution, without a sigmoid. `projected` takes gelu(Wx) in the
    place of x and gives Wy, with the one W, as the authors' code does. Ties of the maximum share the gradient.

    Start: `identity` zeroes the MLP's last layer, with 2s for `sum` (½ + ½ is 1 already), and starts W at weight 0 and
    bias 1; `projected` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
    Cost, h = C / reduction: C² + 112C + 2Ch + h parameters, 4Ch + (C² + 103C)HW MACs; `projected` 2C²HW more. Any map
    size.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        channel_gate: Literal["sum", "sigmoids"] = "sum",
        projected: bool = False,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden, identity = max(1, channels // reduction), init == "identity"
        self.channel_gate = channel_gate
        self.projected = projected
        self.doubled = identity and not projected and channel_gate == "sum"
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(channels, channels, (1, length), padding=(0, length // 2), groups=channels),
                nn.Conv2d(channels, channels, (length, 1), padding=(length // 2, 0), groups=channels),
            )
            for length in STRIPS
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        self.blend = nn.Parameter(torch.zeros(())) if identity and projected else None
        if identity and not projected:
            zero_(self.expand)
            unity_(self.mix)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        v_NCHW = functional.gelu(self.mix(x_NCHW)).to(x_NCHW.dtype) if self.projected else x_NCHW
        u_NCHW = v_NCHW * self._channels(v_NCHW)[:, :, None, None]
        d_NCHW = self.near(u_NCHW)
        sum_NCHW = d_NCHW
        for strip in self.strips:
            sum_NCHW = sum_NCHW + strip(d_NCHW)
        y_NCHW: Tensor = u_NCHW * self.mix(sum_NCHW).to(x_NCHW.dtype)
        if self.projected:
            y_NCHW = self.mix(y_NCHW).to(x_NCHW.dtype)
        return blend(x_NCHW, y_NCHW, self.blend)

    def _channels(self, x_NCHW: Tensor) -> Tensor:
        """`(N, C)`: the channel gate."""
        z_NC, w_NC = (
            self.expand(functional.relu(self.reduce(pooled_NC)))
            for pooled_NC in (x_NCHW.amax((2, 3)), x_NCHW.mean((2, 3)))
        )
        if self.channel_gate == "sigmoids":
            return gate(z_NC, x_NCHW, identity=False) + gate(w_NC, x_NCHW, identity=False)
        return gate(z_NC + w_NC, x_NCHW, identity=self.doubled)
