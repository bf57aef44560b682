"""Larger and smaller networks of a backbone's family."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torchvision

from nas_attn import backbones
from nas_attn.backbones.relatives import FAMILIES, Relatives, relatives
from nas_attn.recipe.reading import backbone_section

TORCHVISION = [
    pattern.replace("*", size)
    for pattern, sizes in FAMILIES["torchvision"].items()
    for size in sizes.split()
]


def found(name: str, weights: str | None = None) -> Relatives:
    return relatives(backbone_section(name), weights=weights)


def named(relatives: Relatives) -> tuple[list[str], list[str]]:
    larger, smaller = relatives.larger, relatives.smaller
    names = [[str(choice).rpartition(":")[2] for choice in side] for side in (larger, smaller)]
    return names[0], names[1]


def parameters(name: str) -> int:
    with torch.device("meta"):
        network = backbones.create(name)
    return sum(parameter.numel() for parameter in network.parameters())


def test_a_cifar_resnet_has_others_in_width_and_depth() -> None:
    larger, smaller = named(found("resnet14(width=8)"))
    assert larger == [
        *(f"resnet14(width={width})" for width in (9, 10, 11, 12, 16)),
        "resnet20(width=8)",
    ]
    assert smaller == [*(f"resnet14(width={width})" for width in (7, 6, 5, 4)), "resnet8(width=8)"]
    assert named(found("resnet8(width=1)"))[1] == []


@pytest.mark.parametrize(
    ("name", "larger", "smaller"),
    [
        ("torchvision:resnet34", ["resnet50", "resnet101", "resnet152"], ["resnet18"]),
        (
            "torchvision:resnet50.IMAGENET1K_V1",
            ["resnet101", "resnet152"],
            ["resnet34", "resnet18"],
        ),
        ("torchvision:mobilenet_v3_small", ["mobilenet_v3_large"], []),
        ("torchvision:deeplabv3_resnet50", ["deeplabv3_resnet101"], []),
        ("torchvision:squeezenet1_1", [], []),
        (
            "timm:tf_efficientnet_lite1.in1k",
            [f"tf_efficientnet_lite{number}" for number in (2, 3, 4)],
            ["tf_efficientnet_lite0"],
        ),
        ("smp:unet/resnet34", [f"unet/resnet{n}" for n in (50, 101, 152)], ["unet/resnet18"]),
        ("ultralytics:yolo11n.yaml", ["yolo11s.yaml", "yolo11m.yaml", "yolo11l.yaml"], []),
        ("my_models:build", [], []),
    ],
)
def test_relatives_are_the_nearest_of_the_family(
    name: str, larger: list[str], smaller: list[str]
) -> None:
    assert named(found(name, "default")) == (larger, smaller)


def test_a_pt_has_those_that_lie_beside_it(tmp_path: Path) -> None:
    for size in "nmx":
        (tmp_path / f"yolo11{size}.pt").touch()
    larger = found(f"ultralytics:{tmp_path}/yolo11n.pt", "default").larger
    assert [choice.type for choice in larger] == [
        f"ultralytics:{tmp_path}/yolo11{size}.pt" for size in "mx"
    ]


@pytest.mark.parametrize("name", ["resnet8", "torchvision:resnet18"])
def test_a_file_fits_no_relative(name: str) -> None:
    left = found(name, "mine.pt")
    assert named(left) == ([], [])
    assert "'mine.pt'" in left.notes[0]


@pytest.mark.parametrize("name", TORCHVISION)
def test_torchvision_has_the_families_with_weights(name: str) -> None:
    assert torchvision.models.get_model_weights(name).DEFAULT  # type: ignore[attr-defined]


def test_timm_has_the_families_with_weights() -> None:
    timm = pytest.importorskip("timm")
    for pattern, sizes in FAMILIES["timm"].items():
        for size in sizes.split():
            assert timm.get_pretrained_cfg(pattern.replace("*", size)).has_weights


# of more than 100 million parameters, some take long to build
@pytest.mark.parametrize("family", [one for one in FAMILIES["torchvision"] if "regnet" not in one])
def test_the_members_of_a_family_become_larger(family: str) -> None:
    sizes = FAMILIES["torchvision"][family].split()
    counted = [parameters(f"torchvision:{family.replace('*', size)}") for size in sizes]
    assert counted == sorted(counted)


def test_timms_lite_networks_become_larger() -> None:
    pytest.importorskip("timm")
    counted = [parameters(f"timm:tf_efficientnet_lite{number}") for number in range(5)]
    assert counted == sorted(counted)
