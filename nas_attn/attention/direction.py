"""Gates along the height and along the width."""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.fitting import COORDINATE_HIDDEN
from nas_attn.attention.gates import (
    BatchNorm2d,
    GroupNorm,
    convolved,
    gate,
    is_free,
    typed_like,
    zero_,
)
from nas_attn.attention.knobs import FewGroups, Groups, Heads, LongOdd, MapSide, Reduction


class CoordinateAttention(nn.Module):
    """Coordinate attention

    Paper: Hou et al. 2021, arXiv:2103.02907.

    `y = x·s(F_h(f_h))·s(F_w(f_w))`, `[f_h; f_w] = hswish(BN(F([mean_W x; mean_H x])))`.

    Start: `identity` zeroes F_h and F_w and uses 2s in both directions.

    Args:
        reduction: channels divided by the hidden width, which is at least 8
    """

    def __init__(self, channels: int, *, reduction: Reduction = 32, init: Init = "paper") -> None:
        super().__init__()
        hidden = max(COORDINATE_HIDDEN, channels // reduction)
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
    """Efficient local attention

    Paper: Xu and Wan 2024, arXiv:2403.01123.

    `y = x·a_h·a_w`, `a_h = s(GN(conv_k(mean_W x)))`, `a_w = s(GN(conv_k(mean_H x)))`.

    One convolution and norm serve both directions, as in all copies; the paper writes two. The
    variants T, B, S, L of the paper are settings of kernel and groups, which the catalogue knows.

    Start: `identity` zeroes the normalisation's affine and uses 2s in both directions.

    Args:
        kernel_size: odd length of the convolutions
        groups: groups of the convolution
        norm_groups: groups of the group normalisation
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: LongOdd,
        groups: Groups,
        norm_groups: Groups,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        reach = kernel_size // 2
        self.conv_h = nn.Conv1d(
            channels, channels, kernel_size, padding=reach, groups=groups, bias=False
        )
        self.norm_h = GroupNorm(norm_groups, channels)
        if self.identity:
            zero_(self.norm_h)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NCH = self.norm_h(convolved(self.conv_h, x_NCHW.mean(3)))
        z_NCW = self.norm_h(convolved(self.conv_h, x_NCHW.mean(2)))
        a_NCH = gate(z_NCH, x_NCHW, identity=self.identity)
        a_NCW = gate(z_NCW, x_NCHW, identity=self.identity)
        return x_NCHW * a_NCH[..., None] * a_NCW[:, :, None]


REACHES = (3, 5, 7, 9)
"""Lengths of the convolutions, one for each group of channels."""


class SynergisticAttention(nn.Module):
    """Spatial and channel synergistic attention

    Paper: Si et al. 2025, arXiv:2407.05128.

    `u = x·s(GN(f(mean_W x)))·s(GN'(f(mean_H x)))`, then `y = u·s(mean(softmax(QKᵀ/√d)V))`.

    f: depth-wise convolutions along a strip, of length 3, 5, 7, 9 for the four quarters of the
    channels; both directions share them. Q, K, V are u in means over windows, normalised over all
    of C, H and W and scaled by channel; in each head of d = C / heads channels, channels attend to
    channels. The windows do not overlap, and are never larger than the map; what is left over at
    the border takes no part.

    Start: `identity` zeroes both strips' normalisations and V, and uses 2s in all three gates.

    Args:
        heads: heads in which channels attend to channels
        window_size: side of the windows whose means they are compared by
        groups: groups of channels with strips of 3, 5, 7 and 9
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: Heads = 8,
        window_size: MapSide = 7,
        groups: FewGroups = 4,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.heads = heads
        self.window_size = window_size
        self.width = channels // groups
        self.scale = (channels // heads) ** -0.5
        self.strips = nn.ModuleList(
            nn.Conv1d(self.width, self.width, length, padding=length // 2, groups=self.width)
            for length in REACHES[:groups]
        )
        self.norm_h = GroupNorm(groups, channels)
        self.norm_w = GroupNorm(groups, channels)
        self.norm = GroupNorm(1, channels)
        self.query, self.key, self.value = (
            nn.Conv2d(channels, channels, 1, bias=False, groups=channels) for _ in range(3)
        )
        if self.identity:
            zero_(self.norm_h, self.norm_w, self.value)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NCH = gate(self.norm_h(self._along(x_NCHW.mean(3))), x_NCHW, identity=self.identity)
        a_NCW = gate(self.norm_w(self._along(x_NCHW.mean(2))), x_NCHW, identity=self.identity)
        u_NCHW = x_NCHW * a_NCH[..., None] * a_NCW[:, :, None]
        return (
            u_NCHW * gate(self._channels(u_NCHW), x_NCHW, identity=self.identity)[:, :, None, None]
        )

    def _along(self, m_NCL: Tensor) -> Tensor:
        parts = torch.split(m_NCL, self.width, 1)
        return torch.cat([strip(parts[i]) for i, strip in enumerate(self.strips)], 1)

    def _channels(self, u_NCHW: Tensor) -> Tensor:
        """`(N, C)`: what the heads give, before the sigmoid. The mean over windows is taken before
        the product with V's weights, which is the same and less.
        """
        p_NChw = self.norm(window_means(u_NCHW, self.window_size))
        q, k, v = (
            torch.unflatten(layer(p_NChw).flatten(2), 1, (self.heads, -1))
            for layer in (self.query, self.key, self.value)
        )
        weight_NADD = torch.softmax((q * self.scale) @ k.transpose(2, 3), 3)
        z_NAD1 = typed_like(weight_NADD, v) @ v.mean(3, keepdim=True)
        return z_NAD1.flatten(1)


def window_means(x_NCHW: Tensor, side: int) -> Tensor:
    """Means over windows of this side, at most the map's own."""
    if any(map(is_free, x_NCHW.shape[2:])):
        return _window_means_of_any_map(x_NCHW, side)
    return functional.avg_pool2d(x_NCHW, [min(side, size) for size in x_NCHW.shape[2:]])


def _window_means_of_any_map(x_NCHW: Tensor, side: int) -> Tensor:
    """The same, of a map whose size a file leaves free: one that is smaller than a window is padded
    with zeros, which do not count.
    """
    missing: list[Any] = []
    for size in x_NCHW.shape[2:]:
        # a traced size is a tensor
        lacks: Any = side - size
        missing.append(lacks.clamp(min=0) if isinstance(lacks, Tensor) else torch.sym_max(lacks, 0))
    inside_11HW = torch.ones_like(x_NCHW[:1, :1])
    mean, share_of_map = (
        functional.avg_pool2d(functional.pad(each, (0, missing[1], 0, missing[0])), side)
        for each in (x_NCHW, inside_11HW)
    )
    return mean / share_of_map
