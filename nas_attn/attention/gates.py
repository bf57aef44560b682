"""Shared by attention modules: gates in two forms, the blend, poolings and normalisations that can
be traced.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas_attn.errors import BackboneError


def is_traced() -> bool:
    """Whether a map stands for any other: under torch.compile, torch.export and torch.jit.trace."""
    is_jit_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return torch.compiler.is_compiling() or is_jit_traced


def is_free(size: int | torch.SymInt) -> bool:
    """Whether a file that is being written leaves this size of the map free, or may: ONNX's older
    exporter does not say.
    """
    is_jit_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return isinstance(size, torch.SymInt) or (is_jit_traced and torch.onnx.is_in_onnx_export())


def max_mean(x: Tensor, dim: int) -> Tensor:
    """Maximum and mean over one dimension, side by side in its place. Ties of the maximum share its
    gradient.
    """
    return torch.cat((x.amax(dim, keepdim=True), x.mean(dim, keepdim=True)), dim)


EPS = 1e-5
"""Added to variances and squared norms, as in the authors' code."""
LEAST_DIVISOR = 1e-37
"""Keeps a quotient or the gradient of a root finite at 0, and changes no other value."""
LEAST_DIVISOR_OF_HALVES = 1e-7
"""The same for what may be in float16, where smaller numbers are 0."""


def mean_of_squares(x_NCHW: Tensor) -> Tensor:
    """Over H and W: `(N, C, 1, 1)`, in float32 at least, but in x's dtype when traced.

    A sum would leave the range of float16 on a large map. A norm is the quickest way on a CPU;
    traced, it would be an operator that some lack.
    """
    if is_traced():
        return x_NCHW.square().mean((2, 3), keepdim=True)
    dtype = torch.promote_types(x_NCHW.dtype, torch.float32)
    norm_NC11: Tensor = torch.linalg.vector_norm(x_NCHW, dim=(2, 3), keepdim=True, dtype=dtype)
    return norm_NC11.square() / (x_NCHW.shape[2] * x_NCHW.shape[3])


def in_float32(x: Tensor) -> Tensor:
    """x in float32 at least; in its own dtype where a file is traced."""
    if is_traced() and not torch.compiler.is_compiling():
        return x
    return x.to(torch.promote_types(x.dtype, torch.float32))


def typed_like(y: Tensor, x: Tensor) -> Tensor:
    """y in x's dtype, which autocast may have changed.

    A tracer writes each call of `to` into its file, as a Cast, also one without effect.
    """
    return y if y.dtype == x.dtype else y.to(x.dtype)


def unbiased(mean: Tensor, count: int) -> Tensor:
    """A variance over `count - 1` from a mean of squares over `count`; of one value, 0."""
    return mean * (count / free_values(count))


def free_values(count: int) -> int:
    """`max(count - 1, 1)`, what an unbiased variance divides by, in a form that follows a free
    size.
    """
    return count - 1 + 1 // count


def gate(z: Tensor, x: Tensor, *, identity: bool) -> Tensor:
    """`s(z)`, or `2s(z)` if the module starts as the identity; in x's dtype, which autocast may
    have changed.
    """
    s = typed_like(torch.sigmoid(z), x)
    return s + s if identity else s


def laid_out_like(x: Tensor, y: Tensor) -> Tensor:
    """y in the memory format of x: channels_last if x is that and not contiguous as well. A traced
    map has none, and torch.vmap does not tell it.
    """
    if is_traced() or torch._C._functorch.is_batchedtensor(x):
        return y
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.contiguous(
        memory_format=torch.channels_last if channels_last else torch.contiguous_format
    )


def refuse_scripting(*_: object) -> None:
    """torch.jit.script calls it before it compiles a module. Raises BackboneError."""
    raise BackboneError(
        "torch.jit.script cannot compile attention modules: use torch.export.export, or"
        " torch.jit.trace"
    )


def zero_(*layers: nn.Module) -> None:
    """Sets weight and bias of the layers to zero."""
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            nn.init.zeros_(parameter)


def unity_(layer: nn.Module) -> None:
    """Sets the layer's weight to zero and its bias to one, so that multiplying by its result
    changes nothing.
    """
    zero_(layer)
    nn.init.ones_(layer.get_parameter("bias"))


class Blending(nn.Module):
    """A module that may start as the identity by `y = x + a·(A(x) - x)`, one learned number a, at
    first 0.
    """

    blend: nn.Parameter | None

    def start_blend(self, blends: bool) -> None:
        """Makes the number, of one dimension: `fully_shard` takes no parameter without any."""
        self.blend = nn.Parameter(torch.zeros(1)) if blends else None

    def blended(self, x: Tensor, y: Tensor) -> Tensor:
        """`x + a·(y - x)`, in the dtype of x, which autocast may have changed; y itself without
        a.
        """
        if self.blend is None:
            return y
        y = typed_like(y, x)
        a = typed_like(self.blend, x)
        # pnnx knows no lerp
        if is_traced():
            return x + a * (y - x)
        return torch.lerp(x, y, a)

    def _load_from_state_dict(self, state_dict: Any, prefix: str, *rest: Any) -> None:
        """What `load_state_dict` calls. Former files hold the number without a dimension."""
        number = state_dict.get(f"{prefix}blend")
        if number is not None and number.dim() == 0:
            state_dict[f"{prefix}blend"] = number[None]
        super()._load_from_state_dict(state_dict, prefix, *rest)


class Blended(Blending):
    """Any module A, which starts as the identity."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.start_blend(True)

    def forward(self, x: Tensor) -> Tensor:
        return self.blended(x, self.module(x))


class BatchNorm2d(nn.BatchNorm2d):
    """Batch normalisation of `(N, C, H, W)`; with one value per channel it uses the running
    statistics.

    One value has no spread: torch raises in training, although networks end in 1x1 maps and batches
    in single images.
    """

    def forward(self, x: Tensor) -> Tensor:
        if self.training and x.numel() == x.shape[1]:
            return functional.batch_norm(
                x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
            )
        return super().forward(x)


class BatchNorm1d(BatchNorm2d):
    """The same of `(N, C)`."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x[:, :, None, None])[:, :, 0, 0]


class GroupNorm(nn.GroupNorm):
    """Group normalisation of `(N, C, *)`; a group with one value becomes its bias, where torch's
    own layer raises in training.
    """

    def forward(self, x: Tensor) -> Tensor:
        return torch.group_norm(x, self.num_groups, self.weight, self.bias, self.eps)

    def on_groups(self, x_NGVP: Tensor) -> Tensor:
        """Each of V channels of G groups by itself, over its pixels; the groups share the norm of V
        channels.
        """
        if not is_traced():
            return torch.unflatten(self(x_NGVP.flatten(0, 1)), 0, x_NGVP.shape[:2])
        d_NGVP = x_NGVP - x_NGVP.mean(3, keepdim=True)
        z_NGVP = d_NGVP / (d_NGVP.square().mean(3, keepdim=True) + self.eps).sqrt()
        return z_NGVP * self.weight[:, None] + self.bias[:, None]


def on_groups(conv: nn.Conv1d | nn.Conv2d, x: Tensor, groups: int) -> Tensor:
    """The convolution on each group of channels, which share it; x is `(N, C, *)`.

    Eager, the groups are images of their own: quick in torch. Traced, the weights are repeated,
    since some runtimes take one image.
    """
    if not is_traced():
        y: Tensor = conv(torch.unflatten(x, 1, (groups, -1)).flatten(0, 1))
        return torch.unflatten(y, 0, (-1, groups)).flatten(1, 2)
    weight = torch.cat([conv.weight] * groups)
    bias = None if conv.bias is None else torch.cat([conv.bias] * groups)
    if isinstance(conv, nn.Conv1d):
        convolve = functional.conv1d
    else:
        convolve = functional.conv2d
    return convolve(x, weight, bias, padding=conv.padding, groups=groups)


FEW_CHANNELS = 16
WIDE = 15
"""oneDNN's program for a depth-wise convolution in 16 bits (`brdgmm_dw` on x86 with AVX-512, 3.13
and before) is never finished for so few channels and so wide a kernel: one register too few is
counted for it, and a loop steps by the 0 registers that are left.
"""


def is_wide_of_few_channels(conv: nn.Conv1d | nn.Conv2d) -> bool:
    """Whether oneDNN may never finish this convolution in float16 or bfloat16, on a wide map."""
    depthwise = 1 < conv.groups == conv.in_channels == conv.out_channels <= FEW_CHANNELS
    side_by_side = conv.stride[-1] == conv.dilation[-1] == 1
    return depthwise and side_by_side and conv.kernel_size[-1] >= WIDE


def convolved(conv: nn.Conv1d | nn.Conv2d, x: Tensor) -> Tensor:
    """`conv(x)`, on a CPU in float32 where oneDNN may never finish it in 16 bits."""
    dtype = torch.float32
    if x.device.type == "cpu":
        dtype = torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else x.dtype
    if dtype not in (torch.float16, torch.bfloat16) or not is_wide_of_few_channels(conv):
        y: Tensor = conv(x)
        return y
    bias = None if conv.bias is None else conv.bias.float()
    with torch.autocast("cpu", enabled=False):
        y = conv._conv_forward(x.float(), conv.weight.float(), bias)
    return y.to(dtype)


class ConvolvedFirst(nn.Sequential):
    """Layers behind a convolution, which is `convolved`."""

    def forward(self, x_NCHW: Tensor) -> Tensor:
        conv, *layers = self
        assert isinstance(conv, nn.Conv2d)
        y_NCHW = convolved(conv, x_NCHW)
        for layer in layers:
            y_NCHW = layer(y_NCHW)
        return y_NCHW


def adaptive_mean(x_NCHW: Tensor, rows: int, columns: int, *, growing: bool = False) -> Tensor:
    """Pools as `adaptive_avg_pool2d(x, (rows, columns))` does, by products with matrices.

    Torch's own has no deterministic gradient on a GPU, and no export where the sizes do not divide.

    Args:
        x_NCHW: the map.
        rows: of the result.
        columns: of the result.
        growing: along H first, then along W: fewer multiplications where the map grows, more where
            it shrinks.

    Returns:
        `(N, C, rows, columns)`.
    """
    height, width = x_NCHW.shape[2:]
    by_row = shares(rows, height, x_NCHW).T
    by_column = shares(columns, width, x_NCHW).T
    if growing:
        return (x_NCHW.transpose(2, 3) @ by_row).transpose(2, 3) @ by_column
    return ((x_NCHW @ by_column).transpose(2, 3) @ by_row).transpose(2, 3)


def shares(count: int, side: int, like: Tensor) -> Tensor:
    """`(count, side)`: what each of `count` means takes of `side` values that it touches, in like's
    dtype.
    """
    i = torch.arange(count, device=like.device)[:, None]
    place = torch.arange(side, device=like.device)
    start = i * side // count
    end = ((i + 1) * side + count - 1) // count
    inside = torch.where((place >= start) & (place < end), like.new_ones(()), like.new_zeros(()))
    return inside / inside.sum(1, keepdim=True)
