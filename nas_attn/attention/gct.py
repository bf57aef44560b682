"""Gated channel transformation: channels compete by their norms. Starts as the identity in the paper's own form.

Yang, Zhu, Wu, Yang: Gated Channel Transformation for Visual Recognition, CVPR 2020, https://arxiv.org/abs/1909.11519
"""

from typing import Literal

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import magnitude, sum_of_squares
from nas_attn.attention.row import Init

EPS = 1e-5
"""Added to the squared norms (L1: to the norm), as in the authors' code."""


class GatedChannel(nn.Module):
    """`y = x·(1 + tanh(γ·ŝ + β))`, `s_c = α_c·‖x_c‖`, `ŝ = s / rms(s)` over the channels.

    Start: both are the same: γ = β = 0 is the identity.
    Cost: 3C parameters, no MACs. Any map size.
    """

    def __init__(self, channels: int, *, norm: Literal["l2", "l1"] = "l2", init: Init = "paper") -> None:
        super().__init__()
        self.norm = norm
        self.init = init
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if self.norm == "l2":
            s_NC = (sum_of_squares(x_NCHW)[:, :, 0, 0] + EPS).sqrt() * self.alpha
            rms_N1 = (s_NC.square().mean(1, keepdim=True) + EPS).sqrt()
        else:
            s_NC = magnitude(x_NCHW).sum((2, 3)) * self.alpha
            rms_N1 = magnitude(s_NC).mean(1, keepdim=True) + EPS
        a_NC = 1 + torch.tanh(s_NC * (self.gamma / rms_N1) + self.beta)
        return x_NCHW * a_NC.to(x_NCHW.dtype)[:, :, None, None]
