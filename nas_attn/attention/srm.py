"""Channels gated by their statistics: spread, learned scales, norms.

- Lee, Kim, Nam: SRM, ICCV 2019, https://arxiv.org/abs/1903.10829
- Liu, Shao, Teng, Hoffmann: NAM, 2021, https://arxiv.org/abs/2111.12419
  The paper's L1 penalty on the scales belongs to the loss; its spatial branch, never released, ties a module to one map size.
- Yang, Zhu, Wu, Yang: Gated Channel Transformation for Visual Recognition, CVPR 2020, https://arxiv.org/abs/1909.11519
"""

from typing import Literal

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import TINY, blend, free_values, gate, magnitude, sum_of_squares, zero_
from nas_attn.attention.norms import BatchNorm1d, BatchNorm2d
from nas_attn.attention.row import Init

EPS = 1e-5
"""Added to SRM's variance and to GCT's squared norms (L1: to the norm), as in the authors' code."""


class StyleRecalibration(nn.Module):
    """`y = x·s(BN(w_c·[mean(x), std(x)]))`, over H and W; a map of one pixel has variance 0.

    Start: `paper` starts w at zero; `identity` draws it, zeroes the normalisation's affine and uses 2s.
    Cost: 4C parameters, no MACs. Any map size; the normalisation learns from the batch, so train with N > 1.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__()
        self.identity = init == "identity"
        self.style = nn.Parameter(torch.zeros(channels, 2))
        self.norm = BatchNorm1d(channels)
        if self.identity:
            # With both at zero neither would ever have a gradient.
            nn.init.uniform_(self.style, -(0.5**0.5), 0.5**0.5)
            zero_(self.norm)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        mean_NC11 = x_NCHW.mean((2, 3), keepdim=True)
        # Not torch.var, which takes ten times as long on a CPU.
        square_NC = sum_of_squares(x_NCHW - mean_NC11)[:, :, 0, 0]
        std_NC = (square_NC / free_values(height * width) + EPS).sqrt()
        z_NC = self.norm(mean_NC11[:, :, 0, 0] * self.style[:, 0] + std_NC * self.style[:, 1])
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]


class NormalizationAttention(nn.Module):
    """`y = x·s(w·BN(x))`, `w = |gamma| / sum |gamma|`; all gammas zero: w = 0.

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
    Cost: 2C parameters (1 more with the blend), no MACs. Any map size.
    """

    def __init__(self, channels: int, *, detach: bool = False, init: Init = "paper") -> None:
        super().__init__()
        self.detach = detach
        self.norm = BatchNorm2d(channels)
        self.blend = nn.Parameter(torch.zeros(())) if init == "identity" else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        size_C = magnitude(self.norm.weight)
        if self.detach:
            size_C = size_C.detach()
        w_C = size_C / size_C.sum().clamp_min(TINY)
        s_NCHW = torch.sigmoid(self.norm(x_NCHW) * w_C[:, None, None]).to(x_NCHW.dtype)
        return blend(x_NCHW, x_NCHW * s_NCHW, self.blend)


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
