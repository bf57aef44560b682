"""Polarized self-attention: a channel gate and a spatial gate.

Liu et al. 2021, arXiv:2107.00782.
"""

from typing import Literal

import torch
from torch import Tensor, nn

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import (
    Blending,
    gate,
    typed_like,
    zero_,
)
from nas_attn.attention.knobs import Reduction


class ChannelBranch(nn.Module):
    """`s(W_z Σ_p m_p·W_v x_p)`, m the softmax of `w_q·x` over the pixels: `(N, C, 1, 1)`.

    W_z is `LN(W z)`; of the authors' code `W z`, or (sequential) `W2 relu(LN(W1 z))` with a quarter
    of the width.
    """

    def __init__(
        self, channels: int, hidden: int, end: Literal["norm", "plain", "bottleneck"]
    ) -> None:
        super().__init__()
        self.query = nn.Conv2d(channels, 1, 1, bias=False)
        self.value = nn.Linear(channels, hidden, bias=False)
        self.up: nn.Sequential
        if end == "bottleneck":
            narrow = max(1, hidden // 4)
            self.up = nn.Sequential(
                nn.Linear(hidden, narrow),
                nn.LayerNorm(narrow),
                nn.ReLU(),
                nn.Linear(narrow, channels),
            )
        else:
            self.up = nn.Sequential(nn.Linear(hidden, channels, bias=False))
            if end == "norm":
                self.up.append(nn.LayerNorm(channels))
        for layer in (self.query, self.value):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Before the sigmoid. The pixels are summed up before the values are taken, which is the
        same and less.
        """
        weight_NP1 = typed_like(torch.softmax(self.query(x_NCHW).flatten(1), 1), x_NCHW)[:, :, None]
        sum_NC = (x_NCHW.flatten(2) @ weight_NP1)[:, :, 0]
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
    """`s(softmax(mean(W_q x))·W_v x)`, the softmax over the hidden channels: `(N, 1, H, W)`.

    In the authors' code it is taken over the pixels: of the product, or (sequential) of `W_v x`.
    """

    def __init__(
        self, channels: int, hidden: int, softmax: Literal["query", "product", "value"]
    ) -> None:
        super().__init__()
        self.softmax = softmax
        self.query = nn.Linear(channels, hidden, bias=False)
        # its weight is read where it runs: a tool may bring it there for that time only
        met = nn.Conv2d if softmax == "value" else MetByQuery
        self.value = met(channels, hidden, 1, bias=False)
        for layer in (self.query, self.value):
            nn.init.kaiming_normal_(layer.weight)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        """Before the sigmoid. The mean is taken before the query."""
        q_NM = self.query(x_NCHW.mean((2, 3)))
        if self.softmax == "value":
            v_NMP = torch.softmax(self.value(x_NCHW).flatten(2), 2)
            z_N1P = typed_like(q_NM[:, None], v_NMP) @ v_NMP
        else:
            if self.softmax == "query":
                q_NM = typed_like(torch.softmax(q_NM, 1), x_NCHW)
            z_N1P = self.value(x_NCHW, q_NM)
            if self.softmax == "product":
                z_N1P = torch.softmax(z_N1P, 2)
        return torch.unflatten(z_N1P, 2, x_NCHW.shape[2:])


class PolarizedSelfAttention(Blending):
    """Polarized self-attention

    Paper: Liu et al. 2021, arXiv:2107.00782.

    `y = x·a_c + x·a_s`, or first `u = x·a_c`, then `y = u·a_s(u)`.

    `a_c = s(LN(W_z W_v Σ_p m_p x_p))`, m the softmax of `w_q·x` over the pixels;
    `a_s = s(softmax(W_q' mean(x))·W_v' x)`, its softmax over the hidden channels. In the authors'
    code (`form="code"`) that softmax is over the pixels, in the parallel layout of its product, in
    the sequential one of `W_v' x`; a_c has no LN, in the sequential layout `W2 relu(LN(W1 ·))` in
    the place of W_z.

    Start: `identity` zeroes the last layer of each gate, with 2s where the layout is `sequential`
    (½ + ½ is 1 already); the parallel code's a_s cannot be: there it blends, `x + a·(y - x)` with
    one scalar a, at first 0.

    Args:
        reduction: channels divided by the hidden width
        layout: side by side or in turn
        form: the paper's, or the code's other softmax
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Reduction = 2,
        layout: Literal["parallel", "sequential"] = "parallel",
        form: Literal["paper", "code"] = "paper",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        sequential = layout == "sequential"
        self.layout = layout
        self.doubled = init == "identity" and sequential
        if form == "paper":
            self.channel = ChannelBranch(channels, hidden, "norm")
            self.spatial = SpatialBranch(channels, hidden, "query")
            last: nn.Module = self.spatial.value
        else:
            self.channel = ChannelBranch(channels, hidden, "bottleneck" if sequential else "plain")
            self.spatial = SpatialBranch(channels, hidden, "value" if sequential else "product")
            last = self.spatial.query
        blends = form == "code" and not sequential
        self.start_blend(init == "identity" and blends)
        if init == "identity" and not blends:
            zero_(self.channel.up[-1], last)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        c_NC11 = gate(self.channel(x_NCHW), x_NCHW, identity=self.doubled)
        if self.layout == "sequential":
            u_NCHW = x_NCHW * c_NC11
            return u_NCHW * gate(self.spatial(u_NCHW), x_NCHW, identity=self.doubled)
        y_NCHW = x_NCHW * (c_NC11 + gate(self.spatial(x_NCHW), x_NCHW, identity=False))
        return self.blended(x_NCHW, y_NCHW)
