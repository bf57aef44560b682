"""Gates from large kernels."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.fitting import SELECTIVE_HIDDEN
from nas_attn.attention.gates import (
    BatchNorm1d,
    BatchNorm2d,
    Blending,
    ConvolvedFirst,
    convolved,
    gate,
    typed_like,
    unity_,
    zero_,
)
from nas_attn.attention.knobs import Branches, Groups, LongOdd, Odd, Reduction


class LargeSelectiveKernel(nn.Module):
    """Large selective kernel

    Paper: Li et al. 2023, arXiv:2303.09030.

    `y = x·W(a_1·u_1 + a_2·u_2)`, `[a_1; a_2] = s(conv7([mean_C u; max_C u]))`, `u = [u_1; u_2]`
    both 1x1 C to h.

    u_1 is of a depth-wise 5x5 convolution of x, u_2 of a 7x7 one with dilation 3 behind that. This
    is the selection alone; the block that LSKNet puts around it (1x1, GELU, this, 1x1, shortcut) is
    the network's. Ties of the maximum share the gradient.

    Start: `identity` starts W at weight 0 and bias 1.

    Args:
        reduction: channels divided by the hidden width
        kernel_size: odd side of the convolution that selects
    """

    def __init__(
        self, channels: int, *, reduction: Reduction = 2, kernel_size: Odd = 7, init: Init = "paper"
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
        u_NMHW = self.reduce_near(near_NCHW)
        v_NMHW = self.reduce_far(self.far(near_NCHW))
        both_NBHW = torch.cat((u_NMHW, v_NMHW), 1)
        pooled_N2HW = torch.cat(
            (both_NBHW.mean(1, keepdim=True), both_NBHW.amax(1, keepdim=True)), 1
        )
        a_N2HW = gate(self.select(pooled_N2HW), u_NMHW, identity=False)
        z_NCHW: Tensor = self.expand(u_NMHW * a_N2HW[:, :1] + v_NMHW * a_N2HW[:, 1:])
        return x_NCHW * typed_like(z_NCHW, x_NCHW)


def lska_sizes(kernel_size: int) -> tuple[int, int, int]:
    """(dense taps, dilated taps, dilation) of the strips that stand for a large kernel."""
    dilation = 2 if kernel_size < 23 else 3
    return 2 * dilation - 1, kernel_size // dilation, dilation


class LargeSeparableKernel(nn.Module):
    """Large separable kernel attention

    Paper: Lau et al. 2023, arXiv:2309.01439.

    `y = x·conv1x1(dilated strips(strips(x)))`: rows and columns, depth-wise, once dense and once
    dilated.

    Start: `identity` starts the 1x1 convolution at weight 0 and bias 1.

    Args:
        kernel_size: side of the kernel that the strips stand for
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: Literal[7, 11, 23, 35, 41, 53] = 11,
        init: Init = "paper",
    ) -> None:
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
        return x_NCHW * typed_like(a_NCHW, x_NCHW)


STRIPS = (7, 11, 21)
"""Lengths of the strips of multi-scale convolutional attention, and of channel prior attention."""


class MultiScaleConvolution(nn.Module):
    """Multi-scale convolutional attention of SegNeXt

    Paper: Guo et al. 2022, arXiv:2209.08575.

    `y = x·conv1x1(u + Σ_k columns_k(rows_k(u)))`, u a 5x5 of x, k = 7, 11, 21: depth-wise strips
    side by side.

    This is the attention alone, which code for YOLO inserts as it is; the block that SegNeXt puts
    around it (1x1, GELU, this, 1x1, shortcut) is the network's.

    Start: `identity` starts the 1x1 convolution at weight 0 and bias 1.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__()
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            ConvolvedFirst(
                nn.Conv2d(channels, channels, (1, k), padding=(0, k // 2), groups=channels),
                nn.Conv2d(channels, channels, (k, 1), padding=(k // 2, 0), groups=channels),
            )
            for k in STRIPS
        )
        self.mix = nn.Conv2d(channels, channels, 1)
        if init == "identity":
            unity_(self.mix)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        near_NCHW = self.near(x_NCHW)
        sum_NCHW = near_NCHW
        for strip in self.strips:
            sum_NCHW = sum_NCHW + strip(near_NCHW)
        a_NCHW: Tensor = self.mix(sum_NCHW)
        return x_NCHW * typed_like(a_NCHW, x_NCHW)


class SelectiveKernel(Blending):
    """Selective kernel convolution

    Paper: Li et al. 2019, arXiv:1903.06586.

    `y = Σ_i a_i·u_i`, `u_i = relu(BN(conv_i x))`, `a = softmax_i(W_i relu(BN(W mean(Σ u))))` for
    each channel.

    It convolves x, to whose values nothing leads back but the identity start: C to C channels,
    stride 1. conv_i is a 3x3 with dilation i, as the authors have it for the sake of speed.

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.

    Args:
        branches: convolutions of different reach
        groups: groups of the convolutions
        reduction: channels divided by the hidden width, which is at least 32
    """

    def __init__(
        self,
        channels: int,
        *,
        branches: Branches = 2,
        groups: Groups = 32,
        reduction: Reduction = 16,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(SELECTIVE_HIDDEN, channels // reduction)
        self.branches = nn.ModuleList()
        for i in range(1, branches + 1):
            conv = nn.Conv2d(
                channels, channels, 3, padding=i, dilation=i, groups=groups, bias=False
            )
            self.branches.append(ConvolvedFirst(conv, BatchNorm2d(channels), nn.ReLU()))
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.norm = BatchNorm1d(hidden)
        self.expand = nn.Linear(hidden, branches * channels, bias=False)
        self.start_blend(init == "identity")

    def forward(self, x_NCHW: Tensor) -> Tensor:
        u = [branch(x_NCHW) for branch in self.branches]
        sum_NCHW = u[0]
        for u_NCHW in u[1:]:
            sum_NCHW = sum_NCHW + u_NCHW
        z_NB = self.expand(functional.relu(self.norm(self.reduce(sum_NCHW.mean((2, 3))))))
        a_NMC = typed_like(torch.softmax(torch.unflatten(z_NB, 1, (len(u), -1)), 1), x_NCHW)
        y_NCHW = typed_like(u[0], x_NCHW) * a_NMC[:, 0, :, None, None]
        for i, u_NCHW in enumerate(u[1:], 1):
            y_NCHW = y_NCHW + typed_like(u_NCHW, x_NCHW) * a_NMC[:, i, :, None, None]
        return self.blended(x_NCHW, y_NCHW)


class ContextAnchor(nn.Module):
    """Context anchor attention

    Paper: Cai et al. 2024, arXiv:2403.06258.

    `y = x·s(f2(column_k(row_k(f1(mean_p(x))))))`: local means, 1x1, a depth-wise row, a
    depth-wise column, 1x1.

    The means are over p x p pixels, zeros beyond the border among them. f1, f2 are a 1x1
    convolution, batch normalisation and SiLU, as in the authors' code; the paper's equations have
    the convolution alone.

    Start: `identity` zeroes the last normalisation's affine and uses 2s.

    Args:
        kernel_size: odd length of the strips
        pool_size: odd side of the means before them
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: LongOdd = 11,
        pool_size: Odd = 7,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.pool_size = pool_size
        reach = kernel_size // 2
        self.first = self._mix(channels)
        self.rows = nn.Conv2d(
            channels, channels, (1, kernel_size), padding=(0, reach), groups=channels
        )
        self.columns = nn.Conv2d(
            channels, channels, (kernel_size, 1), padding=(reach, 0), groups=channels
        )
        self.last = self._mix(channels)
        if self.identity:
            zero_(self.last[1])

    @staticmethod
    def _mix(channels: int) -> nn.Sequential:
        conv = nn.Conv2d(channels, channels, 1, bias=False)
        return nn.Sequential(conv, BatchNorm2d(channels, eps=1e-3, momentum=0.03), nn.SiLU())

    def forward(self, x_NCHW: Tensor) -> Tensor:
        p_NCHW = functional.avg_pool2d(x_NCHW, self.pool_size, 1, self.pool_size // 2)
        z_NCHW = self.last(self.columns(convolved(self.rows, self.first(p_NCHW))))
        return x_NCHW * gate(z_NCHW, x_NCHW, identity=self.identity)


class ChannelPrior(nn.Module):
    """Channel prior convolutional attention

    Paper: Huang et al. 2024, arXiv:2306.05196.

    `u = x·s(MLP(mean x) + MLP(max x))`, then `y = u·W(d + Σ_k column_k(row_k(d)))`, `d =
    conv5(u)`, k = 7, 11, 21.

    conv5, rows and columns are depth-wise, W is a 1x1 convolution, without a sigmoid. Ties of the
    maximum share the gradient.

    Start: `identity` zeroes the MLP's last layer, with 2s, and starts W at weight 0 and bias 1.

    Args:
        reduction: channels divided by the hidden width
    """

    def __init__(self, channels: int, *, reduction: Reduction = 4, init: Init = "paper") -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.near = nn.Conv2d(channels, channels, 5, padding=2, groups=channels)
        self.strips = nn.ModuleList(
            ConvolvedFirst(
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
        if self.identity:
            zero_(self.expand)
            unity_(self.mix)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC, w_NC = (
            self.expand(functional.relu(self.reduce(pooled_NC)))
            for pooled_NC in (x_NCHW.amax((2, 3)), x_NCHW.mean((2, 3)))
        )
        u_NCHW = x_NCHW * gate(z_NC + w_NC, x_NCHW, identity=self.identity)[:, :, None, None]
        d_NCHW = self.near(u_NCHW)
        sum_NCHW = d_NCHW
        for strip in self.strips:
            sum_NCHW = sum_NCHW + strip(d_NCHW)
        return u_NCHW * typed_like(self.mix(sum_NCHW), x_NCHW)
