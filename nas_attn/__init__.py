"""nas_attn: which attention module, at which stage of a backbone, with which settings, at what
latency?

    import nas_attn as na

    model = torchvision.models.resnet50()
    na.attach(model, "stage2=ela(variant=B) stage3=se(reduction=16)")
    study = na.search("digits", trials=30)
    study.front()

Everything is loaded when it is first used: importing this package loads neither torch nor Optuna.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import nas_attn.wiring as _wiring  # noqa: F401 - it fills the tables
from nas_attn._version import __version__

if TYPE_CHECKING:
    from nas_attn import attention, errors
    from nas_attn.api import (
        Asked,
        CandidateView,
        Effects,
        EvaluatorRun,
        Gates,
        ParetoHalving,
        Participation,
        Placement,
        PlacementSampler,
        Recipe,
        Site,
        Snapshot,
        SpaceSpec,
        Study,
        attach,
        begin,
        check,
        detach,
        find_sites,
        freeze_all_but_attention,
        gates,
        load_recipe,
        load_space,
        open_study,
        parameter_groups,
        search,
    )

__all__ = [
    "Asked",
    "CandidateView",
    "Effects",
    "EvaluatorRun",
    "Gates",
    "ParetoHalving",
    "Participation",
    "Placement",
    "PlacementSampler",
    "Recipe",
    "Site",
    "Snapshot",
    "SpaceSpec",
    "Study",
    "__version__",
    "attach",
    "attention",
    "begin",
    "check",
    "detach",
    "errors",
    "find_sites",
    "freeze_all_but_attention",
    "gates",
    "load_recipe",
    "load_space",
    "open_study",
    "parameter_groups",
    "search",
]

PACKAGES = ("attention", "errors")
"""The public names that are modules of their own; all others are in `nas_attn.api`."""


def __getattr__(name: str) -> Any:
    if name in PACKAGES:
        return importlib.import_module(f"nas_attn.{name}")
    if name in __all__:
        return getattr(importlib.import_module("nas_attn.api"), name)
    raise AttributeError(f"module 'nas_attn' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted(__all__)
