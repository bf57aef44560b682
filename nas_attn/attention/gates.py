"""What gates have in common: the pooling behind them, the sigmoid in its two forms, and the blend."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_attn.errors import BackboneError


def is_traced(x: Tensor) -> bool:
    """Whether x stands for any map: under torch.compile, torch.export and torch.jit.trace, or a proxy of torch.fx."""
    is_jit_traced: bool = torch.jit.is_tracing()  # type: ignore[attr-defined, no-untyped-call]
    return torch.compiler.is_compiling() or is_jit_traced or not isinstance(x, Tensor)


def max_mean(x: Tensor, dim: int) -> Tensor:
    """Maximum and mean over one dimension, side by side in its place. Ties of the maximum share its gradient."""
    return torch.cat((x.amax(dim, keepdim=True), x.mean(dim, keepdim=True)), dim)


TINY = 1e-37
"""Keeps a quotient or the gradient of a root finite at 0, and changes no other value."""


def magnitude(x: Tensor) -> Tensor:
    """`|x|`, from operators that every runtime has."""
    return torch.maximum(x, x * -1)


def sum_of_squares(x_NCHW: Tensor) -> Tensor:
    """Over H and W: `(N, C, 1, 1)`. A norm is the quickest way on a CPU; traced, it would be an operator that some lack."""
    if is_traced(x_NCHW):
        return x_NCHW.square().sum((2, 3), keepdim=True)
    norm_NC11: Tensor = torch.linalg.vector_norm(x_NCHW, dim=(2, 3), keepdim=True)
    return norm_NC11.square()


def free_values(count: int) -> int:
    """`max(count - 1, 1)`, what an unbiased variance divides by, in a form that torch.fx can trace."""
    return count - 1 + 1 // count


def gate(z: Tensor, x: Tensor, *, identity: bool) -> Tensor:
    """`s(z)`, or `2s(z)` where the module starts as the identity; in x's dtype (autocast may have left it)."""
    s = torch.sigmoid(z).to(x.dtype)
    return s + s if identity else s


def blend(x: Tensor, y: Tensor, a: Tensor | None) -> Tensor:
    """`x + a·(y - x)`; y itself without a."""
    if a is None:
        return y
    a = a.to(x.dtype)
    return x + a * (y - x) if is_traced(x) else torch.lerp(x, y, a)  # pnnx knows no lerp


def laid_out_like(x: Tensor, y: Tensor) -> Tensor:
    """y in the memory format of x: channels_last where x is that and not contiguous as well. A traced map has none."""
    if is_traced(x):
        return y
    channels_last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
    return y.contiguous(memory_format=torch.channels_last if channels_last else torch.contiguous_format)


def refuse_scripting(*_: object) -> None:
    """What torch.jit.script calls before it compiles a module.

    Raises:
        BackboneError: always; says what to use instead.
    """
    raise BackboneError(
        "torch.jit.script cannot compile attention modules: use torch.export.export(model, (x,)), or torch.jit.trace(model, x)"
    )


def zero_(*layers: nn.Module) -> None:
    """Put weight and bias of the layers to zero."""
    for layer in layers:
        for parameter in layer.parameters(recurse=False):
            nn.init.zeros_(parameter)


def unity_(layer: nn.Module) -> None:
    """Put the layer's weight to zero and its bias to one: whatever is multiplied by its result stays as it is."""
    zero_(layer)
    nn.init.ones_(layer.get_parameter("bias"))


class Blended(nn.Module):
    """`y = x + a·(A(x) - x)` with one learned scalar `a`, which starts at 0: any module A, begun as the identity."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.blend = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return blend(x, y, self.blend)
