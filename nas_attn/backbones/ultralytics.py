"""Detectors of ultralytics."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from nas_attn.backbones.building import call
from nas_attn.errors import BackboneError
from nas_attn.recipe import BackboneSection

if TYPE_CHECKING:
    from torch import nn


def build(section: BackboneSection, name: str, channels: int, classes: int, published: bool) -> nn.Module:
    """A detector of ultralytics: random from a YAML, or as a `.pt` says, which ultralytics itself reads (a pickle)."""
    try:
        from ultralytics import YOLO
        from ultralytics.nn.tasks import DetectionModel
        from ultralytics.utils import LOGGER
    except ImportError:
        raise BackboneError(f"'{section.name}' needs ultralytics: pip install ultralytics") from None
    if not name.endswith((".yaml", ".pt")):
        raise BackboneError(
            f"'{section.name}' is neither a .yaml nor a .pt of Ultralytics, like ultralytics:yolo11n.pt"
        )
    if published and not name.endswith(".pt"):
        raise BackboneError(
            f"no weights come with '{section.name}', which only describes a network: give its .pt, or start from scratch"
        )
    if section.options:
        raise BackboneError(f"'{section.name}' takes no backbone.options ({', '.join(section.options)})")
    level = LOGGER.level
    LOGGER.setLevel("WARNING")
    try:
        cfg, source = name, None
        if name.endswith(".pt"):
            source = call(YOLO, section, name).model
            cfg = source.yaml
        model: nn.Module = call(DetectionModel, section, cfg, ch=channels, nc=classes, verbose=False)
        if source is not None:
            _take(model, section, source, published)
    finally:
        LOGGER.setLevel(level)
    return model


def _take(model: Any, section: BackboneSection, source: nn.Module, published: bool) -> None:
    """Weights of a `.pt`, or its layers with random ones: ultralytics makes the branch for the classes as wide as the `.pt` has it."""
    drawn = {key: value.clone() for key, value in model.state_dict().items()}
    call(model.load, section, source, verbose=False)
    if published:
        return
    shapes = {key: value.shape for key, value in model.state_dict().items()}
    same = {key: value for key, value in drawn.items() if value.shape == shapes.get(key)}
    model.load_state_dict(same, strict=False)
    for path, module in model.named_modules():
        if any(f"{path}.{name}" not in same for name, _ in module.named_parameters(recurse=False)):
            module.reset_parameters()
    model.model[-1].bias_init()


def refuse_wrapper(model: object) -> None:
    """Raises:
    BackboneError: it is ultralytics' wrapper around a network.
    """
    if any(cls.__module__ == "ultralytics.engine.model" for cls in type(model).__mro__):
        raise BackboneError(f"{type(model).__name__} is Ultralytics' wrapper of a network: give its .model")
