"""Attention put in and taken out: weights, names, and everything torch does to a model."""

from __future__ import annotations

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from attachment_models import (
    SE,
    Repeating,
    RunsItsChildren,
    RunsItsChildrenInAFunction,
    UNetEncoder,
    placed,
    points_of,
    shaken,
)
from torch import Tensor, nn
from torch.fx.experimental.optimization import fuse
from torch.nn import functional
from torch.utils.flop_counter import FlopCounterMode

import nas_attn as na
from nas_attn.attachment import attach, attached_modules, cost, detach, find_sites, fold_batchnorm
from nas_attn.attachment.hosting import make_host
from nas_attn.attention.choice import Choice
from nas_attn.backbones import build, load_weights
from nas_attn.errors import BackboneError, KnobError
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.space.placement import BARE, Point, ResolvedPlacement

SHAPE = (3, 16, 16)
TRAINED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "resnet20_cifar10.npz"
CIFAR = TRAINED.parent / "cifar10" / "unpack.py"


def small(name: str = "resnet8") -> nn.Module:
    """A little network whose norms have something to say."""
    torch.manual_seed(0)
    model = build(BackboneSection(name=name, width=8), input_shape=SHAPE, classes=5)
    model(torch.randn(32, *SHAPE))
    return model.eval()


def images(count: int = 2) -> Tensor:
    return torch.rand(count, *SHAPE, generator=torch.Generator().manual_seed(1))


def everywhere(
    model: nn.Module, position: str = "residual", *choices: Choice, init: str = "identity"
) -> ResolvedPlacement:
    return placed(points_of(find_sites(model, SHAPE), position), *choices, init=init)


@pytest.mark.parametrize("position", ["residual", "block", "stage"])
def test_identity_start_changes_no_bit_and_no_name(position: str) -> None:
    model = small()
    before, state = model(images()), copy.deepcopy(model.state_dict())
    attached = attach(model, everywhere(model, position))
    assert attached is model
    assert torch.equal(attached(images()), before)
    now = attached.state_dict()
    assert all(torch.equal(now[name], value) for name, value in state.items())
    new = set(now) - set(state)
    assert new
    assert all(any(name.startswith(f"{path}.") for path in attached_modules(model)) for name in new)
    result = attached.load_state_dict(state, strict=False)
    assert set(result.missing_keys) == new
    assert result.unexpected_keys == []


def test_attention_acts_at_its_point_each_time_in_order_and_users_hooks_see_it() -> None:
    model = Repeating().eval()  # runs its block three times
    (point,) = points_of(find_sites(model, SHAPE), "residual")
    seen: list[Tensor] = []
    model.get_submodule(point.path).register_forward_hook(
        lambda module, args, output: seen.append(output)
    )
    model(images())
    attach(model, placed([point], SE, Choice("eca"), init="paper"))
    assert list(attached_modules(model)) == [f"{point.path}.nas_attn.0", f"{point.path}.nas_attn.1"]
    first, second = attached_modules(model).values()
    model(images())
    assert len(seen) == 6
    assert torch.equal(seen[3], second(first(seen[0])))
    assert not torch.equal(seen[3], seen[0])
    detach(model)(images())
    assert torch.equal(seen[6], seen[0])


def test_detach_gives_the_bare_model_back() -> None:
    model = small()
    before = [(path, type(module), dict(vars(module))) for path, module in model.named_modules()]
    output = model(images())
    shaken(attach(model, everywhere(model, "block", init="paper")))
    assert not torch.equal(model(images()), output)
    assert detach(model) is model
    after = [(path, type(module), dict(vars(module))) for path, module in model.named_modules()]
    assert [(path, cls) for path, cls, _ in after] == [(path, cls) for path, cls, _ in before]
    assert all(set(a[2]) == set(b[2]) for a, b in zip(after, before, strict=True))
    assert torch.equal(model(images()), output)
    assert attached_modules(detach(model)) == {}


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.skipif(
    not (TRAINED.is_file() and CIFAR.is_file()), reason=f"{TRAINED} or {CIFAR} is not there"
)
def test_the_known_test_accuracy_stays(tmp_path: Path) -> None:
    subprocess.run([sys.executable, str(CIFAR), str(tmp_path)], check=True, capture_output=True)
    test = torchvision.datasets.CIFAR10(tmp_path, train=False)
    x = torch.from_numpy(test.data).permute(0, 3, 1, 2) / 255
    x = (x - torch.tensor([0.485, 0.456, 0.406]).view(3, 1, 1)) / torch.tensor(
        [0.229, 0.224, 0.225]
    ).view(3, 1, 1)
    labels = torch.tensor(test.targets)
    section = BackboneSection(name="resnet20")
    model = build(section, input_shape=(3, 32, 32), classes=10).eval()
    load_weights(model, str(TRAINED))

    def accuracy(classify: Callable[[Tensor], Tensor]) -> float:
        with torch.no_grad():
            return float(
                (torch.cat([classify(part).argmax(1) for part in x.split(500)]) == labels)
                .double()
                .mean()
            )

    known = accuracy(model)
    assert known == pytest.approx(0.9173, abs=5e-5)  # what its authors published
    attach(model, placed(points_of(find_sites(model, (3, 32, 32)), "residual")))
    assert accuracy(model) == known
    some = x[:1000]
    with torch.no_grad():
        logits = model(some)
        assert torch.equal(torch.export.export(model, (some,)).module()(some), logits)
        assert torch.allclose(fold_batchnorm(model, (3, 32, 32))(some), logits, atol=1e-3)
        assert torch.equal(detach(model)(some), logits)


def test_refusals_leave_the_model_as_it_was() -> None:
    model = small()
    names = list(model.state_dict())
    good = points_of(find_sites(model, SHAPE), "residual")
    for resolved, error, words in [
        (placed([*good, Point("layer9.0", 8, 4, 4)]), BackboneError, "no module 'layer9.0'"),
        (placed(good, Choice("no_such_module")), KnobError, "no_such_module"),
    ]:
        with pytest.raises(error, match=words):
            attach(model, resolved)
        assert list(model.state_dict()) == names
    attach(model, placed(good))
    with pytest.raises(BackboneError, match=r"detach\(model\)"):
        attach(model, placed(good))


def test_hosts_that_cannot_carry_attention() -> None:
    with pytest.raises(BackboneError, match=r"Sequential|children"):
        attach(RunsItsChildren(), placed([Point("", 8, 16, 16)]))
    with pytest.warns((FutureWarning, DeprecationWarning)):
        scripted = nn.Sequential(torch.jit.trace(nn.Conv2d(3, 8, 1), images()))
    with pytest.raises(BackboneError, match="TorchScript"):
        attach(scripted, placed([Point("0", 8, 16, 16)]))


def test_a_deepcopy_shares_nothing() -> None:
    model = attach(small(), everywhere(small()))
    before = model(images())
    twin = shaken(copy.deepcopy(model))
    assert torch.equal(model(images()), before)
    assert not torch.equal(twin(images()), before)
    assert list(attached_modules(twin)) == list(attached_modules(model))
    assert detach(twin).state_dict().keys() == detach(model).state_dict().keys()


def test_folding_keeps_attention_and_leaves_no_norm() -> None:
    model = shaken(attach(small(), everywhere(small())))
    assert torch.allclose(fuse(model)(images()), model(images()), atol=1e-4), (
        "by torch.fx, which leaves some norms"
    )
    state = copy.deepcopy(model.state_dict())
    folded = fold_batchnorm(model, SHAPE)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())
    assert list(attached_modules(folded)) == list(attached_modules(model))
    assert torch.allclose(folded(images()), model(images()), atol=1e-4)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
    assert attached_modules(detach(folded)) == {}


def test_folding_takes_frozen_norms_and_keeps_attention_behind_them() -> None:
    model = small()
    frozen = torchvision.ops.FrozenBatchNorm2d
    for path, norm in list(model.named_modules()):
        if isinstance(norm, nn.BatchNorm2d):
            fixed = frozen(norm.num_features)
            fixed.load_state_dict(norm.state_dict())
            model.set_submodule(path, fixed)
    hosts = [Point(path, 8, 16, 16) for path in ("layer1.0.bn1", "layer1.0.bn2")]
    shaken(attach(model, placed(hosts, init="paper")))
    folded = fold_batchnorm(model, SHAPE)
    assert not any(isinstance(module, frozen) for module in folded.modules())
    assert list(attached_modules(folded)) == list(attached_modules(model))
    assert torch.allclose(folded(images()), model(images()), atol=1e-4)


class NormsFirst(nn.Module):
    """A branch that begins with its norm, as in pre-activation ResNets."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv1 = nn.Conv2d(8, 8, 3, padding=1)
        self.bn2 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        y = self.conv1(self.bn1(x).relu())
        branch: Tensor = self.conv2(self.bn2(y).relu())
        return x + branch


def test_folding_leaves_what_it_must_not_touch() -> None:
    folded = fold_batchnorm(NormsFirst().eval(), SHAPE)
    norms = [name for name, module in folded.named_modules() if isinstance(module, nn.BatchNorm2d)]
    assert norms == ["bn1"]
    after_convolution = attach(small(), placed([Point("layer1.0.conv1", 8, 16, 16)], init="paper"))
    folded = fold_batchnorm(after_convolution, SHAPE)
    assert isinstance(folded.get_submodule("layer1.0.bn1"), nn.BatchNorm2d)
    assert torch.allclose(folded(images()), after_convolution(images()), atol=1e-4)
    hooked = small()
    hooked.get_submodule("bn1").register_forward_hook(lambda module, args, output: output + 1)
    assert torch.allclose(fold_batchnorm(hooked, SHAPE)(images()), hooked(images()), atol=1e-4)


class ReturnsAMapBeforeItsNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, padding=1)
        self.norm = nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = self.conv(x)
        return self.norm(y).relu(), y


def test_folding_leaves_a_map_that_the_network_returns() -> None:
    model = ReturnsAMapBeforeItsNorm().eval()
    nn.init.constant_(model.norm.weight, 2)
    x = torch.randn(1, 3, 8, 8)
    folded = fold_batchnorm(model, (3, 8, 8))
    for expected, y in zip(model(x), folded(x), strict=True):
        assert torch.allclose(expected, y, atol=1e-5)


@pytest.mark.parametrize("init", ["identity", "paper"])
def test_attention_that_would_run_twice_is_refused(init: Any) -> None:
    """A block that runs all its children runs attention, too, and once more behind itself: as the
    identity, this changes no output.
    """
    shape = (3, 8, 8)
    blocks = [RunsItsChildrenInAFunction(8) for _ in range(2)]
    model = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1), nn.Sequential(*blocks)).eval()
    x = torch.randn(1, *shape)
    before = model(x)
    with pytest.raises(BackboneError, match=r"more often.*as before"):
        na.attach(model, "stage1@block=conv", input_shape=shape, init=init)
    assert not attached_modules(model)
    assert torch.equal(model(x), before)
    make_host(blocks[0], nn.Sequential(nn.Conv2d(8, 8, 1)))
    with pytest.raises(BackboneError, match="more often"):
        na.check(model, shape)


def test_export_trace_compile_and_memory_format() -> None:
    model = shaken(attach(small(), everywhere(small(), "block")))
    want = model(images())
    assert torch.equal(torch.export.export(model, (images(),)).module()(images()), want)
    assert torch.equal(torch.fx.symbolic_trace(model)(images()), want)
    compiled = torch.compile(model, backend="aot_eager", fullgraph=True)
    assert torch.allclose(compiled(images()), want, atol=1e-5)
    model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    assert torch.allclose(model(images().to(memory_format=torch.channels_last)), want, atol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_new_modules_have_their_hosts_type(dtype: torch.dtype) -> None:
    model = small().to(dtype)
    attach(model, everywhere(small(), "block"))  # the block's activation has no tensors of its own
    assert {p.dtype for p in model.parameters()} == {dtype}
    assert model(images().to(dtype)).dtype == dtype
    assert {p.dtype for p in model.half().parameters()} == {torch.float16}


def test_modes_and_frozen_parameters_stay() -> None:
    model = small().train()
    model.get_submodule("layer1").eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    attach(model, everywhere(small()))
    modes = {path: m.training for path, m in attached_modules(model).items()}
    assert all(mode == (not path.startswith("layer1")) for path, mode in modes.items())
    assert {name for name, p in model.named_parameters() if p.requires_grad} == {
        name for name, _ in model.named_parameters() if "nas_attn" in name
    }
    assert not any(m.training for m in attached_modules(model.eval()).values())


def test_containers_still_run_only_their_own_children() -> None:
    layers = nn.Sequential(nn.Conv2d(3, 8, 1), nn.ReLU(), nn.BatchNorm2d(8)).eval()
    before = layers(images())
    attach(layers, placed([Point("", 8, 16, 16)]))
    assert torch.equal(layers(images()), before)
    assert len(layers) == 3
    assert [type(m) for m in layers] == [nn.Conv2d, nn.ReLU, nn.BatchNorm2d]
    assert isinstance(layers[-1], nn.BatchNorm2d)
    assert len(layers[:2]) == 2
    dense = torchvision.models.densenet._DenseBlock(2, 8, 4, 4, 0.0).eval()
    x = torch.rand(1, 8, 6, 6)
    before = dense(x)
    attach(dense, placed([Point("", 16, 6, 6)]))
    assert torch.equal(dense(x), before)
    assert list(dense) == list(dense.keys()) == ["denselayer1", "denselayer2"]
    assert len(dense.items()) == len(dense.values()) == len(dense) == 2
    assert "nas_attn" not in dense


def test_own_attention_replaced_and_removed() -> None:
    model = torchvision.models.mobilenet_v3_small().eval()
    x = torch.rand(1, 3, 64, 64)
    before, full, names = model(x), cost(model, (3, 64, 64)), list(model.state_dict())
    own = [
        p for p in points_of(find_sites(model, (3, 64, 64), originals=True), "block") if p.replaces
    ]
    assert len(own) == 9
    attach(model, ResolvedPlacement(tuple((p, ()) for p in own), BARE, "paper", ""))
    squeezed = sum(p.numel() for point in own for p in model.get_submodule(point.path).parameters())
    found = cost(model, (3, 64, 64))
    assert found["params"] == full["params"] - squeezed
    assert found["macs"] < full["macs"]
    assert list(model.state_dict()) == names
    assert not torch.equal(model(x), before)
    twin = copy.deepcopy(model)
    model(x).sum().backward()
    assert all(p.grad is not None for p in model.parameters() if p.requires_grad)
    for bare in (detach(model), detach(twin)):
        assert torch.equal(bare(x), before)
        assert all(p.requires_grad for p in bare.parameters())
    attach(model, placed(own, Choice("eca"), init="paper"))
    assert len(attached_modules(model)) == 9


def test_networks_that_return_lists_are_checked_in_inference_mode_too() -> None:
    model = na.attach(UNetEncoder(), "stage*=se(reduction=2)", input_shape=(3, 32, 32))
    with torch.inference_mode():
        found = na.check(model, (3, 32, 32))
    assert found
    assert all(one.takes_part for one in found)


def counted_by_torch(model: nn.Module, shape: tuple[int, int, int]) -> int:
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        copy.deepcopy(model).eval()(torch.rand(1, *shape))
    flops: int = counter.get_total_flops()
    return flops // 2


def test_a_convolution_and_a_linear_layer_by_hand() -> None:
    model = nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.ReLU(), nn.Flatten(), nn.Linear(8 * 30, 7)
    )
    found = cost(model, (3, 5, 6))
    assert found["params"] == 8 * 27 + 240 * 7 + 7
    assert found["macs"] == 8 * 27 * 30 + 240 * 7
    assert found["memory"] == 4 * (240 + 240 + 7)


def test_macs_are_those_of_torchvisions_table() -> None:
    with torch.device("meta"):
        model = build(
            BackboneSection(name="torchvision:vit_b_32"), input_shape=(3, 224, 224), classes=10
        )
    assert cost(model, (3, 224, 224))["macs"] == pytest.approx(4.41e9, rel=0.01)


def test_attention_is_counted() -> None:
    model = build(BackboneSection(name="resnet8"), input_shape=(3, 16, 16), classes=10)
    bare = cost(model, (3, 16, 16))
    assert bare["macs"] == counted_by_torch(model, (3, 16, 16))
    attach(model, placed(points_of(find_sites(model, (3, 16, 16)), "residual"), SE, Choice("ela")))
    found = cost(model, (3, 16, 16))
    assert found["params"] == sum(p.numel() for p in model.parameters()) > bare["params"]
    assert found["macs"] == counted_by_torch(model, (3, 16, 16)) > bare["macs"]
    assert found["memory"] > bare["memory"]


def test_shared_modules_count_once_in_parameters_and_each_time_in_macs() -> None:
    model = Repeating()
    assert cost(model, (3, 8, 8))["params"] == sum(p.numel() for p in model.parameters())
    assert cost(model, (3, 8, 8))["macs"] == 64 * (3 * 16 * 9 + 3 * 2 * 16 * 16 * 9) + 16 * 5


def test_attention_products_are_counted() -> None:
    class Scaled(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            tokens = x.flatten(2).transpose(1, 2)
            return functional.scaled_dot_product_attention(tokens, tokens, tokens)

    assert cost(Scaled(), (6, 4, 5))["macs"] == 2 * 20 * 20 * 6


def test_nothing_changes() -> None:
    model = build(BackboneSection(name="resnet8"), input_shape=(3, 16, 16), classes=10).train()
    state = copy.deepcopy(model.state_dict())
    generator = torch.random.get_rng_state()
    first = cost(model, (3, 16, 16))
    assert cost(model, (3, 16, 16)) == first
    assert model.training
    assert torch.equal(torch.random.get_rng_state(), generator)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
