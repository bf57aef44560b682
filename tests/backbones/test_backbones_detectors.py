"""torchvision's detectors: built for the images' size, what they compute before choosing boxes,
whose weights fit.
"""

from __future__ import annotations

import copy
from pathlib import Path

import pytest
import torch
from detector import build as own_detector
from torch import nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator

from nas_attn import backbones
from nas_attn.backbones.detectors import undecided
from nas_attn.errors import BackboneError
from nas_attn.recipe import BackboneSection
from nas_attn.tasks.detection import usual_side


def build(name: str, side: int = 64, classes: int = 4) -> nn.Module:
    return backbones.build(
        BackboneSection(name=f"torchvision:{name}"), input_shape=(3, side, side), classes=classes
    )


def two_stages() -> nn.Module:
    body = nn.Sequential(nn.Conv2d(3, 8, 3, 4, padding=1), nn.ReLU())
    body.out_channels = 8  # type: ignore[assignment]
    anchors = AnchorGenerator(((8, 16),), ((1.0,),))
    return FasterRCNN(
        body, 5, min_size=32, max_size=32, rpn_anchor_generator=anchors, rpn_post_nms_top_n_test=20
    )


@pytest.mark.parametrize("make", [lambda: own_detector(4), two_stages])
def test_undecided_it_says_as_much_of_every_image(make: object) -> None:
    torch.manual_seed(0)
    model = make().eval()  # type: ignore[operator]
    names_before, images = list(model.state_dict()), torch.rand(2, 3, 32, 32)
    bare = undecided(copy.deepcopy(model))
    assert list(bare.state_dict()) == names_before
    with torch.no_grad():
        one, other = bare(images), bare(1 - images)
        assert isinstance(model(images), list), "the network itself is as it was"
    assert {k: v.shape for k, v in one.items()} == {k: v.shape for k, v in other.items()}
    assert any(not torch.equal(one[k], other[k]) for k in one)
    assert type(undecided(nn.Conv2d(3, 3, 1))) is nn.Conv2d


def test_its_size_is_the_images() -> None:
    model = build("fasterrcnn_mobilenet_v3_large_320_fpn", 64)
    assert (model.transform.min_size, model.transform.max_size) == ((64,), 64)
    assert model.roi_heads.box_predictor.cls_score.out_features == 5, "a class more: nothing"
    assert usual_side("torchvision:ssd300_vgg16") == 300
    assert usual_side("torchvision:retinanet_resnet50_fpn") == usual_side("my_models:build") == 320
    with pytest.raises(BackboneError, match=r"300x300.*data\.size = 300"):
        build("ssd300_vgg16", 64)
    with pytest.raises(BackboneError, match=r"'maskrcnn_resnet50_fpn'"):
        build("maskrcnn_resnet50_fpn")  # it learns from masks


def test_what_predicts_other_classes_starts_at_random(tmp_path: Path) -> None:
    trained = build("fasterrcnn_mobilenet_v3_large_320_fpn", classes=9)
    torch.save(trained.state_dict(), tmp_path / "mine.pt")
    model = build("fasterrcnn_mobilenet_v3_large_320_fpn", classes=4)
    (note,) = backbones.load_weights(model, str(tmp_path / "mine.pt"))
    assert note.kind == "other_classes"
    assert "roi_heads.box_predictor.bbox_pred.bias" in note.names
    state, source = model.state_dict(), trained.state_dict()
    same = {
        name
        for name in state
        if state[name].shape == source[name].shape and torch.equal(state[name], source[name])
    }
    assert {name.split(".")[1] for name in set(state) - same} == {"box_predictor"}
    wrong = {**source, "backbone.fpn.inner_blocks.0.0.weight": torch.zeros(3, 3, 1, 1)}
    torch.save(wrong, tmp_path / "other.pt")
    with pytest.raises(BackboneError, match=r"\(3, 3, 1, 1\)"):
        backbones.load_weights(trained, str(tmp_path / "other.pt"))
