"""Selective kernel convolution: branches of different reach, of which each channel takes its share.

Li, Wang, Hu, Yang: Selective Kernel Networks, CVPR 2019, https://arxiv.org/abs/1903.06586
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import blend
from nas_attn.attention.norms import BatchNorm1d, BatchNorm2d
from nas_attn.attention.row import Init


class SelectiveKernel(nn.Module):
    """`y = Σ_i a_i·u_i`, `u_i = relu(BN(conv_i x))`, `a = softmax_i(W_i relu(BN(W mean(Σ u))))` for each channel.

    It convolves x, to whose values nothing leads back but the identity start: C to C channels, stride 1. conv_i is a
    3x3 with dilation i, as the authors have it for the sake of speed, or of side 2i + 1.

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
    Cost, M branches and d = max(C / reduction, min_hidden): M(9C²/groups + 2C) + (M + 1)Cd + 2d parameters (1 more with
    the blend), 9MC²/groups·HW + (M + 1)Cd MACs; without `dilated` (2i + 1)² in the place of each 9. Any map size.
    """

    def __init__(
        self,
        channels: int,
        *,
        branches: int = 2,
        dilated: bool = True,
        groups: int = 32,
        reduction: int = 16,
        min_hidden: int = 32,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(min_hidden, channels // reduction)
        self.branches = nn.ModuleList()
        for i in range(1, branches + 1):
            size, dilation = (3, i) if dilated else (2 * i + 1, 1)
            conv = nn.Conv2d(channels, channels, size, padding=i, dilation=dilation, groups=groups, bias=False)
            self.branches.append(nn.Sequential(conv, BatchNorm2d(channels), nn.ReLU()))
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.norm = BatchNorm1d(hidden)
        self.expand = nn.Linear(hidden, branches * channels, bias=False)
        self.blend = nn.Parameter(torch.zeros(())) if init == "identity" else None

    def forward(self, x_NCHW: Tensor) -> Tensor:
        u = [branch(x_NCHW) for branch in self.branches]
        sum_NCHW = u[0]
        for u_NCHW in u[1:]:
            sum_NCHW = sum_NCHW + u_NCHW
        z_NB = self.expand(functional.relu(self.norm(self.reduce(sum_NCHW.mean((2, 3))))))
        a_NMC = torch.softmax(torch.unflatten(z_NB, 1, (len(u), -1)), 1).to(x_NCHW.dtype)
        y_NCHW = u[0].to(x_NCHW.dtype) * a_NMC[:, 0, :, None, None]
        for i, u_NCHW in enumerate(u[1:], 1):
            y_NCHW = y_NCHW + u_NCHW.to(x_NCHW.dtype) * a_NMC[:, i, :, None, None]
        return blend(x_NCHW, y_NCHW, self.blend)
