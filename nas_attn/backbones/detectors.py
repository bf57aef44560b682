"""torchvision's detectors: built for images of one size, and what they compute before they choose among their boxes.

A detector ends in thresholds and non-maximum suppression: how many boxes are left differs from image to image and from weights to
weights, and says nothing of what a module costs. `undecided` leaves that choice out.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from nas_attn.errors import BackboneError
from nas_attn.tasks import FIXED_SIDES

if TYPE_CHECKING:
    from torch import Tensor, nn

PREDICTORS = ("roi_heads.box_predictor.", "head.classification_head.")
"""Beginnings of the names of what predicts classes, and of Faster R-CNN a box for each."""


def names() -> list[str]:
    """torchvision's detectors that learn from boxes."""
    import torchvision

    known: list[str] = torchvision.models.list_models(module=torchvision.models.detection)
    return [name for name in known if not name.startswith(("maskrcnn", "keypointrcnn"))]


def arguments(name: str, size: tuple[int, int], classes: int) -> dict[str, Any]:
    """How one is built for images of this (height, width): random weights, one more class for what is nothing.

    BackboneError where it is made for another size.
    """
    fixed = FIXED_SIDES.get(name)
    if fixed is not None and size != (fixed, fixed):
        raise BackboneError(f"'torchvision:{name}' scales all images to {fixed}x{fixed}: set data.size = {fixed}")
    usual: dict[str, Any] = {"weights_backbone": None, "num_classes": classes + 1}
    return usual if fixed else {**usual, "min_size": min(size), "max_size": max(size)}


def undecided(model: nn.Module) -> nn.Module:
    """The detector itself, which answers with logits and offsets from now on, and chooses no boxes; others stay as they are.

    Of Faster R-CNN's regions the best are taken, as many as it takes at most, so that each image costs the same.
    """
    forward = _forwards().get(getattr(type(model), "forward", None))
    heads = getattr(model, "roi_heads", None)
    if forward is not None and (heads is None or not (heads.has_mask() or heads.has_keypoint())):
        kind, body = type(model), {"forward": forward, "__module__": type(model).__module__}
        model.__class__ = _MADE.setdefault(kind, type(kind.__name__, (kind,), body))
    return model


_MADE: dict[type[nn.Module], type[nn.Module]] = {}
"""A detector's class -> the one made of it; one for all of its networks."""


def _forwards() -> Mapping[Any, Callable[..., Any]]:
    """torchvision's own -> without the choice."""
    if "torchvision.models.detection" not in sys.modules:  # then no model is one
        return {}
    from torchvision.models import detection
    from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

    dense = (detection.RetinaNet, detection.FCOS, detection.ssd.SSD)
    return {GeneralizedRCNN.forward: _in_two_stages, **{kind.forward: _at_once for kind in dense}}


def _features(model: Any, images: Any) -> dict[str, Tensor]:
    found = model.backbone(images.tensors)
    return found if isinstance(found, dict) else {"0": found}


def _at_once(self: Any, images: Sequence[Tensor] | Tensor) -> dict[str, Tensor]:
    """RetinaNet, FCOS, SSD: what their head says at each anchor."""
    prepared, _ = self.transform(images)
    found: dict[str, Tensor] = self.head(list(_features(self, prepared).values()))
    return found


def _in_two_stages(self: Any, images: Sequence[Tensor] | Tensor) -> dict[str, Tensor]:
    """Faster R-CNN: what is said of each anchor, and of the best regions."""
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
    chosen = [clip_boxes_to_image(r[i], size) for r, i, size in zip(regions, best, prepared.image_sizes, strict=True)]
    pooled = self.roi_heads.box_roi_pool(features, chosen, prepared.image_sizes)
    classes, boxes = self.roi_heads.box_predictor(self.roi_heads.box_head(pooled))
    return {"objectness": objectness, "offsets": offsets, "classes": classes, "boxes": boxes}
