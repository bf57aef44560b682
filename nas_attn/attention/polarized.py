"""Polarized self-attention: a channel gate and a spatial gate.

Liu et al. 2021, arXiv:2107.00782.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import gate, typed_like, zero_
from nas_attn.attention.knobs import Reduction


class ChannelBranch(nn.Module):
    """`LN(W_z Σ_p m_p·W_v x_p)`, m the softmax of `w_q·x` over the pixels: `(N, C, 1, 1)`."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, 1, 1, bias=False)
        self.value = nn.Linear(channels, hidden, bias=False)
        self.up = nn.Sequential(nn.Linear(hidden, channels, bias=False), nn.LayerNorm(channels))
        for layer in (self.query, self.value):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Before the sigmoid. The pixels are summed up before the values are taken, which is the
        same and less.
        """
        weight_NP = typed_like(torch.softmax(self.query(x_NCHW).flatten(1), 1), x_NCHW)
        sum_NC = (x_NCHW.flatten(2) @ weight_NP[:, :, None])[:, :, 0]
        z_NC: Tensor = self.up(self.value(sum_NC))
        return z_NC[:, :, None, None]


class MetByQuery(nn.Conv2d):
    """A 1x1 convolution of which only the product with a vector for each image is seen: the vector
    of M becomes one of C before it meets the pixels, the same and less. `(N, 1, P)`.
    """

    def forward(self, x_NCHW: Tensor, q_NM: Tensor) -> Tensor:  # type: ignore[override]
        w_NC = q_NM @ self.weight[:, :, 0, 0]
        return typed_like(w_NC[:, None], x_NCHW) @ x_NCHW.flatten(2)


class SpatialBranch(nn.Module):
    """`softmax(mean(W_q x))·W_v x`, the softmax over the hidden channels: `(N, 1, H, W)`."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.query = nn.Linear(channels, hidden, bias=False)
        # its weight is read where it runs: a tool may bring it there for that time only
        self.value = MetByQuery(channels, hidden, 1, bias=False)
        for layer in (self.query, self.value):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Before the sigmoid. The mean is taken before the query."""
        q_NM = typed_like(torch.softmax(self.query(x_NCHW.mean((2, 3))), 1), x_NCHW)
        return torch.unflatten(self.value(x_NCHW, q_NM), 2, x_NCHW.shape[2:])


class PolarizedSelfAttention(nn.Module):
    """Polarized self-attention

    Paper: Liu et al. 2021, arXiv:2107.00782.

    `y = x·a_c + x·a_s`, or first `u = x·a_c`, then `y = u·a_s(u)`.

    `a_c = s(LN(W_z W_v Σ_p m_p x_p))`, m the softmax of `w_q·x` over the pixels;
    `a_s = s(softmax(W_q' mean(x))·W_v' x)`, its softmax over the hidden channels. The authors' code
    has it over the pixels.

    Start: `identity` zeroes the last layer of each gate, with 2s where the layout is `sequential`
    (½ + ½ is 1 already).

    Args:
        reduction: channels divided by the hidden width
        layout: side by side or in turn
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Reduction = 2,
        layout: Literal["parallel", "sequential"] = "parallel",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.layout = layout
        self.doubled = init == "identity" and layout == "sequential"
        self.channel = ChannelBranch(channels, hidden)
        self.spatial = SpatialBranch(channels, hidden)
        if init == "identity":
            zero_(self.channel.up[-1], self.spatial.value)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        c_NC11 = gate(self.channel(x_NCHW), x_NCHW, identity=self.doubled)
        if self.layout == "sequential":
            u_NCHW = x_NCHW * c_NC11
            return u_NCHW * gate(self.spatial(u_NCHW), x_NCHW, identity=self.doubled)
        return x_NCHW * (c_NC11 + gate(self.spatial(x_NCHW), x_NCHW, identity=False))
