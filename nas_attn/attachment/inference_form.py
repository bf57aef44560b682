"""A network's form for inference: converted by its own methods, with each BatchNorm folded.

Some networks have a method (RepVGG's `reparameterize`, YOLO's and LeViT's `fuse`) that computes new
weights from old modules and deletes these; attention on one of them would be lost. torch.fx's
fusion does not fold a BatchNorm with attention: correct, but one operation more than needed. Here
such a norm is folded, too, and the attention stays at its place, on the rest of the norm.
"""

import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nas_attn.attachment.containers import CHILD, bare_class
from nas_attn.attachment.flow import Flow
from nas_attn.attachment.hosting import make_host
from nas_attn.attachment.operations import CONVOLUTIONS, NORMS
from nas_attn.attachment.recording import floating_tensors, image_for, record
from nas_attn.attachment.twins import copied
from nas_attn.backbones.torchvision_detectors import frozen_norms

DEPLOY_METHODS = ("fuse", "reparameterize", "switch_to_deploy", "convert_to_deploy")
"""Names of such methods. They work in place, or return the module that replaces their own."""
ROUNDING_OF_TENSORS = 1e-3
"""Two tensors are the same up to rounding if they differ by at most this share of the largest
number in them.
"""
EXACT = (torch.float64, torch.float32)
"""Types in which a network is compared with its converted form: the first rounds little, but not
all code accepts it.
"""
_PATH = "_nas_attn_path"
"""Attribute while a network is compared with its converted copy: a module's path, which a new
module does not have.
"""


@torch.inference_mode(False)
def reparameterized(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of the model in evaluation mode, converted by the network's own methods. A plain copy
    if there are none, or if they fail or change the output: then methods of these names do
    something else.
    """
    plain = copied(model).eval()
    if not _converts_itself(plain):
        return plain
    for dtype in EXACT:
        # a user's own code
        with suppress(Exception):
            exact = copied(plain).to(dtype)
            x = image_for(exact, input_shape)
            with torch.no_grad():
                before = floating_tensors(exact(x))
                after = floating_tensors(_converted(copied(exact))(x))
            if before and _same(before, after):
                return _converted(copied(plain))
            return plain
    return plain


@torch.inference_mode(False)
def merged_modules(model: nn.Module, input_shape: tuple[int, int, int]) -> frozenset[str]:
    """Paths of modules that the network's own methods delete or replace, or whose result they
    change; the bare model is used up.
    """
    if not _converts_itself(model):
        return frozenset()
    for path, module in model.named_modules():
        module.__dict__[_PATH] = path
    for dtype in EXACT:
        # a user's own code; `record` says what is wrong with the model
        with suppress(Exception):
            exact = copied(model).to(dtype)
            converted = _converted(copied(exact))
            before = _results(exact, input_shape)
            after = _results(converted, input_shape)
            if not before[""] or not _same(before[""], after[""]):
                break
            return frozenset(
                path for path, results in before.items() if not _same(results, after.get(path, []))
            )
    return frozenset()


def _converts_itself(module: nn.Module) -> bool:
    """Whether it or a module in it, except attention, has such a method."""
    inside = (child for name, child in module.named_children() if name != CHILD)
    return _method(module) is not None or any(map(_converts_itself, inside))


def _method(module: nn.Module) -> Callable[[], Any] | None:
    """The module's own method that converts it, ready to call; None if it has none."""
    for name in DEPLOY_METHODS:
        function = getattr(bare_class(module), name, None)
        if not inspect.isfunction(function):
            continue
        parameters = list(inspect.signature(function).parameters.values())[1:]
        if all(
            p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD)
            for p in parameters
        ):
            quiet = {}
            if any(p.name == "verbose" for p in parameters):
                quiet = {"verbose": False}
            return lambda name=name, quiet=quiet: getattr(module, name)(**quiet)  # type: ignore[misc]
    return None


def _converted(model: nn.Module) -> nn.Module:
    """The network after its own method; without one, after those of its parts, outer ones first."""
    method = _method(model)
    if method is None:
        _convert_parts(model)
        return model
    result = method()
    return result if isinstance(result, nn.Module) else model


def _convert_parts(module: nn.Module) -> None:
    for name, child in list(module.named_children()):
        if name == CHILD:
            continue
        method = _method(child)
        result = method() if method else None
        if isinstance(result, nn.Module) and result is not child:
            setattr(module, name, result)
        else:
            _convert_parts(child)


def _results(model: nn.Module, input_shape: tuple[int, int, int]) -> dict[str, list[Tensor]]:
    """Path -> tensors that the module returned for an image; only for modules that kept their
    place.
    """
    results: dict[str, list[Tensor]] = defaultdict(list)

    def keep(path: str) -> Callable[..., None]:
        return lambda _module, _args, result: results[path].extend(
            t.clone() for t in floating_tensors(result)
        )

    for path, module in model.named_modules():
        if module.__dict__.get(_PATH) == path:
            module.register_forward_hook(keep(path))
    with torch.no_grad():
        model(image_for(model, input_shape))
    return results


def _same(some: list[Tensor], others: list[Tensor]) -> bool:
    return [t.shape for t in some] == [t.shape for t in others] and all(
        a.numel() == 0 or bool((a - b).abs().max() <= ROUNDING_OF_TENSORS * a.abs().max())
        for a, b in zip(some, others, strict=True)
    )


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
