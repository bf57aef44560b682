"""Modules that gate channels: squeeze-and-excitation and its relatives. Their papers are in
`rows.py`.
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.gates import (
    EPS,
    TINY,
    BatchNorm1d,
    BatchNorm2d,
    adaptive_mean,
    blend,
    gate,
    is_free,
    magnitude,
    mean_of_magnitudes,
    mean_of_squares,
    one_of,
    unbiased,
    zero_,
)
from nas_attn.attention.row import Init, hidden_width


class SqueezeExcitation(nn.Module):
    """`y = x·s(W2 relu(W1 mean(x)))`, the mean over H and W, h = max(1, C // reduction).
    Start: `identity` zeroes W2 and uses 2s.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        bias: bool = True,
        divisor: int = 1,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = hidden_width(channels, reduction, divisor)
        self.identity = init == "identity"
        self.reduce = nn.Linear(channels, hidden, bias=bias)
        self.expand = nn.Linear(hidden, channels, bias=bias)
        if self.identity:
            zero_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self.expand(functional.relu(self.reduce(x_NCHW.mean((2, 3)))))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]


class EffectiveSqueezeExcitation(nn.Module):
    """`y = x·hardsigmoid(W mean(x))`, the mean over H and W, `hardsigmoid(z) = clip(z + 3, 0, 6) /
    6`.
    Start: `identity` zeroes W and doubles the gate.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__()
        self.scale = 2.0 if init == "identity" else 1.0
        self.fc = nn.Linear(channels, channels)
        if init == "identity":
            zero_(self.fc)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        a_NC = functional.hardsigmoid(self.fc(x_NCHW.mean((2, 3)))) * self.scale
        return x_NCHW * a_NC.to(x_NCHW.dtype)[:, :, None, None]


class ConcurrentSqueezeExcitation(nn.Module):
    """`y = max(x·s(W2 relu(W1 mean(x))), x·s(conv1x1(x)))`, or the sum of the two.
    Start: `identity` zeroes the last layer of each gate; `max` uses 2s, for `sum` ½ + ½ is 1
    already.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 2,
        combine: Literal["max", "sum"] = "max",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.combine = combine
        self.doubled = init == "identity" and combine == "max"
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        self.spatial = nn.Conv2d(channels, 1, 1)
        if init == "identity":
            zero_(self.expand, self.spatial)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self.expand(functional.relu(self.reduce(x_NCHW.mean((2, 3)))))
        c_NC11 = gate(z_NC, x_NCHW, identity=self.doubled)[:, :, None, None]
        s_N1HW = gate(self.spatial(x_NCHW), x_NCHW, identity=self.doubled)
        if self.combine == "max":
            return torch.maximum(x_NCHW * c_NC11, x_NCHW * s_N1HW)
        return x_NCHW * (c_NC11 + s_N1HW)


class EfficientChannel(nn.Module):
    """`y = x·s(conv_k(mean(x)))`, the mean over H and W, the convolution over the channels.
    Start: `identity` zeroes the convolution and uses 2s.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int,
        padding: Literal["zeros", "circular"] = "zeros",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.conv = nn.Conv1d(
            1, 1, kernel_size, padding=kernel_size // 2, padding_mode=padding, bias=False
        )
        if self.identity:
            zero_(self.conv)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC1 = self.conv(x_NCHW.mean((2, 3))[:, None]).transpose(1, 2)
        return x_NCHW * gate(z_NC1, x_NCHW, identity=self.identity)[..., None]


class MixedLocalChannel(nn.Module):
    """`y = x·U((1 - w)·s(conv_k(mean(p))) + w·s(conv_k'(p)))`, p the means of l x l cells of the
    map.

    Both convolutions run along the channels, the second along those of all cells, one cell behind
    the other. Means over cells and their spreading over the map, U, are adaptive average pooling,
    down and up again. The mean of a map is that of its cells.
    Start: `identity` zeroes both convolutions and uses 2s.
    """

    def __init__(
        self,
        channels: int,
        *,
        kernel_size: int,
        local_size: int = 5,
        local_weight: float = 0.5,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.channels = channels
        self.identity = init == "identity"
        self.local_size = local_size
        self.local_weight = local_weight
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        self.conv_local = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        if self.identity:
            zero_(self.conv, self.conv_local)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        local, (height, width) = self.local_size, x_NCHW.shape[2:]
        p_NCLL = adaptive_mean(x_NCHW, local, local)
        p_NLC = p_NCLL.flatten(2).transpose(1, 2)
        z_NLC = self.conv_local(p_NLC.reshape(-1, 1, local**2 * self.channels)).view(
            -1, local**2, self.channels
        )
        z_NC1 = self.conv(p_NLC.mean(1)[:, None]).view(-1, self.channels, 1)
        a_NC1, a_NCL = self._gate(z_NC1, x_NCHW), self._gate(z_NLC, x_NCHW).transpose(1, 2)
        a_NCL = a_NC1 + self.local_weight * (a_NCL - a_NC1)
        a_NCHW = adaptive_mean(
            torch.unflatten(a_NCL, 2, (local, local)), height, width, growing=True
        ).to(x_NCHW.dtype)
        return x_NCHW + x_NCHW * a_NCHW if self.identity else x_NCHW * a_NCHW

    def _gate(self, z: Tensor, x: Tensor) -> Tensor:
        """`s(z)`; in the identity form `2s(z) - 1`, to which 1 is added at last, where no rounding
        of a mean can change it.
        """
        s = torch.sigmoid(z).to(x.dtype)
        return s + s - 1 if self.identity else s


class StyleRecalibration(nn.Module):
    """`y = x·s(BN(w_c·[mean(x), std(x)]))`, over H and W; a map of one pixel has variance 0.
    Start: `paper` starts w at zero; `identity` draws it, zeroes the normalisation's affine and uses
    2s.
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
        square_NC = mean_of_squares(x_NCHW - mean_NC11)[:, :, 0, 0]
        std_NC = (unbiased(square_NC, height * width) + EPS).sqrt()
        style_NC = mean_NC11[:, :, 0, 0] * self.style[:, 0] + std_NC * self.style[:, 1]
        z_NC = self.norm(style_NC.to(x_NCHW.dtype))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]


class NormalizationAttention(nn.Module):
    """`y = x·s(w·BN(x))`, `w = |gamma| / sum |gamma|`; all gammas zero: w = 0.
    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
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
    """

    def __init__(
        self, channels: int, *, norm: Literal["l2", "l1"] = "l2", init: Init = "paper"
    ) -> None:
        super().__init__()
        self.norm = norm
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        # ŝ does not depend on the scale of s, so means take the place of the paper's sums, which
        # leave the range of float16; the paper's ε shrinks with them.
        eps = EPS * one_of(x_NCHW.shape[2] * x_NCHW.shape[3])
        if self.norm == "l2":
            s_NC = (mean_of_squares(x_NCHW)[:, :, 0, 0] + eps).sqrt() * self.alpha
            rms_N1 = (s_NC.square().mean(1, keepdim=True) + eps).sqrt()
        else:
            s_NC = mean_of_magnitudes(x_NCHW)[:, :, 0, 0] * self.alpha
            rms_N1 = magnitude(s_NC).mean(1, keepdim=True) + eps
        a_NC = 1 + torch.tanh(s_NC * (self.gamma / rms_N1) + self.beta)
        return x_NCHW * a_NC.to(x_NCHW.dtype)[:, :, None, None]


class GlobalContext(nn.Module):
    """`y = x + W2 relu(LN(W1 c))`, `c = Σ softmax(conv x)·x` over the pixels; or `y = x·s(…)`; or
    `y = x·s(…) + …`.
    Start: W2 starts at zero in all, as in the authors' code: `add` is the identity; `identity` uses
    2s where it multiplies.
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: int = 16,
        pooling: Literal["attention", "average"] = "attention",
        fusion: Literal["add", "multiply", "both"] = "add",
        init: Init = "paper",
    ) -> None:
        super().__init__()
        hidden = channels // min(reduction, max(1, channels // 2))
        self.identity = init == "identity"
        self.fusion = fusion
        self.mask = nn.Conv2d(channels, 1, 1) if pooling == "attention" else None
        self.reduce = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.expand = nn.Linear(hidden, channels)
        zero_(self.expand)
        self.scale: nn.Sequential | None = None
        if fusion == "both":
            expand = nn.Linear(hidden, channels)
            zero_(expand)
            self.scale = nn.Sequential(
                nn.Linear(channels, hidden), nn.LayerNorm(hidden), nn.ReLU(), expand
            )

    def context(self, x_NCHW: Tensor) -> Tensor:
        """`(N, C)`: the pixels summed up."""
        if self.mask is None:
            return x_NCHW.mean((2, 3))
        weight_NP1 = torch.softmax(self.mask(x_NCHW).flatten(1), 1).to(x_NCHW.dtype)[:, :, None]
        return (x_NCHW.flatten(2) @ weight_NP1)[:, :, 0]

    def forward(self, x_NCHW: Tensor) -> Tensor:
        c_NC = self.context(x_NCHW)
        z_NC: Tensor = self.expand(functional.relu(self.norm(self.reduce(c_NC))))
        if self.fusion == "multiply":
            return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]
        z_NC11 = z_NC.to(x_NCHW.dtype)[:, :, None, None]
        if self.scale is None:
            return x_NCHW + z_NC11
        return (
            x_NCHW * gate(self.scale(c_NC), x_NCHW, identity=self.identity)[:, :, None, None]
            + z_NC11
        )


class GlobalDepthwise(nn.Conv2d):
    """A depth-wise convolution whose kernel is as large as the map: one value per channel.

    Made for one map size, to which a map of another is brought by adaptive average pooling.
    """

    def __init__(self, channels: int, height: int, width: int) -> None:
        super().__init__(channels, channels, (height, width), groups=channels, bias=False)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        height, width = self.kernel_size
        return super().forward(brought_to(x_NCHW, height, width))


@torch.fx.wrap
def brought_to(x_NCHW: Tensor, height: int, width: int) -> Tensor:
    """The map in this size, by adaptive average pooling where it is another."""
    free = any(map(is_free, x_NCHW.shape[2:]))
    if not free and x_NCHW.shape[2:] == (height, width):
        return x_NCHW
    return adaptive_mean(x_NCHW, height, width)


class GatherExcite(nn.Module):
    """`y = x·s(up(g(x)))`: g gathers each channel over neighbourhoods, up repeats the nearest for
    every pixel.

    The neighbourhoods are 2e - 1 wide and e apart, e the extent; 0 stands for the whole map. GE-θ⁻
    gathers means, at the border over what lies inside. GE-θ gathers by log2 e depth-wise 3x3
    convolutions of stride 2 (for the whole map by one as large as it), each followed by a batch
    normalisation, with ReLU between. GE-θ⁺ has `conv1x1(relu(conv1x1(relu(g))))` behind these
    (`mlp`; of means without the first ReLU). `height` and `width` are those of the map for which a
    convolution over the whole of it is made.
    Start: `identity` zeroes the last layer and uses 2s; of bare means it blends, `x + a·(y - x)`
    with one learned scalar a, at first 0.
    """

    def __init__(
        self,
        channels: int,
        *,
        extent: int = 0,
        gather: Literal["mean", "conv"] = "mean",
        mlp: bool = False,
        reduction: int = 16,
        height: int = 14,
        width: int = 14,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.extent = extent
        self.identity = init == "identity" and (mlp or gather == "conv")
        self.blend = (
            nn.Parameter(torch.zeros(())) if init == "identity" and not self.identity else None
        )
        self.gather = (
            nn.Sequential(*_steps(channels, extent, height, width)) if gather == "conv" else None
        )
        self.mlp: nn.Sequential | None = None
        if mlp:
            hidden = max(1, channels // reduction)
            self.mlp = nn.Sequential(
                nn.Conv2d(channels, hidden, 1), nn.ReLU(), nn.Conv2d(hidden, channels, 1)
            )
            if self.gather is not None:
                self.gather.append(nn.ReLU())
        if self.identity:
            last = self.mlp if self.mlp is not None else self.gather
            assert last is not None
            zero_(last[-1])

    def forward(self, x_NCHW: Tensor) -> Tensor:
        if self.gather is not None:
            z_NChw = self.gather(x_NCHW)
        elif self.extent == 0:
            z_NChw = x_NCHW.mean((2, 3), keepdim=True)
        else:
            size = 2 * self.extent - 1
            z_NChw = functional.avg_pool2d(
                x_NCHW, size, self.extent, self.extent - 1, count_include_pad=False
            )
        if self.mlp is not None:
            z_NChw = self.mlp(z_NChw)
        a_NChw = gate(z_NChw, x_NCHW, identity=self.identity)
        if self.extent > 0:  # of the whole map there is one, which spreads by itself
            a_NChw = functional.interpolate(a_NChw, size=x_NCHW.shape[2:], mode="nearest")
        y_NCHW = x_NCHW * a_NChw
        return blend(x_NCHW, y_NCHW, self.blend)


def _steps(channels: int, extent: int, height: int, width: int) -> list[nn.Module]:
    """The convolutions that gather, the last without the ReLU behind it."""
    if extent == 0:
        convolutions: list[nn.Conv2d] = [GlobalDepthwise(channels, height, width)]
    else:
        convolutions = [
            nn.Conv2d(channels, channels, 3, stride=2, padding=1, groups=channels, bias=False)
            for _ in range(extent.bit_length() - 1)
        ]
    steps: list[nn.Module] = []
    for convolution in convolutions:
        nn.init.kaiming_normal_(convolution.weight)
        steps += [convolution, BatchNorm2d(channels), nn.ReLU()]
    return steps[:-1]
