"""Gates from large kernels and from strips along the height and the width; plain residual
convolutions. Papers: `rows.py`.
"""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import (
    BatchNorm1d,
    BatchNorm2d,
    GroupNorm,
    blend,
    gate,
    is_free,
    one_of,
    unity_,
    zero_,
)
from nas_attn.attention.row import Init
from nas_attn.attention.rows import lska_sizes


class LargeSelectiveKernel(nn.Module):
    """`y = x·W(a_1·u_1 + a_2·u_2)`, `[a_1; a_2] = s(conv7([mean_C u; max_C u]))`, `u = [u_1; u_2]`
    both 1x1 C to h.

    u_1 is of a depth-wise 5x5 convolution of x, u_2 of a 7x7 one with dilation 3 behind that. This
    is the selection alone; the block that LSKNet puts around it (1x1, GELU, this, 1x1, shortcut) is
    the network's. Ties of the maximum share the gradient.
    Start: `identity` starts W at weight 0 and bias 1.
    """

    def __init__(
        self, channels: int, *, reduction: int = 2, kernel_size: int = 7, init: Init = "paper"
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.far = nn.Conv2d(channels, channels, 7, padding=9, dilation=3, groups=channels)
        self.reduce_near = nn.Conv2d(channels, hidden, 1)
        self.reduce_far = nn.Conv2d(channels, hidden, 1)
        self.select = nn.Conv2d(2, 2, kernel_size, padding=kernel_size // 2)
        self.expand = nn.Conv2d(hidden, channels, 1)
        if init == "identity":
            unity_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        near_NCHW = self.near(x_NCHW)
        u_NMHW, v_NMHW = self.reduce_near(near_NCHW), self.reduce_far(self.far(near_NCHW))
        both_NBHW = torch.cat((u_NMHW, v_NMHW), 1)
        pooled_N2HW = torch.cat(
            (both_NBHW.mean(1, keepdim=True), both_NBHW.amax(1, keepdim=True)), 1
        )
        a_N2HW = gate(self.select(pooled_N2HW), u_NMHW, identity=False)
        z_NCHW: Tensor = self.expand(u_NMHW * a_N2HW[:, :1] + v_NMHW * a_N2HW[:, 1:])
        return x_NCHW * z_NCHW.to(x_NCHW.dtype)


class LargeSeparableKernel(nn.Module):
    """`y = x·conv1x1(dilated strips(strips(x)))`: rows and columns, depth-wise, once dense and once
    dilated.
    Start: `identity` starts the 1x1 convolution at weight 0 and bias 1.
    """

    def __init__(self, channels: int, *, kernel_size: int = 11, init: Init = "paper") -> None:
        super().__init__()
        dense, dilated, dilation = lska_sizes(kernel_size)
        reach = dilated // 2 * dilation
        self.rows = nn.Conv2d(
            channels, channels, (1, dense), padding=(0, dense // 2), groups=channels
        )
        self.columns = nn.Conv2d(
            channels, channels, (dense, 1), padding=(dense // 2, 0), groups=channels
        )
        far: dict[str, Any] = {"dilation": dilation, "groups": channels}
        self.far_rows = nn.Conv2d(channels, channels, (1, dilated), padding=(0, reach), **far)
        self.far_columns = nn.Conv2d(channels, channels, (dilated, 1), padding=(reach, 0), **far)
        self.mix = nn.Conv2d(channels, channels, 1)
        if init == "identity":
            unity_(self.mix)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NCHW: Tensor = self.mix(self.far_columns(self.far_rows(self.columns(self.rows(x_NCHW)))))
        return x_NCHW * a_NCHW.to(x_NCHW.dtype)


class SelectiveKernel(nn.Module):
    """`y = Σ_i a_i·u_i`, `u_i = relu(BN(conv_i x))`, `a = softmax_i(W_i relu(BN(W mean(Σ u))))` for
    each channel.

    It convolves x, to whose values nothing leads back but the identity start: C to C channels,
    stride 1. conv_i is a 3x3 with dilation i, as the authors have it for the sake of speed, or of
    side 2i + 1.
    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
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
            conv = nn.Conv2d(
                channels, channels, size, padding=i, dilation=dilation, groups=groups, bias=False
            )
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


class ContextAnchor(nn.Module):
    """`y = x·s(f2(column_k(row_k(f1(mean_p(x))))))`: local means, 1x1, a depth-wise row, a
    depth-wise column, 1x1.

    The means are over p x p pixels, zeros beyond the border among them. f1, f2 are a 1x1
    convolution, batch normalisation and SiLU in the authors' code; the paper's equations have the
    convolution alone.
    Start: `identity` zeroes the last layer and uses 2s.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int = 11,
        pool_size: int = 7,
        norm: bool = True,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.pool_size = pool_size
        reach = kernel_size // 2
        self.first = self._mix(channels, norm)
        self.rows = nn.Conv2d(
            channels, channels, (1, kernel_size), padding=(0, reach), groups=channels
        )
        self.columns = nn.Conv2d(
            channels, channels, (kernel_size, 1), padding=(reach, 0), groups=channels
        )
        self.last = self._mix(channels, norm)
        if self.identity:
            zero_(self.last[1] if norm else self.last[0])

    @staticmethod
    def _mix(channels: int, norm: bool) -> nn.Sequential:
        if not norm:
            return nn.Sequential(nn.Conv2d(channels, channels, 1))
        conv = nn.Conv2d(channels, channels, 1, bias=False)
        return nn.Sequential(conv, BatchNorm2d(channels, eps=1e-3, momentum=0.03), nn.SiLU())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        p_NCHW = functional.avg_pool2d(x_NCHW, self.pool_size, 1, self.pool_size // 2)
        z_NCHW = self.last(self.columns(self.rows(self.first(p_NCHW))))
        return x_NCHW * gate(z_NCHW, x_NCHW, identity=self.identity)


STRIPS = (7, 11, 21)
"""Lengths of the authors' strips."""


class ChannelPrior(nn.Module):
    """`u = x·s(MLP(mean x) + MLP(max x))`, then `y = u·W(d + Σ_k column_k(row_k(d)))`, `d =
    conv5(u)`, k = 7, 11, 21.

    conv5, rows and columns are depth-wise, W is a 1x1 convolution, without a sigmoid. `projected`
    takes gelu(Wx) in the place of x and gives Wy, with the one W, as the authors' code does. Ties
    of the maximum share the gradient.
    Start: `identity` zeroes the MLP's last layer, with 2s for `sum` (½ + ½ is 1 already), and
    starts W at weight 0 and bias 1; `projected` blends: `x + a·(y - x)` with one learned scalar a,
    at first 0.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 4,
        channel_gate: Literal["sum", "sigmoids"] = "sum",
        projected: bool = False,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden, identity = max(1, channels // reduction), init == "identity"
        self.channel_gate = channel_gate
        self.projected = projected
        self.doubled = identity and not projected and channel_gate == "sum"
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            nn.Sequential(
                nn.Conv2d(
                    channels, channels, (1, length), padding=(0, length // 2), groups=channels
                ),
                nn.Conv2d(
                    channels, channels, (length, 1), padding=(length // 2, 0), groups=channels
                ),
            )
            for length in STRIPS
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        self.blend = nn.Parameter(torch.zeros(())) if identity and projected else None
        if identity and not projected:
            zero_(self.expand)
            unity_(self.mix)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        v_NCHW = functional.gelu(self.mix(x_NCHW)).to(x_NCHW.dtype) if self.projected else x_NCHW
        u_NCHW = v_NCHW * self._channels(v_NCHW)[:, :, None, None]
        d_NCHW = self.near(u_NCHW)
        sum_NCHW = d_NCHW
        for strip in self.strips:
            sum_NCHW = sum_NCHW + strip(d_NCHW)
        y_NCHW: Tensor = u_NCHW * self.mix(sum_NCHW).to(x_NCHW.dtype)
        if self.projected:
            y_NCHW = self.mix(y_NCHW).to(x_NCHW.dtype)
        return blend(x_NCHW, y_NCHW, self.blend)

    def _channels(self, x_NCHW: Tensor) -> Tensor:
        """`(N, C)`: the channel gate."""
        z_NC, w_NC = (
            self.expand(functional.relu(self.reduce(pooled_NC)))
            for pooled_NC in (x_NCHW.amax((2, 3)), x_NCHW.mean((2, 3)))
        )
        if self.channel_gate == "sigmoids":
            return gate(z_NC, x_NCHW, identity=False) + gate(w_NC, x_NCHW, identity=False)
        return gate(z_NC + w_NC, x_NCHW, identity=self.doubled)


class ResidualConvolution(nn.Module):
    """`y = x + BN(conv(relu(x)))`. `identity` zeroes the normalisation's affine."""

    def __init__(self, conv: nn.Conv2d, init: Init) -> None:
        super().__init__()
        self.conv = conv
        self.norm = BatchNorm2d(conv.out_channels)
        if init == "identity":
            zero_(self.norm)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NCHW: Tensor = self.norm(self.conv(functional.relu(x_NCHW)))
        return x_NCHW + z_NCHW.to(x_NCHW.dtype)


class PointwiseConvolution(ResidualConvolution):
    """`y = x + BN(conv1x1(relu(x)))`: one more layer, which mixes the channels of each pixel.
    Start: `identity` zeroes the normalisation's affine.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__(nn.Conv2d(channels, channels, 1, bias=False), init)


class DepthwiseConvolution(ResidualConvolution):
    """`y = x + BN(conv_k(relu(x)))`: one more layer, which mixes the k x k pixels of each channel.
    Start: `identity` zeroes the normalisation's affine.
    """

    def __init__(self, channels: int, *, kernel_size: int = 3, init: Init = "paper") -> None:
        reach = kernel_size // 2
        super().__init__(
            nn.Conv2d(channels, channels, kernel_size, padding=reach, groups=channels, bias=False),
            init,
        )


class CoordinateAttention(nn.Module):
    """`y = x·s(F_h(f_h))·s(F_w(f_w))`, `[f_h; f_w] = hswish(BN(F([mean_W x; mean_H x])))`.
    Start: `identity` zeroes F_h and F_w and uses 2s in both directions.
    """

    def __init__(
        self, channels: int, *, reduction: int = 32, min_hidden: int = 8, init: Init = "paper"
    ) -> None:
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

    The variants T, B, S, L of the paper are settings of kernel and groups, which the catalogue
    knows.
    Start: `identity` zeroes the normalisation's affine and uses 2s in both directions.
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


REACHES = (3, 5, 7, 9)
"""Lengths of the convolutions, one for each group of channels."""


class SynergisticAttention(nn.Module):
    """`u = x·s(GN(f(mean_W x)))·s(GN'(f(mean_H x)))`, then `y = u·s(mean(softmax(QKᵀ/√d)V))`.

    f: depth-wise convolutions along a strip, of length 3, 5, 7, 9 for the four quarters of the
        channels; both
    directions share them. Q, K, V are u in means over windows, normalised over all of C, H and W
    and scaled by channel; in each head of d = C / heads channels, channels attend to channels. The
    windows do not overlap, and are never larger than the map; what is left over at the border takes
    no part.
    Start: `identity` zeroes both strips' normalisations and V, and uses 2s in all three gates.
    """

    def __init__(
        self,
        channels: int,
        *,
        heads: int = 8,
        window_size: int = 7,
        groups: int = 4,
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
        z_NAD1 = weight_NADD.to(v.dtype) @ v.mean(3, keepdim=True)
        return z_NAD1.flatten(1)


@torch.fx.wrap
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
    padded = functional.pad(x_NCHW, (0, missing[1], 0, missing[0]))
    counted = (side - missing[0]) * (side - missing[1])
    return functional.avg_pool2d(padded, side) * (side * side * one_of(counted))
