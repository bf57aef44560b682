"""BatchNorm folded into the convolution before it, attention kept.

torch.fx's own fusion leaves a BatchNorm that carries attention as it is: right, but one operation more than needed.
Here the norm is folded, too, and the attention stays where it was, on what is left of it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas_attn.attachment.flow import CONVOLUTIONS, NORMS, Flow
from nas_attn.attachment.hosting import CHILD, bare_class, make_host
from nas_attn.attachment.recording import record


def fold_batchnorm(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of the model for inference with each foldable BatchNorm merged into its convolution.

    Folded are pairs in which the norm is the convolution's only consumer and both run once; modules with hooks are left
    alone. The copy computes what the model computes in evaluation mode, up to rounding; module paths stay.

    Raises:
        BackboneError: the model cannot process an image of this shape.
    """
    flow = Flow(record(model, input_shape, bare=False))
    folded = copy.deepcopy(model).eval()
    modules = dict(folded.named_modules())
    for first, second in _pairs(flow):
        convolution, norm = modules[first], modules[second]
        if not _foldable(convolution, norm):
            continue
        rest = nn.Identity().eval()
        if CHILD in norm._modules:
            make_host(rest, norm._modules[CHILD])
        folded.set_submodule(first, fuse_conv_bn_eval(convolution, norm))
        folded.set_submodule(second, rest)
    return folded


def _pairs(flow: Flow) -> Iterator[tuple[str, str]]:
    """(path of a convolution, path of the norm that alone uses its result), each called once."""
    for op in flow.operations:
        if op.name not in CONVOLUTIONS:
            continue
        uses = flow.consumers[op.outputs[0]]
        if len(uses) != 1 or flow.operations[uses[0]].name not in NORMS:
            continue
        paths = [flow.calls[op.call].path, flow.calls[flow.operations[uses[0]].call].path]
        if all(len(flow.calls_of[path]) == 1 for path in paths):
            yield paths[0], paths[1]


def _foldable(convolution: nn.Module | None, norm: nn.Module | None) -> bool:
    if (
        convolution is None
        or norm is None
        or type(convolution) is not nn.Conv2d
        or bare_class(norm) is not nn.BatchNorm2d
    ):
        return False
    return norm.running_mean is not None and not any(
        hooks for m in (convolution, norm) for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    )
