"""Normalisation-based attention, channel branch: the scales of a batch normalisation say which channels matter.

Liu, Shao, Teng, Hoffmann: NAM, 2021, https://arxiv.org/abs/2111.12419
The paper's L1 penalty on the scales belongs to the loss; its spatial branch, never released, ties a module to one map size.
"""

import torch
from torch import Tensor, nn

from nas_attn.attention.gates import TINY, blend, magnitude
from nas_attn.attention.norms import BatchNorm2d
from nas_attn.attention.row import Init


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
