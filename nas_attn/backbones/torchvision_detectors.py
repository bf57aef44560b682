"""torchvision's detectors: built for images of one size, and their outputs before the selection of
boxes.

A detector ends in thresholds and non-maximum suppression (NMS). Their time depends on the number of
boxes, so on image and weights, and says nothing about the cost of a module. `undecided` leaves this
selection out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas_attn.backbones.weights_input import torchvision_names
from nas_attn.errors import BackboneError

if TYPE_CHECKING:
    from torch import Tensor, nn

FIXED_SIDES: Mapping[str, int] = {"ssd300_vgg16": 300, "ssdlite320_mobilenet_v3_large": 320}
"""Detectors whose input has one size."""
PREDICTORS = ("roi_heads.box_predictor.", "head.classification_head.")
"""Prefixes of the layers that predict classes (in Faster R-CNN also a box for each class)."""


def names() -> list[str]:
    """torchvision's detectors that learn from boxes."""
    others = ("maskrcnn", "keypointrcnn")
    return [name for name in torchvision_names("detection") if not name.startswith(others)]


def arguments(name: str, size: tuple[int, int], classes: int) -> dict[str, Any]:
    """Arguments to build one for images of this (height, width): random weights, one more class for
    the background.

    BackboneError: it is made for another size.
    """
    fixed = FIXED_SIDES.get(name)
    if fixed is not None and size != (fixed, fixed):
        raise BackboneError(
            f"'torchvision:{name}' scales all images to {fixed}x{fixed}: set data.size = {fixed}"
        )
    usual: dict[str, Any] = {"weights_backbone": None, "num_classes": classes + 1}
    if fixed:
        return usual
    return {**usual, "min_size": min(size), "max_size": max(size)}


def freeze_norms(network: nn.Module, eps: float) -> None:
    """Replaces each BatchNorm of a network, in place, by a frozen one with the same numbers, as in
    torchvision's trained detectors.
    """
    from torch import nn
    from torchvision.ops import FrozenBatchNorm2d

    for path, norm in list(network.named_modules()):
        if isinstance(norm, nn.BatchNorm2d | FrozenBatchNorm2d):
            frozen = FrozenBatchNorm2d(norm.weight.numel(), eps)
            frozen.load_state_dict(norm.state_dict())
            network.set_submodule(path, frozen)


def frozen_norms() -> tuple[type[nn.Module], ...]:
    """torchvision's frozen BatchNorm; none while it is not loaded, as no network has one then."""
    if "torchvision.ops" not in sys.modules:
        return ()
    from torchvision.ops import FrozenBatchNorm2d

    return (FrozenBatchNorm2d,)


def undecided(model: nn.Module) -> nn.Module:
    """Changes a detector in place: its output is logits and offsets, without a selection of boxes.
    Other models stay as they are.

    Faster R-CNN always uses its maximum number of regions, the best ones, so that each image costs
    the same.
    """
    forward = _forwards().get(getattr(type(model), "forward", None))
    heads = getattr(model, "roi_heads", None)
    if forward is not None and (heads is None or not (heads.has_mask() or heads.has_keypoint())):
        kind = type(model)
        body = {"forward": forward, "__module__": kind.__module__}
        model.__class__ = _MADE.setdefault(kind, type(kind.__name__, (kind,), body))
    return model


_MADE: dict[type[nn.Module], type[nn.Module]] = {}
"""A detector's class -> the one made of it; one for all of its networks."""


def _forwards() -> Mapping[Any, Callable[..., Any]]:
    """torchvision's own -> without the choice."""
    if "torchvision.models.detection" not in sys.modules:
        # Then no model is a detector.
        return {}
    from torchvision.models import detection
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

    dense = (detection.RetinaNet, detection.FCOS, detection.ssd.SSD)
    return {GeneralizedRCNN.forward: _in_two_stages, **{kind.forward: _at_once for kind in dense}}


def _features(model: Any, images: Any) -> dict[str, Tensor]:
    features = model.backbone(images.tensors)
    if isinstance(features, dict):
        return features
    return {"0": features}


def _at_once(self: Any, images: Sequence[Tensor] | Tensor) -> dict[str, Tensor]:
    """RetinaNet, FCOS, SSD: the head's output at each anchor."""
    prepared, _ = self.transform(images)
    output: dict[str, Tensor] = self.head(list(_features(self, prepared).values()))
    return output


def _in_two_stages(self: Any, images: Sequence[Tensor] | Tensor) -> dict[str, Tensor]:
    """Faster R-CNN: the output at each anchor, and for the best regions."""
    from torchvision.models.detection.rpn import concat_box_prediction_layers
    from torchvision.ops import clip_boxes_to_image

    prepared, _ = self.transform(images)
    features = _features(self, prepared)
    maps = list(features.values())
    objectness, offsets = concat_box_prediction_layers(*self.rpn.head(maps))
    anchors = self.rpn.anchor_generator(prepared, maps)
    regions = self.rpn.box_coder.decode(offsets.detach(), anchors).view(len(anchors), -1, 4)
    scores = objectness.detach().view(len(anchors), -1)
    best = scores.topk(min(self.rpn.post_nms_top_n(), scores.shape[1])).indices
    chosen = [
        clip_boxes_to_image(r[i], size)
        for r, i, size in zip(regions, best, prepared.image_sizes, strict=True)
    ]
    pooled = self.roi_heads.box_roi_pool(features, chosen, prepared.image_sizes)
    classes, boxes = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
    return {"objectness": objectness, "offsets": offsets, "classes": classes, "boxes": boxes}
