"""What tools for training and memory ask of each row: sharding, second derivatives, float16, pickles,
weights that are there only while their layer runs.
"""

from __future__ import annotations

import copy
import functools
import pickle
import pickletools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist
from attention_asking import ROWS, choices, shake
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.nn.attention import SDPBackend, sdpa_kernel

import nas_attn as na
from nas_attn.attention import catalogue
from nas_attn.attention.choice import INITS, Choice
from nas_attn.attention.row import Row

SIZE = (16, 8, 7)
every_row = pytest.mark.parametrize("row", ROWS, ids=lambda row: row.name)


def modules(row: Row) -> Iterator[tuple[nn.Module, Tensor]]:
    """Each choice that a row offers, in both forms, with random weights and images."""
    smaller = [{"downsample": 2}] if "downsample" in [knob.name for knob in row.knobs] else []
    for knobs in (*choices(row), *smaller):
        for init in INITS:
            canonical = row.resolve(knobs, *SIZE, strict=False, init=init)
            module = catalogue.build(Choice(row.name, canonical), *SIZE, init=init)
            generator = torch.Generator().manual_seed(1)
            yield shake(module, 5), torch.randn(2, *SIZE, generator=generator)


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A group of this process alone."""
    file = tmp_path_factory.mktemp("group") / "store"
    dist.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{file}")
    try:
        yield torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    finally:
        dist.destroy_process_group()


@every_row
@pytest.mark.filterwarnings("ignore")  # of views
def test_a_module_can_be_sharded_and_trained(row: Row, mesh: Any) -> None:
    for module, x in modules(row):
        y = module.train()(x)
        fully_shard(module, mesh=mesh)
        sharded = module(x)
        torch.testing.assert_close(sharded, y)
        if sharded.requires_grad:
            sharded.square().sum().backward()


@every_row
def test_a_module_has_second_derivatives(row: Row) -> None:
    """As gradient penalties need; self-attention in torch's plain form (compatibility.md)."""
    for module, x in modules(row):
        x.requires_grad_()
        with sdpa_kernel(SDPBackend.MATH):
            (gradient,) = torch.autograd.grad(module(x).square().sum(), x, create_graph=True)
            gradient.square().sum().backward()
        assert x.grad is not None
        assert torch.isfinite(x.grad).all()


def without_weights(module: nn.Module) -> None:
    """Leaves each layer's weights on `meta` but while the layer runs, as accelerate's `cpu_offload`
    and DeepSpeed's ZeRO-3 do.
    """
    for layer in module.modules():
        weights = {name: p.detach().clone() for name, p in layer.named_parameters(recurse=False)}
        if weights:
            _put("meta", weights, layer)
            layer.register_forward_pre_hook(functools.partial(_put, "cpu", weights))
            layer.register_forward_hook(functools.partial(_put, "meta", weights))


def _put(device: str, weights: dict[str, Tensor], layer: nn.Module, *_: Any) -> None:
    for name, weight in weights.items():
        setattr(layer, name, nn.Parameter(weight.to(device), requires_grad=False))


@every_row
def test_weights_may_be_there_only_while_their_layer_runs(row: Row) -> None:
    for module, x in modules(row):
        want = module.eval()(x)
        without_weights(module)
        torch.testing.assert_close(module(x), want)


@every_row
@pytest.mark.parametrize("train", [False, True], ids=["eval", "train"])
def test_zeros_in_float16_stay_numbers(row: Row, train: bool) -> None:
    """A map of zeros, as behind a dead ReLU, and weights of zeros, as a penalty leaves them."""
    for module, x in modules(row):
        module.half().train(train)
        zeroed = copy.deepcopy(module)
        for parameter in zeroed.parameters():
            nn.init.zeros_(parameter)
        for one, size in ((module, 0), (zeroed, 1), (zeroed, 0)):
            image = (x * size).half().requires_grad_()
            y = one(image)
            y.float().sum().backward()
            gradients = [image.grad, *(p.grad for p in one.parameters() if p.grad is not None)]
            for value in (y, *gradients):
                assert value is not None
                assert value.isfinite().all()


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(SIZE[0], SIZE[0], 1)
        self.norm = nn.BatchNorm2d(SIZE[0])

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.norm(self.conv(x))
        return x + y


@every_row
def test_a_pickle_of_a_frozen_network_imports_nothing_of_this_package(row: Row) -> None:
    network = nn.Sequential(nn.Conv2d(3, SIZE[0], 1), Residual(), Residual())
    na.attach(network, f"stage1={row.name}", input_shape=(3, 8, 8))
    na.freeze_all_but_attention(network)
    file = pickle.dumps(network, protocol=2)
    named = [text for code, text, _ in pickletools.genops(file) if code.name == "GLOBAL"]
    assert named
    assert not [text for text in named if text.startswith("nas_attn")]
    again = pickle.loads(file)  # noqa: S301 - written above
    x = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(again.train()(x), network.train()(x))
    assert not again[1].norm.training


@every_row
def test_former_files_hold_the_blend_without_a_dimension(row: Row, tmp_path: Path) -> None:
    for module, x in modules(row):
        state = module.state_dict()
        if "blend" in state:
            state["blend"] = state["blend"][0]
        torch.save(state, tmp_path / "former.pt")
        want = module.eval()(x)
        shake(module, 6)
        module.load_state_dict(torch.load(tmp_path / "former.pt", weights_only=True))
        assert torch.equal(module(x), want)
