"""Modules that gate channels: squeeze-and-excitation and its relatives."""

import math
from typing import Any, Self

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.attention.choice import Init
from nas_attn.attention.gates import (
    EPS,
    LEAST_DIVISOR,
    LEAST_DIVISOR_OF_HALVES,
    BatchNorm1d,
    BatchNorm2d,
    Blending,
    gate,
    mean_of_squares,
    typed_like,
    unbiased,
    zero_,
)
from nas_attn.attention.gather_excite import brought_to
from nas_attn.attention.knobs import Frequencies, Neighbours, Reduction


class SqueezeExcitation(nn.Module):
    """Squeeze-and-excitation

    Paper: Hu et al. 2018, arXiv:1709.01507.

    `y = x·s(W2 relu(W1 mean(x)))`, the mean over H and W, h = max(1, C // reduction).

    Start: `identity` zeroes W2 and uses 2s.

    The two linear layers have biases, as the authors' Caffe file has.

    Args:
        reduction: channels divided by the hidden width
    """

    def __init__(self, channels: int, *, reduction: Reduction = 16, init: Init = "paper") -> None:
        super().__init__()
        hidden = max(1, channels // reduction)
        self.identity = init == "identity"
        self.reduce = nn.Linear(channels, hidden)
        self.expand = nn.Linear(hidden, channels)
        if self.identity:
            zero_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC = self.expand(functional.relu(self.reduce(x_NCHW.mean((2, 3)))))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]


class EffectiveSqueezeExcitation(nn.Module):
    """Effective squeeze-and-excitation

    Paper: Lee and Park 2020, arXiv:1911.06667.

    `y = x·hardsigmoid(W mean(x))`, the mean over H and W, `hardsigmoid(z) = clip(z + 3, 0, 6) /
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
        # torch's own hardsigmoid has no second derivative, which gradient penalties need
        a_NC = functional.relu6(self.fc(x_NCHW.mean((2, 3))) + 3) * (self.scale / 6)
        return x_NCHW * typed_like(a_NC, x_NCHW)[:, :, None, None]


class EfficientChannel(nn.Module):
    """Efficient channel attention

    Paper: Wang et al. 2020, arXiv:1910.03151.

    `y = x·s(conv_k(mean(x)))`, the mean over H and W, the convolution over the channels.

    Start: `identity` zeroes the convolution and uses 2s.

    Args:
        kernel_size: odd number of neighbouring channels seen
    """

    def __init__(
        self,
        channels: int,  # noqa: ARG002 - every module takes it
        *,
        kernel_size: Neighbours,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.conv = nn.Conv1d(1, 1, kernel_size, padding=kernel_size // 2, bias=False)
        if self.identity:
            zero_(self.conv)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        z_NC1 = self.conv(x_NCHW.mean((2, 3))[:, None]).transpose(1, 2)
        return x_NCHW * gate(z_NC1, x_NCHW, identity=self.identity)[..., None]


class StyleRecalibration(nn.Module):
    """Style-based recalibration

    Paper: Lee et al. 2019, arXiv:1903.10829.

    `y = x·s(BN(w_c·[mean(x), std(x)]))`, over H and W; a map of one pixel has variance 0.

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
        z_NC = self.norm(typed_like(style_NC, x_NCHW))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]


class NormByShare(BatchNorm2d):
    """`w·BN(x)`, `w = |gamma| / sum |gamma|`; all gammas zero: w = 0.

    Gamma is read where the norm runs: a tool may bring it there for that time only.
    """

    def forward(self, x_NCHW: Tensor) -> Tensor:
        size_C = self.weight.abs()
        w_C = size_C / size_C.sum().clamp_min(LEAST_DIVISOR_OF_HALVES)
        return super().forward(x_NCHW) * w_C[:, None, None]


class NormalizationAttention(Blending):
    """Normalisation-based attention, channel branch

    Paper: Liu et al. 2021, arXiv:2111.12419.

    `y = x·s(w·BN(x))`, `w = |gamma| / sum |gamma|`; all gammas zero: w = 0.

    The authors' code keeps the gradient out of w.

    Start: `identity` blends: `x + a·(y - x)` with one learned scalar a, at first 0.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:
        super().__init__()
        self.norm = NormByShare(channels)
        self.start_blend(init == "identity")

    def forward(self, x_NCHW: Tensor) -> Tensor:
        s_NCHW = typed_like(torch.sigmoid(self.norm(x_NCHW)), x_NCHW)
        return self.blended(x_NCHW, x_NCHW * s_NCHW)


class GatedChannel(nn.Module):
    """Gated channel transformation

    Paper: Yang et al. 2020, arXiv:1909.11519.

    `y = x·(1 + tanh(γ·ŝ + β))`, `s_c = α_c·‖x_c‖`, `ŝ = s / rms(s)` over the channels.

    Start: both are the same: γ = β = 0 is the identity.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:  # noqa: ARG002 - every module takes it
        super().__init__()
        self.alpha = nn.Parameter(torch.ones(channels))
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        # ŝ does not depend on the scale of s, so means take the place of the paper's sums, which
        # leave the range of float16; the paper's ε shrinks with them.
        eps = EPS / (x_NCHW.shape[2] * x_NCHW.shape[3])
        s_NC = (mean_of_squares(x_NCHW)[:, :, 0, 0] + eps).sqrt() * self.alpha
        rms_N1 = (s_NC.square().mean(1, keepdim=True) + eps).sqrt()
        a_NC = 1 + torch.tanh(s_NC * (self.gamma / rms_N1) + self.beta)
        return x_NCHW * typed_like(a_NC, x_NCHW)[:, :, None, None]


def _pairs(text: str) -> tuple[tuple[int, int], ...]:
    """Reads `01 60` as `((0, 1), (6, 0))`."""
    return tuple((int(pair[0]), int(pair[1])) for pair in text.split())


FREQUENCIES = _pairs(
    "00 01 60 05 02 10 12 40 50 16 30 04 06 03 35 22"
    " 46 63 33 53 55 21 61 52 54 32 31 41 23 20 65 13"
)
"""(along H, along W) of the authors' selection, the best alone first, on a grid of 7 x 7."""
GRID = 7


class FrequencyChannel(nn.Module):
    """Frequency channel attention

    Paper: Qin et al. 2021, arXiv:2012.11879.

    `y = x·s(W2 relu(W1 f))`, `f_c = Σ x_c·D_c` over H and W, D_c the cosine of c's group.

    D_c is a basis function of the orthonormal DCT-II. The channels are in groups of equal size,
    with a frequency each; the first is (0, 0), the mean times √(HW). Frequencies are those
    of a 7 x 7 grid, times H // 7 and W // 7. `height` and `width` are those of the map that it is
    made for, at least 7; others are brought to that size by adaptive average pooling, as in the
    authors' code.

    Start: `identity` zeroes W2 and uses 2s.

    Args:
        frequencies: groups of channels, with a frequency each
        reduction: channels divided by the hidden width
    """

    rows: Tensor
    columns: Tensor

    def __init__(
        self,
        channels: int,
        *,
        frequencies: Frequencies = 16,
        reduction: Reduction = 16,
        height: int = 14,
        width: int = 14,
        init: Init = "paper",
    ) -> None:
        super().__init__()
        self.identity = init == "identity"
        self.size = (max(GRID, height), max(GRID, width))
        self.frequencies = FREQUENCIES[:frequencies]
        rows, columns = self._tables(channels)
        self.register_buffer("rows", rows, persistent=False)
        self.register_buffer("columns", columns, persistent=False)
        hidden = max(1, channels // reduction)
        self.reduce = nn.Linear(channels, hidden, bias=False)
        self.expand = nn.Linear(hidden, channels, bias=False)
        if self.identity:
            zero_(self.expand)

    def _tables(self, channels: int, device: torch.device | None = None) -> tuple[Tensor, Tensor]:
        """The cosines of each channel along H `(C, H)` and along W `(C, W)`."""
        chosen = torch.tensor(self.frequencies, device=device)
        chosen_C2 = chosen.repeat_interleave(channels // len(self.frequencies), 0)
        return cosines(chosen_C2[:, 0], self.size[0]), cosines(chosen_C2[:, 1], self.size[1])

    def _apply(self, fn: Any, recurse: bool = True) -> Self:
        """What `.to(…)`, `.half()` and `.to_empty(…)` call. The last leaves any numbers in tables
        that were on the device `meta`, and no state_dict holds them.
        """
        was_meta = self.rows.is_meta
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if was_meta and not self.rows.is_meta:
            self._fill(self.rows)
        return self

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """What `load_state_dict` calls, which may bring a module from the device `meta`, too."""
        super()._load_from_state_dict(state_dict, prefix, *rest)
        weight = state_dict.get(f"{prefix}reduce.weight")
        if self.rows.is_meta and weight is not None and not weight.is_meta:
            self._fill(weight)

    def _fill(self, like: Tensor) -> None:
        """Computes the tables anew, on a tensor's device and in its type."""
        rows, columns = self._tables(len(self.rows), like.device)
        self.rows = rows.to(like)
        self.columns = columns.to(like)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        by_row_NCHW = brought_to(x_NCHW, *self.size) * typed_like(self.rows[:, :, None], x_NCHW)
        f_NC = (by_row_NCHW.sum(2) * typed_like(self.columns, x_NCHW)).sum(2)
        z_NC = self.expand(functional.relu(self.reduce(f_NC)))
        return x_NCHW * gate(z_NC, x_NCHW, identity=self.identity)[:, :, None, None]


def cosines(frequency_C: Tensor, side: int) -> Tensor:
    """`(C, side)`: the orthonormal DCT-II's basis of each channel, its frequency of 7 scaled."""
    scaled_C1 = (frequency_C * (side // GRID))[:, None]
    place = torch.arange(side, dtype=torch.float64, device=frequency_C.device) + 0.5
    waves = torch.cos(scaled_C1 * place * (math.pi / side)) / side**0.5
    return torch.where(scaled_C1 == 0, waves, waves * 2**0.5).float()


class GlobalResponse(nn.Module):
    """Global response normalisation

    Paper: Woo et al. 2023, arXiv:2301.00808.

    `y = γ·x·n + β + x`, `n = ‖x_c‖ / mean_c ‖x_c‖`, the norm of each channel over H and W.

    Start: both are the same: γ = β = 0 is the identity.
    """

    def __init__(self, channels: int, *, init: Init = "paper") -> None:  # noqa: ARG002 - every module takes it
        super().__init__()
        self.gamma = nn.Parameter(torch.zeros(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x_NCHW: Tensor) -> Tensor:
        # The root of a mean times that of the pixels: a sum of squares leaves the range of float16.
        root: float = (x_NCHW.shape[2] * x_NCHW.shape[3]) ** 0.5
        norm_NC11 = (mean_of_squares(x_NCHW) + LEAST_DIVISOR).sqrt() * root
        n_NC11 = norm_NC11 / (norm_NC11.mean(1, keepdim=True) + 1e-6)
        a_NC11 = 1 + n_NC11 * self.gamma[:, None, None]
        beta_C11 = self.beta[:, None, None]
        return x_NCHW * typed_like(a_NC11, x_NCHW) + typed_like(beta_C11, x_NCHW)


class GlobalContext(nn.Module):
    """Global context block

    Paper: Cao et al. 2019, arXiv:1904.11492.

    `y = x + W2 relu(LN(W1 c))`, `c = Σ softmax(conv x)·x` over the pixels.

    Start: both are the same: W2 starts at zero, as in the authors' code.

    Args:
        reduction: channels divided by the hidden width; auto: 16, or less where that
            leaves fewer than 4
    """

    def __init__(
        self,
        channels: int,
        *,
        reduction: Reduction,
        init: Init = "paper",  # noqa: ARG002 - every module takes it
    ) -> None:
        super().__init__()
        hidden = channels // min(reduction, max(1, channels // 2))
        self.mask = nn.Conv2d(channels, 1, 1)
        self.reduce = nn.Linear(channels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.expand = nn.Linear(hidden, channels)
        zero_(self.expand)

    def forward(self, x_NCHW: Tensor) -> Tensor:
        weight_NP = typed_like(torch.softmax(self.mask(x_NCHW).flatten(1), 1), x_NCHW)
        c_NC = (x_NCHW.flatten(2) @ weight_NP[:, :, None])[:, :, 0]
        z_NC: Tensor = self.expand(functional.relu(self.norm(self.reduce(c_NC))))
        return x_NCHW + typed_like(z_NC, x_NCHW)[:, :, None, None]
