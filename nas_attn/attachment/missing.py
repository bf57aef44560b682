"""Attention that was attached to a model, and that a tool has lost since."""

import re
from collections.abc import Callable, Mapping

from torch import nn

from nas_attn.attachment.containers import CHILD
from nas_attn.attachment.hosting import PLACED


def lost_modules(model: nn.Module, expected: nn.Module | None = None) -> dict[str, str]:
    """Path -> type of each module that `attach` put into the model, or into `expected`, and that is
    missing now.

    A module is not missing because it has another path: the network may be inside another one
    (`model.layer1…`), a part of it inside a wrapper (`layer1._orig_mod…`), or the model a part of
    the network.
    """
    lost: dict[str, str] = {}
    for prefix, module in model.named_modules():
        placed = module.__dict__.get(PLACED, {})
        missing = _missing(dict.fromkeys(placed), _attention_in(module))
        lost |= {f"{prefix}.{name}".lstrip("."): placed[name] for name in missing}
    if expected is None:
        return lost
    for prefix, module in expected.named_modules():
        placed = module.__dict__.get(PLACED, {})
        there = _attention_in(module)
        wanted = {name: there.get(name) for name in placed}
        missing = _missing(wanted, _attention_in(model))
        lost |= {f"{prefix}.{name}".lstrip("."): placed[name] for name in missing}
    return lost


def _attention_in(model: nn.Module) -> dict[str, nn.Module]:
    """Path -> attention module, also of one that is not behind a host any more."""
    return {
        path: module
        for path, module in model.named_modules(remove_duplicate=False)
        if path.split(".")[-2:-1] == [CHILD]
    }


def _missing(wanted: Mapping[str, nn.Module | None], there: Mapping[str, nn.Module]) -> list[str]:
    """The wanted modules that are not there. Each module is taken once: the same object, then what
    has the same path, then what has one in which the other's names stand in their order, then what
    has other numbers in its path (a layer was put before it, a head cut off).
    """
    ways: tuple[Callable[[str, str], bool], ...] = (
        lambda name, path: wanted[name] is there[path],
        lambda name, path: name == path,
        lambda name, path: _is_inside(name, path) or _is_inside(path, name),
        lambda name, path: _without_numbers(name) == _without_numbers(path),
    )
    left = list(wanted)
    free = list(there)
    for fits in ways:
        for name in list(left):
            path = next((path for path in free if fits(name, path)), None)
            if path is not None:
                left.remove(name)
                free.remove(path)
    return left


def _without_numbers(path: str) -> str:
    return re.sub(r"\b\d+\b", "*", path)


def _is_inside(name: str, path: str) -> bool:
    """Whether the parts of a name are parts of a path, in this order."""
    parts = iter(path.split("."))
    return all(part in parts for part in name.split("."))
