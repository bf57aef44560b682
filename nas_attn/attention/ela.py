"""Efficient local attention: gates along the height and the width from a convolution along each strip of means.

Xu, Wan: ELA: Efficient Local Attention for Deep Convolutional Neural Networks, 2024, https://arxiv.org/abs/2403.01123
"""

from typing import Any, Literal

from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import gate, zero_
from nas_attn.attention.norms import GroupNorm
from nas_attn.attention.row import Init


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
