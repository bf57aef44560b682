"""One gate along the height and one along the width, from means over the other.

- Hou, Zhou, Feng: Coordinate Attention for Efficient Mobile Network Design, CVPR 2021, https://arxiv.org/abs/2103.02907
- Xu, Wan: ELA: Efficient Local Attention for Deep Convolutional Neural Networks, 2024, https://arxiv.org/abs/2403.01123
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.norms import BatchNorm2d, GroupNorm
from nas_attn.attention.row import Init


class CoordinateAttention(nn.Module):
    """`y = x·s(F_h(f_h))·s(F_w(f_w))`, `[f_h; f_w] = hswish(BN(F([mean_W x; mean_H x])))`.

    Start: `identity` zeroes F_h and F_w and uses 2s in both directions.
    Cost, m = max(C / reduction, min_hidden): 3Cm + 3m + 2C parameters, 2Cm(H + W) MACs. Any map size.
    """

    def __init__(self, channels: int, *, reduction: int = 32, min_hidden: int = 8, init: Init = "paper") -> None:
        super().__init__()
        hidden = max(min_hidden, channels // reduction)
        self.identity = init == "identity"
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.norm = BatchNorm2d(hidden)
        self.expand_h = nn.Conv2d(hidden, channels, 1)
        self.expand_w = nn.Conv2d(hidden, channels, 1)
        if self.identity:
            zero_(self.expand_h, self.expand_w)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        strips_NCL1 = torch.cat((x_NCHW.mean(3), x_NCHW.mean(2)), 2)[..., None]
        f_NML1 = functional.hardswish(self.norm(self.reduce(strips_NCL1)))
        f_h, f_w = torch.split(f_NML1, [height, width], 2)
        a_NCH1 = gate(self.expand_h(f_h), x_NCHW, identity=self.identity)
        a_NCW1 = gate(self.expand_w(f_w), x_NCHW, identity=self.identity)
        return x_NCHW * a_NCH1 * a_NCW1.transpose(2, 3)


class EfficientLocalAttention(nn.Module):
    """`y = x·a_h·a_w`, `a_h = s(GN(conv_k(mean_W x)))`, `a_w = s(GN(conv_k(mean_H x)))`.

    The variants T, B, S, L of the paper are settings of kernel and groups, which the catalogue knows.

    Start: `identity` zeroes the normalisation's affine and uses 2s in both directions.
    Cost: C(C/groups)k + 2C parameters (twice without `shared`), C(C/groups)k(H + W) MACs. Any map size.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int,
        groups: int,
        norm_groups: int,
        shared: bool = True,
        activation: Literal["none", "silu"] = "none",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.activation = activation
        how: dict[str, Any] = {"padding": kernel_size // 2, "groups": groups, "bias": False}
        self.conv_h = nn.Conv1d(channels, channels, kernel_size, **how)
        self.norm_h = GroupNorm(norm_groups, channels)
        self.conv_w = None if shared else nn.Conv1d(channels, channels, kernel_size, **how)
        self.norm_w = None if shared else GroupNorm(norm_groups, channels)
        if self.identity:
            zero_(*(norm for norm in (self.norm_h, self.norm_w) if norm is not None))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NCH = self.norm_h(self.conv_h(x_NCHW.mean(3)))
        z_NCW = (self.norm_w or self.norm_h)((self.conv_w or self.conv_h)(x_NCHW.mean(2)))
        if self.activation == "silu":
            z_NCH, z_NCW = functional.silu(z_NCH), functional.silu(z_NCW)
        a_NCH = gate(z_NCH, x_NCHW, identity=self.identity)
        a_NCW = gate(z_NCW, x_NCHW, identity=self.identity)
        return x_NCHW * a_NCH[..., None] * a_NCW[:, :, None]
