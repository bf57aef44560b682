"""Sites found by what flows: names, points, shapes, and that nothing changes."""

from __future__ import annotations

import copy
import threading
from collections.abc import Callable

import attachment_models as given
import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional
from torchvision.models._utils import IntermediateLayerGetter
from torchvision.models.feature_extraction import create_feature_extractor

import nas_attn as na
from nas_attn import attachment, backbones, errors
from nas_attn.recipe import recipe
from nas_attn.space.placement import Site, SiteNote

Shape = tuple[int, int, int]


def network(name: str, shape: Shape) -> nn.Module:
    return backbones.build(recipe.BackboneSection(name=name), input_shape=shape, classes=10)


def shapes_only(name: str, shape: Shape) -> nn.Module:
    """The same without numbers, which is quick to make; regnets need numbers."""
    with torch.device("cpu" if "regnet" in name else "meta"):
        return network(name, shape)


def shapes(sites: tuple[Site, ...]) -> list[Shape]:
    first = [site.points[0][1][0] for site in sites]
    return [(point.channels, point.height, point.width) for point in first]


def check(model: nn.Module, shape: Shape) -> tuple[Site, ...]:
    """What holds of any model's sites, against a real forward."""
    both = attachment.find_sites(model, shape, granularity="both")
    stages, blocks = (
        tuple(site for site in both if ("." in site.name) == dotted) for dotted in (False, True)
    )
    assert [site.name for site in stages] == [f"stage{k + 1}" for k in range(len(stages))]
    assert 0 < sum(site.macs_share for site in stages) <= 1 + 1e-9
    assert sum(site.macs_share for site in blocks) == pytest.approx(
        sum(site.macs_share for site in stages)
    )
    for position in ("residual", "block"):
        assert given.points_of(stages, position) == given.points_of(blocks, position)
    for site in (*stages, *blocks):
        assert site.points
        for _, points in site.points:
            assert points
            assert len({(p.channels, p.height, p.width) for p in points}) == 1
    for site in stages:
        if "stage" in site.positions:
            assert site.at("stage") == site.at("block")[-1:]
    _outputs_are_as_said(model, shape, stages)
    return stages


def _outputs_are_as_said(model: nn.Module, shape: Shape, sites: tuple[Site, ...]) -> None:
    points = {p.path: p for site in sites for _, found in site.points for p in found}
    twin = copy.deepcopy(model).eval()
    modules = dict(twin.named_modules())
    seen: dict[str, set[tuple[int, ...]]] = {path: set() for path in points}

    def look(path: str) -> None:
        modules[path].register_forward_hook(
            lambda module, args, output: seen[path].add(tuple(output.shape))
        )

    for path in points:
        look(path)
    with torch.no_grad():
        twin(torch.rand(2, *shape, device=next(twin.parameters()).device))
    assert seen == {path: {(2, p.channels, p.height, p.width)} for path, p in points.items()}


def test_cifar_resnets_have_three_stages() -> None:
    stages = check(network("resnet14", (3, 32, 32)), (3, 32, 32))
    assert shapes(stages) == [(16, 32, 32), (32, 16, 16), (64, 8, 8)]
    assert all(site.positions == ("residual", "block", "stage") for site in stages)
    assert stages[1].at("residual")[0].path == "layer2.0.bn2"
    assert stages[1].at("stage")[0].path == stages[1].at("block")[-1].path
    assert stages[1].at("stage")[0].path.startswith("layer2.")
    model = network("resnet14", (3, 32, 32))
    blocks = attachment.find_sites(model, (3, 32, 32), granularity="block")
    assert [site.name for site in blocks] == [
        f"stage{k}.block{j}" for k in (1, 2, 3) for j in (1, 2)
    ]
    assert [site.points[0][1][0].path for site in blocks][2:4] == [
        f"layer2.{j}.bn2" for j in (0, 1)
    ]


KNOWN: dict[str, list[tuple[int, int, int, int]]] = {
    # channels, side at 64x64, residual points, blocks
    "torchvision:resnet50": [(256, 16, 3, 3), (512, 8, 4, 4), (1024, 4, 6, 6), (2048, 2, 3, 3)],
    "torchvision:regnet_y_400mf": [(48, 16, 1, 1), (104, 8, 3, 3), (208, 4, 6, 6), (440, 2, 6, 6)],
    "torchvision:convnext_tiny": [(96, 16, 3, 3), (192, 8, 3, 3), (384, 4, 9, 9), (768, 2, 3, 3)],
    "torchvision:densenet121": [(256, 16, 0, 1), (512, 8, 0, 1), (1024, 4, 0, 1), (1024, 2, 0, 1)],
    "torchvision:shufflenet_v2_x0_5": [(48, 8, 0, 4), (96, 4, 0, 8), (192, 2, 0, 4)],
    "torchvision:vgg11_bn": [
        (64, 64, 0, 1),
        (128, 32, 0, 1),
        (256, 16, 0, 2),
        (512, 8, 0, 2),
        (512, 4, 0, 2),
    ],
    "timm:vgg11": [
        (64, 64, 0, 1),
        (128, 32, 0, 1),
        (256, 16, 0, 2),
        (512, 8, 0, 2),
        (512, 4, 0, 2),
    ],
    "torchvision:squeezenet1_1": [(128, 15, 0, 2), (256, 7, 0, 2), (384, 3, 0, 2), (512, 3, 0, 2)],
    "torchvision:mobilenet_v2": [
        (16, 32, 0, 1),
        (24, 16, 1, 2),
        (32, 8, 2, 3),
        (64, 4, 3, 4),
        (96, 4, 2, 3),
        (160, 2, 2, 3),
        (320, 2, 0, 1),
    ],
    "timm:resnet26d": [(256, 16, 2, 2), (512, 8, 2, 2), (1024, 4, 2, 2), (2048, 2, 2, 2)],
    "timm:ese_vovnet19b_dw": [(256, 16, 0, 1), (512, 8, 0, 1), (768, 4, 0, 1), (1024, 2, 0, 1)],
    "timm:poolformer_s12": [(64, 16, 4, 2), (128, 8, 4, 2), (320, 4, 12, 6), (512, 2, 4, 2)],
}


QUICK = (
    "mobilenet_v2",
    "shufflenet_v2_x0_5",
    "squeezenet1_1",
    "vgg11_bn",
    "resnet26d",
    "ese_vovnet19b_dw",
)


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(n, marks=() if n.partition(":")[2] in QUICK else pytest.mark.slow)
        for n in KNOWN
    ],
)
def test_stages_of_known_networks(name: str) -> None:
    if name.startswith("timm:"):
        pytest.importorskip("timm")
    stages = check(shapes_only(name, (3, 64, 64)), (3, 64, 64))
    found = [
        (c, side, len(given.points_of([site], "residual")), len(given.points_of([site], "block")))
        for site, (c, side, _) in zip(stages, shapes(stages), strict=True)
    ]
    assert found == KNOWN[name]
    assert ("convnext" in name) == any(
        p.path.endswith("stochastic_depth") for p in given.points_of(stages, "residual")
    )


def test_lists_of_maps() -> None:
    stages = check(given.UNetEncoder(), (3, 32, 32))
    assert shapes(stages) == [(8, 32, 32), (16, 16, 16), (32, 8, 8), (64, 4, 4)]
    assert [site.at("block")[0].path for site in stages] == [f"levels.{i}" for i in range(4)]


def test_dicts_of_maps_and_weights_that_a_hook_of_torchs_makes() -> None:
    resnet = torchvision.models.resnet18()
    nn.utils.spectral_norm(resnet.layer1[0].conv2)
    nn.utils.parametrizations.weight_norm(resnet.layer2[0].conv2)
    model = IntermediateLayerGetter(resnet, {"layer2": "fine", "layer4": "coarse"})
    assert shapes(check(model, (3, 64, 64))) == [
        (64, 16, 16),
        (128, 8, 8),
        (256, 4, 4),
        (512, 2, 2),
    ]


def test_a_block_that_runs_three_times_is_one_block() -> None:
    (site,) = check(given.Repeating(), (3, 32, 32))
    assert [[p.path for p in points] for _, points in site.points] == [
        ["block.b"],
        ["block"],
        ["block"],
    ]
    assert site.macs_share > 0.9


def test_adds_outside_of_any_block() -> None:
    stages = check(given.AddsItself(), (3, 32, 32))
    assert [site.positions for site in stages] == [("residual",), ("residual",)]
    found = " ".join(p.path for p in given.points_of(stages, "residual"))
    assert found == "wide.0.3 wide.1.3 wide.2.3 thin.0 thin.1"


def test_a_module_that_runs_its_children_is_no_point() -> None:
    (site,) = check(given.RunsItsChildren(), (3, 16, 16))
    assert [p.path for p in site.at("block")] == ["second", "third"]


def test_a_block_that_runs_its_children_in_a_method_takes_attention_inside_only() -> None:
    blocks = [given.RunsItsChildrenInAMethod(8) for _ in range(2)]
    (site,) = check(nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), *blocks), (3, 16, 16))
    assert site.positions == ("residual",)
    assert [p.path for p in site.at("residual")] == ["1.norm", "2.norm"]


def test_control_flow_by_numbers_falls_back_to_a_real_forward() -> None:
    model = given.LooksAtSizesAndNumbers()
    stages = check(model, (3, 64, 64))
    assert shapes(stages) == [(8, 32, 32), (8, 16, 16)]
    assert [len(site.at("block")) for site in stages] == [1, 3]


class Attending(nn.Module):
    """A vision transformer in small."""

    def __init__(self) -> None:
        super().__init__()
        self.patches = nn.Conv2d(3, 8, 8, 8)
        self.layers = nn.ModuleList(
            nn.TransformerEncoderLayer(8, 2, 16, batch_first=True) for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        tokens = self.patches(x).flatten(2).transpose(1, 2)
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.mean(1)  # type: ignore[no-any-return]


def test_vision_transformers_are_refused_with_what_was_found_but_for_custom_sites() -> None:
    with pytest.raises(
        errors.BackboneError, match=r"1 convolutions and \d+ matrix products"
    ) as caught:
        attachment.find_sites(Attending(), (3, 32, 32))
    assert "\n" not in str(caught.value)
    sites = attachment.find_sites(Attending(), (3, 32, 32), custom={"patches": ["patches"]})
    assert [site.name for site in sites] == ["patches"]


class TwoInputs(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)

    def forward(self, image: Tensor, mask: Tensor) -> Tensor:
        return self.conv(image) * mask  # type: ignore[no-any-return]


class TakesDict(TwoInputs):
    def forward(self, batch: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return self.conv(batch["image"])  # type: ignore[no-any-return]


class Strange(TwoInputs):
    def forward(self, image: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        raise RuntimeError("not today\n" * 20 + "x" * 2000)


def uncopied() -> nn.Module:
    model = nn.Conv2d(3, 8, 3)
    model.lock = threading.Lock()  # type: ignore[assignment]
    return model


@pytest.mark.parametrize(
    ("make", "shape", "words"),
    [
        (TwoInputs, (3, 32, 32), "wrap the model"),
        (TakesDict, (3, 32, 32), "wrap the model"),
        (
            lambda: nn.Conv2d(3, 8, 3),
            (1, 32, 32),
            "first convolution takes 3 channels, so give it such images",
        ),
        (lambda: nn.Sequential(nn.Conv2d(3, 8, 40), nn.ReLU()), (3, 32, 32), "change data.size"),
        (Strange, (3, 32, 32), "cannot process a 3x32x32 image"),
        (lambda: nn.Sequential(nn.LazyConv2d(8, 3)), (3, 16, 16), "run one batch through it first"),
        (uncopied, (3, 16, 16), "cannot be copied"),
    ],
)
def test_what_cannot_be_looked_into_is_one_sentence_with_the_way_out(
    capfd: pytest.CaptureFixture[str], make: Callable[[], nn.Module], shape: Shape, words: str
) -> None:
    with pytest.raises(errors.BackboneError, match=words) as caught:
        attachment.find_sites(make(), shape)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) <= 600
    assert capfd.readouterr() == ("", "")


def test_graphs_made_by_fx_have_their_branches_only() -> None:
    model = create_feature_extractor(
        torchvision.models.resnet18(), {"layer2": "fine", "layer4": "coarse"}
    )
    paths = [p.path for p in given.points_of(attachment.find_sites(model, (3, 64, 64)), "residual")]
    assert paths == [f"layer{k}.{j}.bn2" for k in (1, 2, 3, 4) for j in (0, 1)]
    na.attach(model, "*=se", input_shape=(3, 64, 64)).train()
    assert [one.takes_part for one in na.check(model, (3, 64, 64))] == [True] * 8


@pytest.mark.parametrize(
    "make",
    [lambda: network("resnet8", (3, 32, 32)), given.LooksAtSizesAndNumbers],
    ids=["shapes", "numbers"],
)
def test_the_model_the_hooks_and_the_generator_are_as_before(make: object) -> None:
    model: nn.Module = make().train()  # type: ignore[operator]
    seen: list[Tensor] = []
    model.register_forward_hook(lambda module, args, output: seen.append(output))
    model.register_forward_pre_hook(lambda module, args: seen.append(args[0]))
    next(model.parameters()).requires_grad_(False)
    next(model.children()).eval()
    before = {
        name: (value.clone(), value.requires_grad)
        for name, value in model.state_dict(keep_vars=True).items()
    }
    modes = [module.training for module in model.modules()]
    attributes = [set(vars(module)) for module in model.modules()]
    generator = torch.random.get_rng_state()
    attachment.find_sites(model, (3, 32, 32))
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert seen == []
    assert [module.training for module in model.modules()] == modes
    assert [set(vars(module)) for module in model.modules()] == attributes
    assert sum(len(module._forward_hooks) for module in model.modules()) == 1
    after = model.state_dict(keep_vars=True)
    assert list(after) == list(before)
    assert all(
        torch.equal(after[name], value) and after[name].requires_grad == grad
        for name, (value, grad) in before.items()
    )


@pytest.mark.parametrize("position", ["residual", "block"])
def test_attached_attention_is_looked_through(position: str) -> None:
    model = network("resnet8", (3, 32, 32))
    with torch.inference_mode():
        sites = attachment.find_sites(model, (3, 32, 32))
        attachment.attach(model, given.placed(given.points_of(sites, position)))
    assert attachment.find_sites(model, (3, 32, 32)) == sites
    assert attachment.attached_modules(model)
    assert not any(parameter.is_inference() for parameter in model.parameters()), (
        "they are trained later"
    )


def test_custom_sites_by_path_and_glob() -> None:
    model = network("resnet14", (3, 32, 32))
    sites = attachment.find_sites(
        model, (3, 32, 32), custom={"stem": ["bn1"], "inner": ["layer2.*.conv1"]}
    )
    assert [site.name for site in sites] == ["stage1", "stage2", "stage3", "stem", "inner"]
    assert [p.path for p in sites[4].at("block")] == ["layer2.0.conv1", "layer2.1.conv1"]
    assert shapes(sites[3:]) == [(16, 32, 32), (32, 16, 16)]


@pytest.mark.parametrize(
    ("name", "globs", "words"),
    [
        ("mine", ["layer9.*"], "no module that runs matches 'layer9"),
        ("mine", ["layer1", "layer2"], "different shapes"),
        ("mine", ["linear"], "returns no feature map"),
        ("stage1", ["conv1"], "'stage1' is already a site"),
    ],
)
def test_wrong_custom_sites_are_refused(name: str, globs: list[str], words: str) -> None:
    with pytest.raises(errors.BackboneError, match=words):
        attachment.find_sites(network("resnet8", (3, 32, 32)), (3, 32, 32), custom={name: globs})


def test_attention_of_the_backbones_own() -> None:
    model = network("torchvision:regnet_y_400mf", (3, 64, 64))
    own = [
        site
        for site in attachment.find_sites(model, (3, 64, 64), originals=True)
        if site.name.endswith("original")
    ]
    assert [len(site.at("block")) for site in own] == [1, 3, 6, 6]
    assert all(p.path.endswith(".f.se") and p.replaces for p in given.points_of(own, "block"))
    none = attachment.find_sites(
        shapes_only("torchvision:resnet18", (3, 64, 64)), (3, 64, 64), originals=True
    )
    assert len(none) == 4


TRANSFORMERS = ("vit_", "swin_")


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_all_torchvision_classification_models() -> None:
    refused = []
    for name in torchvision.models.list_models(module=torchvision.models):
        try:
            with torch.device("meta"):
                model = network(f"torchvision:{name}", (3, 224, 224))
        except errors.BackboneError:
            model = network(f"torchvision:{name}", (3, 224, 224))  # a factory that needs numbers
        try:
            sites = attachment.find_sites(model, (3, 224, 224))
        except errors.BackboneError:
            refused.append(name)
            continue
        assert len(sites) >= 3, name
        assert sum(site.macs_share for site in sites) > 0.5, name
    assert refused == [
        name
        for name in torchvision.models.list_models(module=torchvision.models)
        if name.startswith(TRANSFORMERS)
    ]


SHAPE = (3, 32, 32)


def test_blocks_alone_are_meant_by_a_star() -> None:
    model = na.attach(network("resnet14", SHAPE), "*=eca", input_shape=SHAPE, granularity="block")
    assert len(attachment.attached_modules(model)) == 6
    with pytest.raises(errors.PlacementError, match="'stage1'"):
        na.attach(na.detach(model), "stage1=eca", input_shape=SHAPE, granularity="block")


def test_one_module_at_several_places_is_said_to_be_no_site() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.shared, self.last = (nn.Conv2d(i, 8, 3, padding=1) for i in (3, 8, 8))
            self.classes = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.shared(functional.relu(self.last(functional.relu(self.shared(self.first(x))))))
            return self.classes(x.mean((2, 3)))

    found = attachment.survey(Twice(), SHAPE)
    assert "shared" not in {
        point.path for site in found.sites for _, points in site.points for point in points
    }
    assert SiteNote("several_places", ("shared",), places=2) in found.notes


def test_blocks_of_an_encoder_that_runs_twice_are_sites() -> None:
    class Siamese(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.encoder = nn.Sequential(
                *(nn.Sequential(nn.Conv2d(i, 8, 3), nn.ReLU()) for i in (3, 8, 8))
            )
            self.classes = nn.Linear(16, 5)

        def forward(self, x: Tensor) -> Tensor:
            return self.classes(
                torch.cat([self.encoder(v).mean((2, 3)) for v in (x, x.flip(-1))], 1)
            )

    (note,) = attachment.survey(Siamese(), SHAPE).notes
    assert note.kind == "repeated"
    assert all(path.startswith("encoder") for path in note.modules)
    attended = na.attach(Siamese(), "*=se(reduction=2)", input_shape=SHAPE)
    assert all(one.takes_part for one in na.check(attended, SHAPE))


class Level(nn.Module):
    """A level of a U-Net that holds the ones below, as MONAI builds them."""

    def __init__(self, channels: int, below: nn.Module) -> None:
        super().__init__()
        self.below = below
        self.up = nn.ConvTranspose2d(2 * channels, channels, 2, 2)
        self.merge = nn.Conv2d(2 * channels, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.merge(torch.cat([x, self.up(self.below(x))], 1))


def test_levels_that_hold_levels_are_looked_into() -> None:
    def down(i: int, o: int, stride: int = 2) -> nn.Sequential:
        layers = (nn.Conv2d(i, o, 3, stride, 1), nn.ReLU(), nn.Conv2d(o, o, 3, padding=1))
        return nn.Sequential(*layers, nn.ReLU())

    inner = nn.Sequential(down(8, 16), Level(16, down(16, 32)))
    model = nn.Sequential(down(3, 8, 1), Level(8, inner), nn.Conv2d(8, 2, 1))
    sites = na.find_sites(model, (3, 32, 32), granularity="stage")
    found = {site.name: site.at("block")[0].path for site in sites}
    assert found == {"stage1": "0.3", "stage2": "1.below.0.3", "stage3": "1.below.1.below.3"}


class PassesOn(nn.Module):
    """A block that returns its map with one that it was given, as SelecSLS does."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Conv2d(8, 8, 3, padding=1)
        self.second = nn.Conv2d(8, 8, 3, padding=1)
        self.join = nn.Sequential(nn.Conv2d(24, 8, 1), nn.ReLU())

    def forward(self, given: list[Tensor]) -> list[Tensor]:
        x, first = given
        a = self.first(x)
        return [self.join(torch.cat([a, self.second(a), first], 1)), first]


def test_blocks_that_pass_on_another_map_are_sites() -> None:
    class Passing(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem = nn.Conv2d(3, 8, 3, padding=1)
            self.blocks = nn.Sequential(PassesOn(), PassesOn())
            self.head = nn.Linear(8, 5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            return self.head(self.blocks([x, x])[0].mean((2, 3)))

    (site,) = na.find_sites(Passing(), SHAPE, granularity="stage")
    assert [point.path for point in site.at("block")] == ["blocks.0.join.1", "blocks.1.join.1"]
