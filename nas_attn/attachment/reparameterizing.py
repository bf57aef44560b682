"""The form that a network's own methods give it for inference: parallel branches merged, norms folded.

Such a method (RepVGG's `reparameterize`, YOLO's and LeViT's `fuse`) computes new weights from old modules and deletes these.
Attention on one of them would go, too, and the merged weights would not contain it.
"""

from __future__ import annotations

import copy
import inspect
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nas_attn.attachment.hosting import CHILD, bare_class

METHODS = ("fuse", "reparameterize", "switch_to_deploy", "convert_to_deploy")
"""What such a method is called. It works in place, or returns the module that takes the place of its own."""

CLOSE = 1e-3
"""Two tensors are the same up to rounding if they differ by at most this share of the largest number in them."""

_PATH = "_nas_attn_path"
"""Attribute while a network is compared with its converted copy: a module's path, which a new module does not have."""


def reparameterized(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of the model in evaluation mode, converted by the network's own methods.

    A plain copy where there are none, or where they fail or change the output: then methods of these names do something
    else.
    """
    plain = copy.deepcopy(model).eval()
    if not _converts_itself(plain):
        return plain
    try:
        x = _image(plain, input_shape)
        converted = _converted(copy.deepcopy(plain))
        with torch.no_grad():
            before, after = _tensors(plain(x)), _tensors(converted(x))
    except Exception:  # a user's own code
        return plain
    return converted if _same(before, after) else plain


def merged_modules(model: nn.Module, input_shape: tuple[int, int, int]) -> frozenset[str]:
    """Paths of the modules that the network's own methods delete or replace, or whose result they change.

    Args:
        model: without attention; it is used up.
    """
    if not _converts_itself(model):
        return frozenset()
    for path, module in model.named_modules():
        module.__dict__[_PATH] = path
    model = model.float()
    try:
        converted = _converted(copy.deepcopy(model))
        before, after = _results(model, input_shape), _results(converted, input_shape)
    except Exception:  # a user's own code; `record` says what is wrong with the model
        return frozenset()
    if not _same(before[""], after[""]):
        return frozenset()
    return frozenset(path for path, results in before.items() if not _same(results, after.get(path, [])))


def _converts_itself(model: nn.Module) -> bool:
    return any(_method(module) for _, module in _modules("", model))


def _modules(path: str, module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """A module and those in it, attention left out."""
    yield path, module
    for name, child in module.named_children():
        if name != CHILD:
            yield from _modules(f"{path}.{name}" if path else name, child)


def _method(module: nn.Module) -> Callable[[], Any] | None:
    """The module's own method that converts it, ready to be called; None where it has none."""
    for name in METHODS:
        function = getattr(bare_class(module), name, None)
        if not inspect.isfunction(function):
            continue
        parameters = list(inspect.signature(function).parameters.values())[1:]
        if all(p.default is not p.empty or p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters):
            quiet = {"verbose": False} if any(p.name == "verbose" for p in parameters) else {}
            return lambda name=name, quiet=quiet: getattr(module, name)(**quiet)  # type: ignore[misc]
    return None


def _converted(model: nn.Module) -> nn.Module:
    """The network after its own method; where it has none, after those of its parts, outer ones first."""
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
    """Path -> tensors that the module returned for an image; of modules that are where they were."""
    found: dict[str, list[Tensor]] = defaultdict(list)

    def keep(path: str) -> Callable[..., None]:
        return lambda module, args, result: found[path].extend(t.clone() for t in _tensors(result))

    for path, module in model.named_modules():
        if module.__dict__.get(_PATH) == path:
            module.register_forward_hook(keep(path))
    with torch.no_grad():
        model(_image(model, input_shape))
    return found


def _tensors(result: Any) -> list[Tensor]:
    return [t for t in tree_leaves(result) if isinstance(t, Tensor) and t.is_floating_point()]


def _image(model: nn.Module, shape: tuple[int, int, int]) -> Tensor:
    like = next((t for t in model.parameters() if t.is_floating_point()), torch.zeros(()))
    return torch.rand(1, *shape, generator=torch.Generator().manual_seed(0)).to(like)


def _same(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) == len(others) and all(map(_close, some, others))


def _close(a: Tensor, b: Tensor) -> bool:
    if a.shape != b.shape:
        return False
    return a.numel() == 0 or bool((a - b).abs().max() <= CLOSE * a.abs().max())
