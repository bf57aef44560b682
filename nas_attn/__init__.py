"""nas_attn: which attention module, at which stage of a backbone, with which settings, at what
latency.

    import nas_attn as na

    model = na.attach(torchvision.models.resnet50(), "stage2=ela(variant=B)
    stage3=se(reduction=16)") study = na.search("digits", trials=30) study.front()

Everything is loaded when it is first used: importing this package loads neither torch nor Optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from nas_attn._version import __version__

if TYPE_CHECKING:
    from nas_attn import attention
    from nas_attn.api import (
        Study,
        attach,
        attach_asked,
        begin,
        check,
        detach,
        find_sites,
        load_recipe,
        open_study,
    )
    from nas_attn.api import search as search

__all__ = [
    "Study",
    "__version__",
    "attach",
    "attach_asked",
    "attention",
    "begin",
    "check",
    "detach",
    "find_sites",
    "load_recipe",
    "open_study",
    "search",
]


def __getattr__(name: str) -> Any:
    if name == "attention":
        return importlib.import_module("nas_attn.attention")
    if name in __all__:
        return getattr(importlib.import_module("nas_attn.api"), name)
    raise AttributeError(f"module 'nas_attn' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
