"""Backbone, neck and head, in detectors and segmenters: what leads to outputs only is no site
unless asked for.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional

import nas_attn as na
from nas_attn.attachment import attached_modules, find_sites, survey
from nas_attn.space.placement import Site

SHAPE = (3, 64, 64)


def named(sites: tuple[Site, ...]) -> dict[str, tuple[str, str]]:
    """Site -> role, and the last module of its last position; no two sites share a place."""
    layers = [
        (point.path, position)
        for site in sites
        for position, points in site.points
        for point in points
    ]
    assert len(layers) == len(set(layers))
    return {site.name: (site.role, site.points[-1][1][-1].path) for site in sites}


def unit(i: int, o: int, stride: int = 1) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(i, o, 3, stride, padding=1, bias=False), nn.BatchNorm2d(o), nn.ReLU()
    )


class Residual(nn.Module):
    def __init__(self, i: int, o: int) -> None:
        super().__init__()
        self.first, self.second, self.down = unit(i, o, 2), unit(o, o), nn.Conv2d(i, o, 1, 2)

    def forward(self, x: Tensor) -> Tensor:
        return functional.relu(self.second(self.first(x)) + self.down(x))


class Pyramid(nn.Module):
    """A detector all in one forward: a body, a feature pyramid, a tower for all its levels, boxes
    and classes by level.
    """

    def __init__(self, tower: nn.Module | None = None) -> None:
        super().__init__()
        self.body = nn.ModuleList(Residual(i, o) for i, o in ((3, 8), (8, 16), (16, 32), (32, 64)))
        self.lateral = nn.ModuleList(nn.Conv2d(c, 16, 1) for c in (16, 32, 64))
        self.smooth = nn.ModuleList(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3))
        self.tower = tower or nn.Identity()
        self.boxes = nn.ModuleList(
            nn.Sequential(unit(16, 16), nn.Conv2d(16, 4, 1)) for _ in range(3)
        )
        self.classes = nn.ModuleList(
            nn.Sequential(unit(16, 16), unit(16, 16), nn.Conv2d(16, 5, 1)) for _ in range(3)
        )

    def forward(self, x: Tensor) -> list[tuple[Tensor, Tensor]]:
        maps = []
        for block in self.body:
            x = block(x)
            maps.append(x)
        levels = [lateral(m) for lateral, m in zip(self.lateral, maps[1:], strict=True)]
        for k in (1, 0):
            levels[k] = levels[k] + functional.interpolate(levels[k + 1], scale_factor=2.0)
        levels = [self.tower(smooth(m)) for smooth, m in zip(self.smooth, levels, strict=True)]
        return [(b(m), c(m)) for b, c, m in zip(self.boxes, self.classes, levels, strict=True)]


@pytest.mark.parametrize("tower", [None, nn.Sequential(unit(16, 16), unit(16, 16))])
def test_a_pyramid_written_by_hand(tower: nn.Module | None) -> None:
    model = Pyramid(tower).eval()
    found = survey(model, SHAPE)
    several_shapes = [note.modules for note in found.notes if note.kind == "several_shapes"]
    assert (("tower",) in several_shapes) == bool(tower)
    assert named(tuple(site for site in found.sites if "." not in site.name)) == {
        "stage1": ("backbone", "body.0"),
        "stage2": ("backbone", "body.1"),
        "stage3": ("backbone", "body.2"),
        "stage4": ("backbone", "body.3"),
        "neck1": ("neck", "smooth.0"),
        "neck2": ("neck", "smooth.1"),
        "neck3": ("neck", "smooth.2"),
    }
    heads = [site for site in find_sites(model, SHAPE, heads=True) if site.role == "head"]
    assert {site.name.rstrip("0123456789") for site in heads} == {"head"}
    paths = [point.path for site in heads for _, points in site.points for point in points]
    assert paths
    assert all(path.startswith(("boxes.", "classes.")) for path in paths)


class Ends(nn.Module):
    """A head of its own: two convolutions to boxes and two to classes from each map."""

    def __init__(self, channels: tuple[int, ...]) -> None:
        super().__init__()
        self.boxes = nn.ModuleList(nn.Sequential(unit(c, 8), nn.Conv2d(8, 4, 1)) for c in channels)
        self.classes = nn.ModuleList(
            nn.Sequential(unit(c, 8), nn.Conv2d(8, 5, 1)) for c in channels
        )

    def forward(self, maps: list[Tensor]) -> list[Tensor]:
        return [
            torch.cat((b(m), c(m)), 1)
            for b, c, m in zip(self.boxes, self.classes, maps, strict=True)
        ]


class Chain(nn.Module):
    """Layer after layer, as YOLOv3-tiny is; the only blocks are in its head."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(unit(i, o, 2) for i, o in ((3, 8), (8, 16), (16, 32)))
        self.join = unit(48, 24)
        self.head = Ends((24, 32))

    def forward(self, x: Tensor) -> list[Tensor]:
        for layer in self.layers[:2]:
            x = layer(x)
        small = self.layers[2](x)
        joined = self.join(torch.cat((functional.interpolate(small, scale_factor=2.0), x), 1))
        return self.head([joined, small])


def test_layers_before_a_head_of_blocks_are_sites() -> None:
    model = Chain().eval()
    found = named(find_sites(model, SHAPE))
    assert [role for role, _ in found.values()] == ["backbone"] * 3 + ["neck"]
    assert [path.rpartition(".")[0] for _, path in found.values()] == [
        "layers.0",
        "layers.1",
        "layers.2",
        "join",
    ]
    na.attach(model, "stage*=se(reduction=4) neck1=eca", input_shape=SHAPE)
    assert all(one.takes_part for one in na.check(model, SHAPE))


class UNet(nn.Module):
    """Encoder, decoder, one map of classes."""

    def __init__(self) -> None:
        super().__init__()
        self.down = nn.ModuleList(
            nn.Sequential(unit(i, o), unit(o, o)) for i, o in ((3, 8), (8, 16), (16, 32))
        )
        self.up = nn.ModuleList(nn.ConvTranspose2d(i, o, 2, 2) for i, o in ((32, 16), (16, 8)))
        self.decode = nn.ModuleList(nn.Sequential(unit(2 * c, c), unit(c, c)) for c in (16, 8))
        self.classes = nn.Conv2d(8, 3, 1)

    def forward(self, x: Tensor) -> Tensor:
        kept = []
        for i, block in enumerate(self.down):
            x = block(functional.max_pool2d(x, 2) if i else x)
            kept.append(x)
        for up, block, skip in zip(self.up, self.decode, kept[-2::-1], strict=True):
            x = block(torch.cat((up(x), skip), 1))
        return self.classes(x)


def test_a_decoder_is_the_neck_and_its_classes_are_no_site() -> None:
    found = named(find_sites(UNet(), SHAPE))
    assert [role for role, _ in found.values()] == ["backbone"] * 3 + ["neck"] * 2
    assert list(found) == ["stage1", "stage2", "stage3", "neck1", "neck2"]
    assert [path.split(".")[0] for _, path in found.values()] == ["down"] * 3 + ["decode"] * 2
    model = UNet().eval()
    x = torch.rand(1, *SHAPE)
    want = model(x)
    na.attach(model, "neck*=se(reduction=4) stage3=cbam(reduction=4)", input_shape=SHAPE)
    assert torch.allclose(model(x), want, atol=1e-6)
    assert len(attached_modules(model)) == 3
    assert all(one.takes_part for one in na.check(model, SHAPE))


class JoinsBlocks(nn.Module):
    """A CSP stage: splits, runs blocks on a half, joins all."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        half = channels // 2
        self.into = unit(channels, channels)
        self.blocks = nn.ModuleList(Same(half) for _ in range(2))
        self.out = unit(channels + 2 * half, channels)

    def forward(self, x: Tensor) -> Tensor:
        parts = list(self.into(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(block(parts[-1]))
        return self.out(torch.cat(parts, 1))


class Same(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first, self.second = unit(channels, channels), unit(channels, channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.second(self.first(x))


def test_a_stage_that_joins_its_blocks_has_its_output_as_a_place() -> None:
    model = nn.Sequential(
        unit(3, 8, 2),
        JoinsBlocks(8),
        unit(8, 16, 2),
        JoinsBlocks(16),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )
    stages = find_sites(model.eval(), SHAPE)
    assert [(site.name, site.role) for site in stages] == [
        ("stage1", "backbone"),
        ("stage2", "backbone"),
    ]
    one, two = stages
    assert [p.path for p in one.at("block")] == ["1.blocks.0", "1.blocks.1"]
    assert [(p.path, p.channels) for p in one.at("stage") + two.at("stage")] == [
        ("1", 8),
        ("3", 16),
    ]
    assert [p.channels for p in two.at("residual")] == [8, 8]
    x = torch.rand(2, *SHAPE)
    want = model(x)
    na.attach(model, "stage1@stage=se(reduction=4) stage2@stage=eca", input_shape=SHAPE)
    assert list(attached_modules(model)) == ["1.nas_attn.0", "3.nas_attn.0"]
    assert torch.allclose(model(x), want, atol=1e-6)


def test_granularity_and_sites_of_ones_own_in_python() -> None:
    model = Pyramid().eval()
    assert all("." not in site.name for site in na.find_sites(model, SHAPE, granularity="stage"))
    assert all("." in site.name for site in na.find_sites(model, SHAPE, granularity="block"))
    own = {"laterals": ["lateral.0"]}
    assert na.find_sites(model, SHAPE, custom=own)[7].name == "laterals"
    na.attach(model, "laterals=eca neck1=se(reduction=4)", input_shape=SHAPE, custom=own)
    assert list(attached_modules(model)) == ["lateral.0.nas_attn.0", "smooth.0.nas_attn.0"]
    na.attach(na.detach(model), "head1=eca", input_shape=SHAPE, heads=True, granularity="stage")
    assert len(attached_modules(model)) == 1


@pytest.mark.slow
def test_ssdlite_takes_maps_of_its_backbone() -> None:
    model = torchvision.models.detection.ssdlite320_mobilenet_v3_large(
        weights=None, weights_backbone=None
    )
    sites = find_sites(model, (3, 320, 320))
    assert {site.role for site in sites} == {"backbone"}
    assert {"backbone.features.0.13.2", "backbone.extra.3.2.2"} <= {
        path for _, path in named(sites).values()
    }


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["fcn_resnet50", "deeplabv3_resnet50", "lraspp_mobilenet_v3_large"]
)
def test_classes_of_torchvisions_segmenters_are_no_site(name: str) -> None:
    with torch.device("meta"):
        model = getattr(torchvision.models.segmentation, name)(
            weights=None, weights_backbone=None, num_classes=21
        )
    points = [p for site in find_sites(model, SHAPE) for _, found in site.points for p in found]
    assert points
    assert all(p.channels != 21 for p in points)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "neck"),
    [
        (
            "maskrcnn_resnet50_fpn",
            ["layer_blocks.0.0", "layer_blocks.1.0", "layer_blocks.2.0", "layer_blocks.3.0"],
        ),
        (
            "fasterrcnn_mobilenet_v3_large_320_fpn",
            ["layer_blocks.0.0"],
        ),  # all of its levels are of one size
        (
            "retinanet_resnet50_fpn",
            [
                "layer_blocks.0.0",
                "layer_blocks.1.0",
                "layer_blocks.2.0",
                "extra_blocks.p6",
                "extra_blocks.p7",
            ],
        ),
    ],
)
def test_torchvisions_pyramid_is_the_neck(name: str, neck: list[str]) -> None:
    sides: dict[str, Any] = {"min_size": 128, "max_size": 128}
    model = getattr(torchvision.models.detection, name)(
        weights=None, weights_backbone=None, **sides
    )
    found = named(find_sites(model, (3, 128, 128)))
    assert {path for role, path in found.values() if role == "neck"} == {
        f"backbone.fpn.{path}" for path in neck
    }
    assert not any(path.startswith("head.") for _, path in found.values())


@pytest.mark.extras("segmentation_models_pytorch")
def test_decoders_and_attention_of_segmentation_models() -> None:
    import segmentation_models_pytorch as smp

    for make in (smp.Unet, smp.MAnet):
        found = named(find_sites(make("resnet18", encoder_weights=None), SHAPE))
        assert [path for role, path in found.values() if role == "neck"] == [
            f"decoder.blocks.{i}" for i in range(5)
        ]
        assert [role for role, _ in found.values()] == ["backbone"] * 4 + ["neck"] * 5
    model = smp.Unet("resnet18", encoder_weights=None, decoder_attention_type="scse").eval()
    own = [site for site in find_sites(model, SHAPE, originals=True) if site.original]
    paths = {f"decoder.blocks.{i}.attention{k}" for i in range(5) for k in (1, 2)} - {
        "decoder.blocks.4.attention1"
    }
    assert {p.path for site in own for p in site.at("block")} == paths
    x = torch.rand(1, *SHAPE)
    with torch.no_grad():
        want = model(x)
        na.attach(model, "neck1.original2=none", input_shape=SHAPE)
        assert not torch.equal(model(x), want)
        assert torch.equal(na.detach(model)(x), want)


LARGER = ("convnext_zepto_rms", "convnextv2_atto", "focalnet_tiny_srf")


@pytest.mark.parametrize(
    "name", ["convnext_atto", *(pytest.param(n, marks=pytest.mark.slow) for n in LARGER)]
)
def test_encoders_with_layer_norm_have_stages(name: str) -> None:
    """ConvNeXt's convolutions go into a layer norm in another layout: they predict nothing."""
    timm = pytest.importorskip("timm", reason="timm is not installed")
    found = named(find_sites(timm.create_model(name, pretrained=False, features_only=True), SHAPE))
    assert [role for role, _ in found.values()] == ["backbone"] * 4
    assert list(found) == [f"stage{k}" for k in range(1, 5)]


class Boxes(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.boxes = nn.ModuleList(nn.Conv2d(16, 4, 1) for _ in range(2))

    def forward(self, levels: list[Tensor]) -> list[Tensor]:
        return [boxes(m) for boxes, m in zip(self.boxes, levels, strict=True)]


class UpAndDown(nn.Module):
    """A pyramid on whose levels the maps come by twice, all of its layers in one list; levels have
    a say in others' gates.
    """

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            Residual(i, o) for i, o in ((3, 16), (16, 16), (16, 16), (16, 16))
        )
        self.layers.extend(nn.Sequential(unit(16, 16), unit(16, 16)) for _ in range(3))
        self.ask = Boxes()
        self.head = Boxes()

    def forward(self, x: Tensor) -> list[Tensor]:
        maps = []
        for layer in self.layers[:4]:
            x = layer(x)
            maps.append(x)
        up = self.layers[4](functional.interpolate(x, scale_factor=2.0) + maps[2])
        top = self.layers[5](functional.interpolate(up, scale_factor=2.0) + maps[1])
        asked = [
            functional.adaptive_max_pool2d(m, 2).flatten(1).mean(1) for m in self.ask([up, top])
        ]
        down = self.layers[6](
            (functional.max_pool2d(top, 2) + up) * (asked[0] + asked[1]).view(-1, 1, 1, 1)
        )
        return self.head([top, down])


def test_the_way_up_and_the_way_down_of_a_pyramid_have_names_of_their_own() -> None:
    necks = {
        name: path
        for name, (role, path) in named(find_sites(UpAndDown(), (3, 128, 128))).items()
        if role == "neck"
    }
    assert [path.split(".")[1] for path in necks.values()] == ["4", "5", "6"]
