"""What gates have in common: the mean behind them, the sigmoid in its two forms, and the blend."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from nas_attn.errors import BackboneError

WORTH_IT = 2**14
"""Values from which on a detour for the sake of speed is quicker than the calls that it takes."""


def is_small(x: Tensor) -> bool:
    """Whether calls cost more than arithmetic; a traced map has no size yet."""
    return not is_traced(x) and x.numel() < WORTH_IT


def is_traced(x: Tensor) -> bool:
    """Whether x stands for any map: under torch.compile, torch.export and torch.jit.trace, or a proxy of torch.fx."""
    return torch.compiler.is_compiling() or _is_jit_traced() or not isinstance(x, Tensor)


def _is_jit_traced() -> bool:
    return bool(torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def recorded(*tensors: Tensor) -> bool:
    """Whether autograd follows; without it, a function of its own would cost as much as a small map's arithmetic."""
    if not torch.is_grad_enabled() or (not torch.compiler.is_compiling() and _is_jit_traced()):
        return False  # a trace, of which ONNX is made, cannot hold a function of one's own
    return any(isinstance(t, Tensor) and t.requires_grad for t in tensors)


def mean(x: Tensor, *dims: int) -> Tensor:
    """The mean over dimensions, as a sum over their size: its gradient is a view, where a mean's is a new map.

    On a CPU that new map is most of what a channel gate's backward pass costs. Of a small map, or without a gradient,
    the mean is quicker, but for bfloat16, of which it first makes a float32 map. A sum in float16 may overflow.
    """
    if x.dtype is torch.float16 or is_small(x) or not (recorded(x) or x.dtype is torch.bfloat16):
        return x.mean(dims)
    count = 1
    for dim in dims:  # not math.prod, which torch.compile does not follow
        count = count * x.shape[dim]
    return x.sum(dims) / count


def gate(z: Tensor, x: Tensor, *, identity: bool) -> Tensor:
    """`s(z)`, or `2s(z)` where the module starts as the identity; in x's dtype (autocast may have left it)."""
    s = torch.sigmoid(z).to(x.dtype)
    return s + s if identity else s


def blend_gate(s: Tensor, a: Tensor | None) -> Tensor:
    """`1 + a·(s - 1)`: the gate of `x + a·(x·s - x)`; s itself without a."""
    return s if a is None else 1 + a.to(s.dtype) * (s - 1)


def laid_out_like(x: Tensor, y: Tensor) -> Tensor:
    """y in the memory format of x: channels_last where x is that and not contiguous as well."""
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


class Blended(nn.Module):
    """`y = x + a·(A(x) - x)` with one learned scalar `a`, which starts at 0: any module A, begun as the identity."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module
        self.blend = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.module(x)
        return torch.lerp(x, y, self.blend.to(x.dtype))
