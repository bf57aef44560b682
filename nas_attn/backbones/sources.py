"""The packages that backbones come from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Source:
    """A package that has backbones."""

    package: str
    """As it is installed."""
    licence: str


SOURCES: Mapping[str, Source] = MappingProxyType(
    {
        "torchvision": Source("torchvision", "BSD-3-Clause (torchvision)"),
        "timm": Source("timm", "Apache-2.0 (timm)"),
        "smp": Source("segmentation-models-pytorch", "MIT (segmentation_models_pytorch)"),
        "ultralytics": Source("ultralytics", "AGPL-3.0 (ultralytics)"),
    }
)
"""What stands before the colon of a backbone's name -> the package."""
