"""Modules whose gate differs between pixels."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import (
    EPS,
    LEAST_DIVISOR,
    BatchNorm1d,
    BatchNorm2d,
    Blending,
    GroupNorm,
    adaptive_mean,
    gate,
    in_float32,
    laid_out_like,
    max_mean,
    mean_of_squares,
    on_groups,
    typed_like,
    unbiased,
    zero_,
)
from nas_attn.attention.knobs import (
    AddedVariance,
    Dilation,
    Groups,
    Neighbours,
    Odd,
    Reduction,
)


class BottleneckAttention(nn.Module):
    """Bottleneck attention module

    Paper: Park et al. 2018, arXiv:1807.06514.

    `y = x·(1 + s(M_c + M_s))`: M_c an MLP on the channel means, M_s 1x1, two dilated 3x3, 1x1
    convolutions.

    Each branch ends in a batch normalisation; the authors' code has none and multiplies the two.

    Start: `identity` zeroes the last layers and uses `y = x·2s(…)`.

    Args:
        reduction: channels divided by the hidden width
        dilation: of the two 3×3 convolutions
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Reduction = 16,
        dilation: Dilation = 4,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.channel = nn.Sequential(
            nn.Linear(channels, hidden),
            BatchNorm1d(hidden),
            nn.ReLU(),
            nn.Linear(hidden, channels),
            BatchNorm1d(channels),
        )
        dilated: list[nn.Module] = []
        for _ in range(2):
            conv = nn.Conv2d(hidden, hidden, 3, padding=dilation, dilation=dilation)
            dilated += [conv, BatchNorm2d(hidden), nn.ReLU()]
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 1),
            BatchNorm2d(hidden),
            nn.ReLU(),
            *dilated,
            nn.Conv2d(hidden, 1, 1),
            BatchNorm2d(1),
        )
        if self.identity:
            zero_(self.spatial[-1], self.channel[-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        c_NC11 = self.channel(x_NCHW.mean((2, 3)))[:, :, None, None]
        a_NCHW = gate(c_NC11 + self.spatial(x_NCHW), x_NCHW, identity=self.identity)
        if self.identity:
            return x_NCHW * a_NCHW
        return x_NCHW + x_NCHW * a_NCHW


class PlaneGate(nn.Module):
    """`s(BN(conv_k([max; mean])))`, pooled over one dimension, in which the gate has size 1. Ties
    of the maximum share the gradient.
    """

    def __init__(self, kernel_size: int, *, identity: bool) -> None:
        super().__init__()
        self.identity = identity
        self.conv = nn.Conv2d(2, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.norm = BatchNorm2d(1, momentum=0.01)
        if identity:
            zero_(self.norm)

    def forward(self, x_NCHW: Tensor, dim: int) -> Tensor:
        # for W over (H, C), as the authors have it
        pooled_N2AB = max_mean(x_NCHW, dim).transpose(1, dim)
        a_N1AB = gate(self.norm(self.conv(pooled_N2AB)), x_NCHW, identity=self.identity)
        return a_N1AB.transpose(1, dim)


class TripletAttention(nn.Module):
    """Triplet attention

    Paper: Misra et al. 2021, arXiv:2010.03045.

    `y = x·(a_cw + a_ch + a_hw) / 3`, each gate `s(BN(conv_k([max; mean])))` with the pooling
    over the third dimension.

    Ties of a maximum share the gradient.

    Start: `identity` zeroes each normalisation's affine and uses 2s.

    Args:
        kernel_size: odd side of the three convolutions
    """

    def __init__(
        self,
        channels: int,  # noqa: ARG002 - every module takes it
        *,
        kernel_size: Odd = 7,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.gate_cw, self.gate_ch, self.gate_hw = (
            PlaneGate(kernel_size, identity=init == "identity") for _ in range(3)
        )

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NC1W: Tensor = self.gate_cw(x_NCHW, 2)
        a_NCH1: Tensor = self.gate_ch(x_NCHW, 3)
        a_N1HW: Tensor = self.gate_hw(x_NCHW, 1)
        return x_NCHW * ((a_NC1W + a_NCH1 + a_N1HW) / 3)


class ChannelGate(nn.Module):
    """`x·s(MLP(mean(x)) + MLP(max(x)))` over H and W. Ties of the maximum share the gradient."""

    def __init__(self, channels: int, hidden: int, *, identity: bool) -> None:
        super().__init__()
        self.identity = identity
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        if identity:
            zero_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self._mlp(x_NCHW.amax((2, 3))) + self._mlp(x_NCHW.mean((2, 3)))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]

    def _mlp(self, pooled_NC: Tensor) -> Tensor:
        z_NC: Tensor = self.expand(functional.relu(self.reduce(pooled_NC)))
        return z_NC


class ConvolutionalBlockAttention(nn.Module):
    """Convolutional block attention module

    Paper: Woo et al. 2018, arXiv:1807.06521.

    `u = x·s(MLP(mean x) + MLP(max x))`, then `y = u·s(BN(conv_k([max_C u; mean_C u])))`.

    Start: `identity` zeroes the last layer of each gate and uses 2s.

    Args:
        reduction: channels divided by the hidden width
        spatial_kernel_size: odd side of the spatial convolution
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Reduction = 16,
        spatial_kernel_size: Odd = 7,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        identity = init == "identity"
        self.channel = ChannelGate(channels, max(1, channels // reduction), identity=identity)
        self.spatial = PlaneGate(spatial_kernel_size, identity=identity)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        u_NCHW: Tensor = self.channel(x_NCHW)
        a_N1HW: Tensor = self.spatial(u_NCHW, 1)
        return u_NCHW * a_N1HW


class GlobalAttention(nn.Module):
    """Global attention mechanism

    Paper: Liu et al. 2021, arXiv:2112.05561.

    `u = x·s(W2 relu(W1 x))` at every pixel, then `y = u·s(BN(conv7(relu(BN(conv7(u))))))`.

    With groups, the channels of the spatial gate are shuffled. Most copies leave out the first
    sigmoid, which the paper's figure has.

    Start: `identity` zeroes the last layer of each gate and uses 2s.

    Args:
        reduction: channels divided by the hidden width
        groups: groups of the two convolutions
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Reduction = 4,
        groups: Groups = 1,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.shuffle = nn.ChannelShuffle(groups) if groups > 1 else nn.Identity()
        expand = nn.Conv2d(hidden, channels, 1)
        self.channel = nn.Sequential(nn.Conv2d(channels, hidden, 1), nn.ReLU(), expand)
        self.spatial = nn.Sequential(
            nn.Conv2d(channels, hidden, 7, padding=3, groups=groups),
            BatchNorm2d(hidden),
            nn.ReLU(),
            nn.Conv2d(hidden, channels, 7, padding=3, groups=groups),
            BatchNorm2d(channels),
        )
        if self.identity:
            zero_(expand, self.spatial[-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        u_NCHW = x_NCHW * gate(self.channel(x_NCHW), x_NCHW, identity=self.identity)
        a_NCHW: Tensor = self.shuffle(gate(self.spatial(u_NCHW), x_NCHW, identity=self.identity))
        return u_NCHW * a_NCHW


class SimAM(Blending):
    """Simple parameter-free attention

    Paper: Yang et al. 2021, ICML 2021.

    `y = x·s(d² / (4(v + λ)) + ½)`, `d = x - mean(x)`, `v = sum(d²) / (HW - 1)`, over H and W.

    The variance is that of the authors' code; the paper divides by HW. A map of one pixel has
    d = v = 0, so its gate is s(½).

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.

    Args:
        e_lambda: added to the variance
    """

    def __init__(
        self,
        channels: int,  # noqa: ARG002 - every module takes it
        *,
        e_lambda: AddedVariance = 1e-4,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.e_lambda = e_lambda
        self.start_blend(init == "identity")

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        d_NCHW = x_NCHW - x_NCHW.mean((2, 3), keepdim=True)
        v_NC11 = unbiased(mean_of_squares(d_NCHW), height * width)
        # The root is taken before the square, which float16 could not hold.
        width_NC11 = typed_like((4 * (v_NC11 + self.e_lambda)).sqrt(), x_NCHW)
        y_NCHW = x_NCHW * torch.sigmoid((d_NCHW / width_NC11).square() + 0.5)
        # CUDA's autocast squares in float32
        return self.blended(x_NCHW, typed_like(y_NCHW, x_NCHW))


class SpatialGroupEnhance(nn.Module):
    """Spatial group-wise enhance

    Paper: Li et al. 2019, arXiv:1905.09646.

    Per group `y = x·s(w·t̂ + b)`, `t = Σ_c x·mean(x)`, `t̂ = (t - mean(t)) / (std(t) + ε)` over
    the map.

    The standard deviation is the unbiased one; a constant map, or one of one pixel, has t̂ = 0.

    Start: `paper` starts at w = 0, b = 1; `identity` at w = b = 0 with 2s.

    Args:
        groups: groups of channels, each with its own map; auto: 64, of two channels or
            more
    """

    def __init__(self, channels: int, *, groups: Groups, init: Init = "paper") -> None:
        super().__init__()
        self.identity = init == "identity"
        self.shape = (groups, channels // groups)
        self.weight = nn.Parameter(torch.zeros(groups))
        self.bias = nn.Parameter(torch.zeros(groups) if self.identity else torch.ones(groups))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        x_NGCHW = torch.unflatten(x_NCHW, 1, self.shape)
        # t̂ does not depend on the scale of t, so a mean takes the place of the sum over channels;
        # ε shrinks with it. Even so, a product of two values may leave the range of float16.
        factor_NGCHW = in_float32(x_NGCHW)
        t_NGHW = (factor_NGCHW * factor_NGCHW.mean((3, 4), keepdim=True)).mean(2)
        d_NGHW = t_NGHW - t_NGHW.mean((2, 3), keepdim=True)
        variance_NG11 = unbiased(mean_of_squares(d_NGHW), height * width)
        std_NG11 = (variance_NG11 + LEAST_DIVISOR).sqrt() + EPS / self.shape[1]
        z_NGHW = d_NGHW / std_NG11 * self.weight[:, None, None] + self.bias[:, None, None]
        y_NGCHW = x_NGCHW * gate(z_NGHW, x_NCHW, identity=self.identity)[:, :, None]
        return y_NGCHW.reshape(x_NCHW.shape)


class EfficientMultiScale(Blending):
    """Efficient multi-scale attention

    Paper: Ouyang et al. 2023, arXiv:2305.13563.

    Per group `y = x·s(softmax(mean u)·v + softmax(mean v)·u)`, `u =
    GN(x·s(strip_h)·s(strip_w))`, `v = conv3(x)`.

    The strips are a shared 1x1 convolution of the means along W and along H; GN has one group per
    channel, so `mean u` is its bias and the first softmax does not depend on x.

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.

    Args:
        groups: groups of channels, which share their weights
    """

    def __init__(self, channels: int, *, groups: Groups = 32, init: Init = "paper") -> None:
        super().__init__()
        self.shape = (groups, width := channels // groups)
        self.strips = nn.Conv1d(width, width, 1)
        self.norm = GroupNorm(width, width)
        self.conv = nn.Conv2d(width, width, 3, padding=1)
        self.start_blend(init == "identity")

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = x_NCHW.shape[2:]
        pooled_NCL = torch.cat((x_NCHW.mean(3), x_NCHW.mean(2)), 2)
        strips_NCL = on_groups(self.strips, pooled_NCL, self.shape[0]).sigmoid()
        a_NCH, a_NCW = torch.split(strips_NCL, [height, width], 2)
        u_NGVP = self.norm.on_groups(self._groups(x_NCHW * a_NCH[..., None] * a_NCW[:, :, None]))
        v_NGVP = self._groups(on_groups(self.conv, x_NCHW, self.shape[0]))
        z_NG1P = _weighed(u_NGVP, v_NGVP) + _weighed(v_NGVP, u_NGVP)
        x_NGVP = self._groups(x_NCHW)
        y_NGVP = self.blended(x_NGVP, x_NGVP * typed_like(torch.sigmoid(z_NG1P), x_NCHW))
        return laid_out_like(x_NCHW, y_NGVP.reshape(x_NCHW.shape))

    def _groups(self, x_NCHW: Tensor) -> Tensor:
        return torch.unflatten(x_NCHW.flatten(2), 1, self.shape)


def _weighed(by_NGVP: Tensor, of_NGVP: Tensor) -> Tensor:
    """`softmax(mean(by))·of`: `(N, G, 1, P)`."""
    weight_NG1V = torch.softmax(by_NGVP.mean(3), 2)[:, :, None]
    return typed_like(weight_NG1V, of_NGVP) @ of_NGVP


class ShuffleAttention(nn.Module):
    """Shuffle attention

    Paper: Zhang and Yang 2021, arXiv:2102.00240.

    Per group `u·s(w·mean(u) + b)` and `v·s(w·IN(v) + b)`, u and v its halves; then the two
    halves of C are interleaved.

    IN normalises each channel over the map, with scale and shift of its own before w and b. The
    groups share all of it. The halves of an odd group are unequal, v has one channel more; an odd C
    is interleaved from its larger half.

    Start: `paper` starts at w = 0, b = 1; `identity` at w = b = 0 with 2s, and deals the channels
    out beforehand, so that the mixing brings each back to its place.

    Args:
        groups: groups of channels, which share weights
    """

    def __init__(self, channels: int, *, groups: Groups = 64, init: Init = "paper") -> None:
        super().__init__()
        self.identity = init == "identity"
        width = channels // groups
        self.shape = (groups, width)
        half = (width // 2, width - width // 2)
        start = torch.zeros if self.identity else torch.ones
        self.channel_weight = nn.Parameter(torch.zeros(half[0]))
        self.channel_bias = nn.Parameter(start(half[0]))
        self.spatial_weight = nn.Parameter(torch.zeros(half[1]))
        self.spatial_bias = nn.Parameter(start(half[1]))
        self.norm = GroupNorm(half[1], half[1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        x_NCP = x_NCHW.flatten(2)
        if self.identity:
            x_NCP = dealt(x_NCP, self.shape[0] * self.shape[1])
        x_NGVP = torch.unflatten(x_NCP, 1, self.shape)
        half = self.shape[1] // 2
        u_NGVP = x_NGVP[:, :, :half]
        v_NGVP = x_NGVP[:, :, half:]
        z_NGV1 = (
            u_NGVP.mean(3, keepdim=True) * self.channel_weight[:, None] + self.channel_bias[:, None]
        )
        z_NGVP = (
            self.norm.on_groups(v_NGVP) * self.spatial_weight[:, None] + self.spatial_bias[:, None]
        )
        a_NGV1, a_NGVP = (gate(z, x_NCHW, identity=self.identity) for z in (z_NGV1, z_NGVP))
        y_NCP = torch.cat((u_NGVP * a_NGV1, v_NGVP * a_NGVP), 2).flatten(1, 2)
        y_NCP = interleaved(y_NCP, self.shape[0] * self.shape[1])
        return laid_out_like(x_NCHW, y_NCP.reshape(x_NCHW.shape))


def interleaved(x_NCP: Tensor, channels: int) -> Tensor:
    """The channels of the first half (of an odd number, the larger) in turn with those of the
    second.
    """
    half, odd = divmod(channels, 2)
    if odd:
        pairs = torch.cat((x_NCP[:, :half], x_NCP[:, half + 1 :]), 1)
    else:
        pairs = x_NCP
    mixed = torch.unflatten(pairs, 1, (2, half)).transpose(1, 2).flatten(1, 2)
    if odd:
        return torch.cat((mixed, x_NCP[:, half : half + 1]), 1)
    return mixed


def dealt(x_NCP: Tensor, channels: int) -> Tensor:
    """The even channels, then the odd ones: what `interleaved` brings back. Without steps in a
    slice, which ncnn lacks.
    """
    half, odd = divmod(channels, 2)
    even_NCP = x_NCP[:, : channels - 1] if odd else x_NCP
    pairs = torch.unflatten(even_NCP, 1, (half, 2)).transpose(1, 2).flatten(1, 2)
    if odd:
        return torch.cat((pairs[:, :half], x_NCP[:, channels - 1 :], pairs[:, half:]), 1)
    return pairs


class ConcurrentSqueezeExcitation(nn.Module):
    """Concurrent spatial and channel squeeze-and-excitation

    Paper: Guha Roy et al. 2018, arXiv:1803.02579.

    `y = max(x·s(W2 relu(W1 mean(x))), x·s(conv1x1(x)))`.

    Start: `identity` zeroes the last layer of each gate and uses 2s.

    Args:
        reduction: channels divided by the hidden width
    """

    def __init__(self, channels: int, *, reduction: Reduction = 2, init: Init = "paper") -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.spatial = nn.Conv2d(channels, 1, 1)
        if self.identity:
            zero_(self.expand, self.spatial)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self.expand(functional.relu(self.reduce(x_NCHW.mean((2, 3)))))
        c_NC11 = gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]
        s_N1HW = gate(self.spatial(x_NCHW), x_NCHW, identity=self.identity)
        return torch.maximum(x_NCHW * c_NC11, x_NCHW * s_N1HW)


CELLS = 5
"""Cells along each side of the map in mixed local channel attention."""


class MixedLocalChannel(nn.Module):
    """Mixed local channel attention

    Paper: Wan et al. 2023, doi:10.1016/j.engappai.2023.106442.

    `y = x·U(½·s(conv_k(mean(p))) + ½·s(conv_k'(p)))`, p the means of 5 x 5 cells of the map.

    Both convolutions run along the channels, the second along those of all cells, one cell behind
    the other. Means over cells and their spreading over the map, U, are adaptive average pooling,
    down and up again. The mean of a map is that of its cells.

    Start: `identity` zeroes both convolutions and uses 2s.

    Args:
        kernel_size: odd number of neighbouring channels seen
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: Neighbours,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.channels = channels
        self.identity = init == "identity"
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        if self.identity:
            zero_(self.conv, self.conv_local)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        local = CELLS
        height, width = x_NCHW.shape[2:]
        p_NCLL = adaptive_mean(x_NCHW, local, local)
        p_NLC = p_NCLL.flatten(2).transpose(1, 2)
        z_NLC = self.conv_local(p_NLC.reshape(-1, 1, local**2 * self.channels)).view(
            -1, local**2, self.channels
        )
        z_NC1 = self.conv(p_NLC.mean(1)[:, None]).view(-1, self.channels, 1)
        a_NC1 = self._gate(z_NC1, x_NCHW)
        a_NCL = self._gate(z_NLC, x_NCHW).transpose(1, 2)
        a_NCL = a_NC1 + 0.5 * (a_NCL - a_NC1)
        a_NCLL = torch.unflatten(a_NCL, 2, (local, local))
        a_NCHW = typed_like(adaptive_mean(a_NCLL, height, width, growing=True), x_NCHW)
        if self.identity:
            return x_NCHW + x_NCHW * a_NCHW
        return x_NCHW * a_NCHW

    def _gate(self, z: Tensor, x: Tensor) -> Tensor:
        """`s(z)`; in the identity form `2s(z) - 1`, to which 1 is added at last, where no rounding
        of a mean can change it.
        """
        s = typed_like(torch.sigmoid(z), x)
        return s + s - 1 if self.identity else s
