"""Larger and smaller networks of a backbone's family, from the names of its library and by count."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from nas_attn.backbones.relatives import Relatives, relatives, timm_published
from nas_attn.errors import BackboneError
from nas_attn.recipe.reading import backbone_section


def found(name: str, weights: str | None = None, *listed: str) -> Relatives:
    section = backbone_section(name)
    return relatives(section, input_shape=(3, 32, 32), classes=7, weights=weights, listed=listed)


def named(relatives: Relatives) -> tuple[list[str], list[str]]:
    larger, smaller = relatives.larger, relatives.smaller
    names = [[str(choice).rpartition(":")[2] for choice in side] for side in (larger, smaller)]
    return names[0], names[1]


def test_a_cifar_resnet_has_others_in_width_and_depth() -> None:
    larger, smaller = named(found("resnet14(width=8)"))
    assert larger == [
        *(f"resnet14(width={width})" for width in (9, 10, 11, 12, 16)),
        "resnet20(width=8)",
    ]
    assert smaller == [*(f"resnet14(width={width})" for width in (7, 6, 5, 4)), "resnet8(width=8)"]
    assert named(found("preact_resnet8(width=1)"))[1] == []


@pytest.mark.parametrize(
    ("name", "larger", "smaller"),
    [
        (
            "resnet34",
            [f"resnet{depth}.IMAGENET1K_V1" for depth in (50, 101, 152)],
            ["resnet18"],
        ),
        ("resnet101", ["resnet152"], ["resnet50"]),
        (
            "resnet101.IMAGENET1K_V1",
            ["resnet152.IMAGENET1K_V1"],
            ["resnet50.IMAGENET1K_V1", "resnet34", "resnet18"],
        ),
        ("regnet_x_800mf", ["regnet_x_1_6gf", "regnet_x_3_2gf"], ["regnet_x_400mf"]),
        (
            "shufflenet_v2_x1_0",
            ["shufflenet_v2_x1_5", "shufflenet_v2_x2_0"],
            ["shufflenet_v2_x0_5"],
        ),
        ("vgg13", ["vgg16", "vgg19"], ["vgg11"]),
        ("mobilenet_v3_small", ["mobilenet_v3_large.IMAGENET1K_V1"], []),
        ("deeplabv3_resnet50", ["deeplabv3_resnet101"], []),
        ("squeezenet1_1", [], []),
    ],
)
def test_a_name_with_another_word_for_the_size_is_a_relative(
    name: str, larger: list[str], smaller: list[str]
) -> None:
    got = named(found(f"torchvision:{name}", "default"))
    assert (got[0][: len(larger)], got[1]) == (larger, smaller)


def test_densenets_are_sorted_by_count_and_not_by_number() -> None:
    assert named(found("torchvision:densenet169"))[0] == ["densenet201", "densenet161"]


def test_a_multiplier_of_the_width_has_no_published_weights() -> None:
    assert named(found("torchvision:mobilenet_v2")) == (
        ["mobilenet_v2(width_mult=1.4)"],
        ["mobilenet_v2(width_mult=0.75)", "mobilenet_v2(width_mult=0.5)"],
    )
    assert named(found("torchvision:mobilenet_v2", "default")) == ([], [])


def test_timms_names_are_read_without_the_tag_of_their_weights() -> None:
    pytest.importorskip("timm")
    assert named(found("timm:mobilenetv3_small_075.lamb_in1k")) == (
        ["mobilenetv3_small_100", "mobilenetv3_large_075"],
        ["mobilenetv3_small_050"],
    )
    without = found("timm:efficientnet_lite0", "default")
    assert named(without) == ([], [])
    assert "'timm:efficientnet_lite1'" in without.notes[0]


def test_a_network_without_weights_of_the_backbones_recipe_is_not_compared_with_it() -> None:
    smaller = found("torchvision:resnet50", "default")
    assert named(smaller) == (["resnet101", "resnet152"], [])
    assert "'IMAGENET1K_V2' are published for 'torchvision:resnet34'" in smaller.notes[0]
    listed = ["torchvision:resnet50", "torchvision:resnet101.IMAGENET1K_V2", "resnet8(width=99)"]
    mixed = found("torchvision:resnet18", "default", *listed)
    assert named(mixed) == (["resnet50.IMAGENET1K_V1"], [])
    assert "'torchvision:resnet101.IMAGENET1K_V2'" in mixed.notes[0]
    assert named(found("torchvision:resnet18", None, *listed[:1])) == (["resnet50"], [])


def test_timms_relatives_start_from_the_tag_of_the_backbones_weights() -> None:
    pytest.importorskip("timm")
    assert named(found("timm:mobilenetv3_small_100", "default"))[0] == []
    assert named(found("timm:mobilenetv3_small_100"))[0][0] == "mobilenetv3_large_100"
    assert named(found("timm:resnet18", "default"))[0] == ["resnet34", "resnet50"]
    tagged = named(found("timm:resnet18.tv_in1k", "default"))[0]
    assert tagged == ["resnet34.tv_in1k", "resnet50.tv_in1k"]
    assert timm_published("hf-hub:timm/resnet18.tv_in1k") == ["tv_in1k"]
    assert timm_published("hf-hub:someone/flowers") == []


@pytest.mark.parametrize("version", ["yolov5", "yolov8", "yolo11", "yolo12"])
def test_a_yolos_scales_n_s_and_m_are_relatives(version: str) -> None:
    pytest.importorskip("ultralytics", reason="ultralytics is not installed")
    larger, _ = named(found(f"ultralytics:{version}n.yaml"))
    assert larger[:2] == [f"{version}s.yaml", f"{version}m.yaml"]
    _, smaller = named(found(f"ultralytics:{version}m.yaml"))
    assert smaller == [f"{version}s.yaml", f"{version}n.yaml"]


def test_no_other_network_starts_from_a_file() -> None:
    assert "none is compared" in found("resnet8", "mine.pt").notes[0]
    assert named(found("resnet8", "mine.pt")) == ([], [])


def test_a_users_networks_are_those_that_are_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "zoo_of_sizes.py").write_text(
        "from torch import nn\n"
        "def net(wide=8, classes=10):\n"
        "    return nn.Sequential(nn.Conv2d(3, wide, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(),\n"
        "                         nn.Linear(wide, classes))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "zoo_of_sizes", raising=False)
    name = "zoo_of_sizes:net"
    assert named(found(name)) == ([], [])
    assert named(found(name, None, f"{name}(wide=6)", f"{name}(wide=99)", f"{name}(wide=9)")) == (
        ["net(wide=9)", "net(wide=99)"],
        ["net(wide=6)"],
    )
    (note,) = found(name, None, name, f"{name}(wide=9)").notes
    assert "as large as" in note
    assert note.endswith(f"'{name}'")
    with pytest.raises(BackboneError, match="unexpected keyword"):
        found(name, None, f"{name}(deep=2)")
