"""A network's form for inference: converted by its own methods, with each BatchNorm folded.

Some networks have a method (RepVGG's `reparameterize`, YOLO's and LeViT's `fuse`) that computes new
weights from old modules and deletes these; attention on one of them would be lost. torch.fx's
fusion does not fold a BatchNorm with attention: correct, but one operation more than needed. Here
such a norm is folded, too, and the attention stays at its place, on the rest of the norm.
"""

import inspect
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas_attn.attachment.attaching import detach
from nas_attn.attachment.containers import CHILD, bare_class
from nas_attn.attachment.flow import Flow
from nas_attn.attachment.hosting import make_host
from nas_attn.attachment.operations import CONVOLUTIONS, NORMS
from nas_attn.attachment.recording import floating_tensors, image_for, record
from nas_attn.attachment.twins import copied, twin_of
from nas_attn.backbones.torchvision_detectors import frozen_norms

DEPLOY_METHODS = ("fuse", "reparameterize", "switch_to_deploy", "convert_to_deploy")
"""Names of such methods. They work in place, or return the module that replaces their own."""
ROUNDING_OF_MERGED = 1e-3
"""Outputs are the same if they differ by at most this share of the largest number."""


@torch.inference_mode(False)
def reparameterized(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of the model in evaluation mode, converted by the network's own methods. A plain copy
    if there are none, or if they fail or change the output: then methods of these names do
    something else.
    """
    plain = copied(model).eval()
    if not any(map(_method, plain.modules())):
        return plain
    x = image_for(plain, input_shape)
    try:
        converted = _converted(copied(plain))
        with torch.no_grad():
            before = floating_tensors(plain(x))
            after = floating_tensors(converted(x))
        same = len(before) > 0 and all(
            torch.allclose(now, was, rtol=0, atol=ROUNDING_OF_MERGED * float(was.abs().amax()))
            for was, now in zip(before, after, strict=True)
        )
    except Exception:
        # a method of a user's own may want something else, and raise anything
        same = False
    return converted if same else plain


def merged_modules(model: nn.Module, input_shape: tuple[int, int, int]) -> frozenset[str]:
    """Paths of modules that the network's own methods delete, or replace by others."""
    if not any(map(_method, model.modules())):
        return frozenset()
    with twin_of(model) as bare:
        detach(bare)
        after = dict(reparameterized(bare, input_shape).named_modules())
        return frozenset(
            path
            for path, module in bare.named_modules()
            if type(module) is not type(after.get(path))
        )


def _method(module: nn.Module) -> Callable[[], Any] | None:
    """The module's own method that converts it, ready to call; None if it has none."""
    for name in DEPLOY_METHODS:
        function = getattr(bare_class(module), name, None)
        if not inspect.isfunction(function):
            continue
        _, *parameters = inspect.signature(function).parameters.values()
        if all(p.default is not p.empty or "VAR" in p.kind.name for p in parameters):
            quiet = {p.name: False for p in parameters if p.name == "verbose"}
            return partial(getattr(module, name), **quiet)
    return None


def _converted(module: nn.Module) -> nn.Module:
    """A module after its own method; without one, after those of its parts, outer ones first, as
    timm's `reparameterize_model` goes.
    """
    method = _method(module)
    if method is not None:
        result = method()
        return result if isinstance(result, nn.Module) else module
    for name, child in list(module.named_children()):
        if name != CHILD and (new := _converted(child)) is not child:
            setattr(module, name, new)
    return module


def fold_batchnorm(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of the model for inference with each BatchNorm merged into its convolution, if nothing
    else uses that and both run once.

    The copy computes what the model computes in evaluation mode, up to rounding; module paths stay.

    Raises:
        BackboneError: the model cannot process an image of this shape.
    """
    flow = Flow(record(model, input_shape, bare=False))
    folded = copied(model).eval()
    modules = dict(folded.named_modules())
    for first, second in _pairs(flow):
        convolution = modules[first]
        norm = modules[second]
        if not _foldable(convolution, norm):
            continue
        rest = nn.Identity().eval()
        if CHILD in norm._modules:
            make_host(rest, norm._modules[CHILD])
        folded.set_submodule(first, fuse_conv_bn_eval(convolution, norm))
        folded.set_submodule(second, rest)
    return folded


def _pairs(flow: Flow) -> Iterator[tuple[str, str]]:
    """(path of a convolution, path of the norm that is the only user of its result), each called
    once.
    """
    for op in flow.operations:
        if op.name not in CONVOLUTIONS:
            continue
        result = op.outputs[0]
        # the network returns it as it is
        if result in flow.calls[0].outputs:
            continue
        uses = flow.consumers[result]
        if len(uses) != 1:
            continue
        use = flow.operations[uses[0]]
        user = flow.calls[use.call]
        if use.name not in NORMS and not issubclass(user.module, frozen_norms()):
            continue
        paths = [flow.calls[op.call].path, user.path]
        if all(len(flow.calls_of[path]) == 1 for path in paths):
            yield paths[0], paths[1]


def _foldable(convolution: nn.Module, norm: nn.Module) -> bool:
    norms = (nn.BatchNorm2d, *frozen_norms())
    if type(convolution) is not nn.Conv2d or bare_class(norm) not in norms:
        return False
    return norm.running_mean is not None and not any(
        hooks
        for m in (convolution, norm)
        for hooks in (m._forward_hooks, m._forward_pre_hooks, m._backward_hooks)
    )
