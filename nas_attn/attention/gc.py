"""Global context block: one attention map sums the pixels up, and what comes out is added to every pixel.

Cao, Xu, Lin, Wei, Hu: GCNet, ICCV workshops 2019, https://arxiv.org/abs/1904.11492
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.row import Init


class GlobalContext(nn.Module):
    """`y = x + W2 relu(LN(W1 c))`, `c = Σ softmax(conv x)·x` over the pixels; or `y = x·s(…)`; or `y = x·s(…) + …`.

    Start: W2 starts at zero in all, as in the authors' code: `add` is the identity; `identity` uses 2s where it
    multiplies.
    Cost, p = C / reduction, at least 2, since LN of a single value ignores it: 2Cp + 3p + C parameters (twice for
    `both`) and C + 1 for the attention map; 2Cp (4Cp) + 2CHW MACs, `average` without the last. Any map size.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        pooling: Literal["attention", "average"] = "attention",
        fusion: Literal["add", "multiply", "both"] = "add",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = channels // min(reduction, max(1, channels // 2))
        self.identity = init == "identity"
        self.fusion = fusion
        self.mask = nn.Conv2d(channels, 1, 1) if pooling == "attention" else None
        self.reduce = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.expand = nn.Linear(hidden, channels)
        zero_(self.expand)
        self.scale: nn.Sequential | None = None
        if fusion == "both":
            expand = nn.Linear(hidden, channels)
            zero_(expand)
            self.scale = nn.Sequential(nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), expand)

    def context(self, x_NCHW: Tensor) -> Tensor:
        """`(N, C)`: the pixels summed up."""
        if self.mask is None:
            return x_NCHW.mean((2, 3))
        weight_NP1 = torch.softmax(self.mask(x_NCHW).flatten(1), 1).to(x_NCHW.dtype)[:, :, None]
        return (x_NCHW.flatten(2) @ weight_NP1)[:, :, 0]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        c_NC = self.context(x_NCHW)
        z_NC: Tensor = self.expand(functional.relu(self.norm(self.reduce(c_NC))))
        if self.fusion == "multiply":
            return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]
        z_NC11 = z_NC.to(x_NCHW.dtype)[:, :, None, None]
        if self.scale is None:
            return x_NCHW + z_NC11
        return x_NCHW * gate(self.scale(c_NC), x_NCHW, identity=self.identity)[:, :, None, None] + z_NC11
