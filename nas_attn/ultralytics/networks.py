"""Ultralytics' detectors: built from a YAML or a `.pt`; and the library's classes for each kind."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas_attn.backbones.building import Shape, call
from nas_attn.errors import BackboneError
from nas_attn.recipe.reading import backbone_section
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.system.importing import refuse_distrusted

if TYPE_CHECKING:
    from torch import nn


def detector(
    section: BackboneSection, name: str, shape: Shape, classes: int, with_weights: bool
) -> nn.Module:
    """Builds a detector of ultralytics, for masks or poses, too.

    Args:
        section: of the recipe, for errors.
        name: a YAML, for random weights, or a `.pt`, a pickle that ultralytics reads.
        shape: of one image.
        classes: how many.
        with_weights: whether the weights of the `.pt` are wanted.

    Raises:
        BackboneError: ultralytics is missing, or the name or the options do not fit.
    """
    if find_spec("ultralytics") is None:
        raise BackboneError(f"'{section.name}' needs ultralytics: pip install ultralytics")
    if not name.endswith((".yaml", ".pt")):
        raise BackboneError(
            f"'{section.name}' is neither a .yaml nor a .pt, like ultralytics:yolo11n.pt"
        )
    if with_weights and not name.endswith(".pt"):
        raise BackboneError(
            f"no weights come with '{section.name}': give its .pt, or start from scratch"
        )
    if section.options:
        raise BackboneError(f"'{section.name}' takes no backbone.options: remove them")
    import torch

    from nas_attn.ultralytics.rebuilding import keep_attention

    keep_attention()
    with quiet():
        with torch.random.fork_rng(devices=[]):
            source = _opened(section, name).model
        kind = parts_of(source, section.name)["model"]
        if "nas_attn" in source.yaml:
            raise BackboneError(
                f"'{section.name}' has attention already: give the .pt that it was made from"
            )
        cfg = source.yaml if name.endswith(".pt") else name
        model: nn.Module = call(kind, section, cfg, ch=shape[0], nc=classes, verbose=False)
        if name.endswith(".pt"):
            _take(model, section, source, with_weights=with_weights)
    return model


def trained_side(name: str) -> int | None:
    """The side in pixels of the images that a `.pt` was trained on; None: there is no such file
    here, or it does not say it.
    """
    if not name.endswith(".pt") or not Path(name).is_file() or find_spec("ultralytics") is None:
        return None
    with quiet():
        size = _opened(backbone_section(f"ultralytics:{name}"), name).overrides.get("imgsz")
    if size is None:
        return None
    return max(size) if isinstance(size, list | tuple) else int(size)


def _opened(section: BackboneSection, name: str) -> Any:
    """Ultralytics' wrapper around the network of a YAML or a `.pt`. Raises BackboneError: it cannot
    be opened, or is a pickle that this process must not read.
    """
    from ultralytics import RTDETR, YOLO

    if name.endswith(".pt"):
        refuse_distrusted(section.name, BackboneError)
    return call(RTDETR if "rtdetr" in Path(name).stem else YOLO, section, name)


@contextmanager
def quiet() -> Iterator[None]:
    """Inside, Ultralytics logs only warnings."""
    from ultralytics.utils import LOGGER

    level = LOGGER.level
    LOGGER.setLevel("WARNING")
    try:
        yield
    finally:
        LOGGER.setLevel(level)


WITH_BOXES = ("detect", "segment", "pose", "obb")
"""Ultralytics' tasks whose networks find boxes."""


def _take(model: Any, section: BackboneSection, source: nn.Module, *, with_weights: bool) -> None:
    """Takes the weights of a `.pt`; or else its layers alone, with random ones, since a YAML does
    not say how wide their class branch is.
    """
    drawn = copy.deepcopy(model.state_dict())
    call(model.load, section, source, verbose=False)
    if with_weights:
        return
    now = model.state_dict()
    same = {key: drawn[key] for key in drawn.keys() & now if drawn[key].shape == now[key].shape}
    model.load_state_dict(same, strict=False)
    for path, module in model.named_modules():
        if any(f"{path}.{name}" not in same for name, _ in module.named_parameters(recurse=False)):
            # not every module has such a method
            call(lambda layer: layer.reset_parameters(), section, module)
    if hasattr(model.model[-1], "bias_init"):
        model.model[-1].bias_init()


def parts_of(network: nn.Module, name: str) -> Mapping[str, Any]:
    """Ultralytics' classes for networks of this kind: `task`, `model`, `trainer`, `validator`.
    BackboneError: the network finds no boxes.
    """
    from ultralytics import RTDETR, YOLO

    kinds: dict[type, dict[str, Any]] = {}
    for table in (YOLO.task_map, RTDETR.task_map):
        kinds |= {parts["model"]: {**parts, "task": t} for t, parts in table.fget(None).items()}
    parts = next((kinds[cls] for cls in type(network).__mro__ if cls in kinds), {"task": "nothing"})
    if parts["task"] not in WITH_BOXES:
        raise BackboneError(
            f"'{name}' is for Ultralytics' task '{parts['task']}', which has no boxes: take a"
            " detector"
        )
    return parts
