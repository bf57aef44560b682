"""torchvision's detectors: built for the images' size, what they compute before choosing boxes,
whose weights fit.
"""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from detector import build as own_detector
from torch import nn
from torchvision.models._api import WeightsEnum
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.ops import FrozenBatchNorm2d

import nas_attn as na
from nas_attn import backbones
from nas_attn.backbones import torchvision_detectors as detectors
from nas_attn.backbones.torchvision_detectors import undecided
from nas_attn.backbones.weight_files import restore
from nas_attn.errors import BackboneError, RecipeError
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tables import FROZEN_NORMS
from nas_attn.training.plan import Plan, make_plan
from nas_attn.training.starts import given_weights
from nas_attn.training.tasks.detection import usual_side


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


@pytest.mark.parametrize("name", detectors.names())
def test_the_frozen_norms_are_torchvisions(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with torch.device("meta"):
        made = torchvision.models.get_model(name, weights_backbone=None, num_classes=91)
        # instead of a download
        state = made.state_dict()
        monkeypatch.setattr(WeightsEnum, "get_state_dict", lambda self, **how: state)
        theirs = torchvision.models.get_model(name, weights="DEFAULT")
    frozen = {norm.eps for norm in theirs.modules() if isinstance(norm, FrozenBatchNorm2d)}
    known = FROZEN_NORMS.get(f"torchvision:{name}")
    assert frozen == (set() if known is None else {known})


def planned(weights: str, classes: int, **backbone: str) -> Plan:
    """A study of RetinaNet that starts from these weights."""
    recipe = recipe_from(
        {
            "name": "boxes",
            "task": {"name": "detection"},
            "objectives": ["map50_95", "params"],
            "space": {"name": "one", "choices": {"se": {}}},
            "backbone": {"name": "torchvision:retinanet_resnet50_fpn", **backbone},
            "data": {"name": "digits", "size": 64},
            "target": {"weights": weights, "epochs": 1},
        },
        where="a test",
    )
    return make_plan(recipe, (3, 64, 64), classes)


def learnt(folder: Path, *, frozen: bool) -> Path:
    """A file with RetinaNet's weights, whose first channels differ less than the usual eps."""
    torch.manual_seed(0)
    model = build("retinanet_resnet50_fpn", classes=90)
    with torch.no_grad():
        model.get_submodule("backbone.body.conv1").weight[:8] *= 1e-2  # type: ignore[operator,index]
        for module in model.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.momentum = 1.0
        model.train().get_submodule("backbone")(torch.rand(2, 3, 64, 64))
    state = model.state_dict()
    if frozen:
        state = {name: state[name] for name in state if not name.endswith("num_batches_tracked")}
    folder.mkdir(parents=True, exist_ok=True)
    # the name of torchvision's own file
    path = folder / "retinanet_resnet50_fpn_coco-eeacb38b.pth"
    torch.save(state, path)
    return path


def test_a_detector_from_weights_is_torchvisions_own_and_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = learnt(tmp_path / "hub" / "checkpoints", frozen=True)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    theirs: Any = torchvision.models.get_model("retinanet_resnet50_fpn", weights="DEFAULT").eval()
    images = torch.rand(2, 3, 64, 64)
    for weights in ("default", str(path)):
        plan = planned(weights, classes=90)
        ours: Any = restore(plan.bare(0), given_weights(plan)[0]).eval()
        with torch.no_grad():
            for level, expected in theirs.backbone(images).items():
                assert torch.equal(ours.backbone(images)[level], expected)
    before = {name: value.clone() for name, value in ours.backbone.named_buffers()}
    na.attach(ours, "stage2=se(reduction=4)", input_shape=(3, 64, 64), init="paper")
    boxes = {"boxes": torch.tensor([[8.0, 8.0, 40.0, 40.0]]), "labels": torch.tensor([1])}
    sum(ours.train()(list(images), [boxes, boxes]).values()).backward()
    assert all(torch.equal(ours.backbone.get_buffer(name), before[name]) for name in before)
    attention = [p for name, p in ours.named_parameters() if ".nas_attn." in name]
    assert attention
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in attention)


def test_weights_of_trained_norms_keep_them_as_built(tmp_path: Path) -> None:
    path = str(learnt(tmp_path, frozen=False))
    plan = planned(path, classes=90, norms="as_built")
    model = restore(plan.bare(0), given_weights(plan)[0])
    norm = model.get_submodule("backbone.body.bn1")
    assert isinstance(norm, nn.BatchNorm2d)
    assert norm.num_batches_tracked == 1


def test_frozen_norms_are_for_those_that_have_them() -> None:
    with pytest.raises(RecipeError, match=r"'resnet20'"):
        backbones.create("resnet20", norms="frozen")


def test_what_predicts_other_classes_starts_anew(tmp_path: Path) -> None:
    trained = build("fasterrcnn_mobilenet_v3_large_320_fpn", classes=9)
    torch.save(trained.state_dict(), tmp_path / "mine.pt")
    model = build("fasterrcnn_mobilenet_v3_large_320_fpn", classes=4)
    (note,) = backbones.load_weights(model, str(tmp_path / "mine.pt"))
    assert "roi_heads.box_predictor." in note
    state, source = model.state_dict(), trained.state_dict()
    same = {
        name
        for name in state
        if state[name].shape == source[name].shape and torch.equal(state[name], source[name])
    }
    assert {name.split(".")[1] for name in set(state) - same} == {"box_predictor"}
    assert not state["roi_heads.box_predictor.cls_score.weight"].any()
    wrong = {**source, "backbone.fpn.inner_blocks.0.0.weight": torch.zeros(3, 3, 1, 1)}
    torch.save(wrong, tmp_path / "other.pt")
    with pytest.raises(BackboneError, match=r"\(3, 3, 1, 1\)"):
        backbones.load_weights(trained, str(tmp_path / "other.pt"))
