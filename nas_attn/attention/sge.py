"""Spatial group-wise enhance: in each group of channels, pixels that resemble the group's mean are raised.

Li, Hu, Yang: Spatial Group-wise Enhance, 2019, https://arxiv.org/abs/1905.09646
"""

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import TINY, free_values, gate, sum_of_squares
from nas_attn.attention.row import Init

EPS = 1e-5
"""Added to the standard deviation, as in the authors' code."""


class SpatialGroupEnhance(nn.Module):
    """Per group `y = x·s(w·t̂ + b)`, `t = Σ_c x·mean(x)`, `t̂ = (t - mean(t)) / (std(t) + ε)` over the map.

    The standard deviation is the unbiased one; a constant map, or one of one pixel, has t̂ = 0.

    Start: `paper` starts at w = 0, b = 1; `identity` at w = b = 0 with 2s.
    Cost: 2·groups parameters, no MACs. Any map size.
    """

    def __init__(self, channels: int, *, groups: int = 64, init: Init = "paper") -> None:
        super().__init__()
        self.identity = init == "identity"
        self.shape = (groups, channels // groups)
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.zeros(groups) if self.identity else torch.ones(groups))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        x_NGCHW = torch.unflatten(x_NCHW, 1, self.shape)
        t_NGHW = (x_NGCHW * x_NGCHW.mean((3, 4), keepdim=True)).sum(2)
        d_NGHW = t_NGHW - t_NGHW.mean((2, 3), keepdim=True)
        std_NG11 = (sum_of_squares(d_NGHW) / free_values(height * width) + TINY).sqrt()
        z_NGHW = d_NGHW / (std_NG11 + EPS) * self.weight[:, None, None] + self.bias[:, None, None]
        return (x_NGCHW * gate(z_NGHW, x_NCHW, identity=self.identity)[:, :, None]).flatten(1, 2)
