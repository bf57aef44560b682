"""What people do with a network that has attention, or is to get it: adapters, shards, pruning,
threads, other devices, edited containers, ensembles, parts in TorchScript.
"""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch
from attachment_models import shaken
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional
from torch.nn.utils import prune
from torch.optim.swa_utils import AveragedModel, update_bn

import nas_attn as na
from nas_attn.attachment import attached_modules
from nas_attn.errors import BackboneError

SHAPE = (3, 16, 16)
IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))
POSITIONS = ["residual", "block"]


class Block(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Any:
        return x + self.second(functional.relu(self.first(x)))


class Small(nn.Module):
    """Two blocks between a stem and classes."""

    def __init__(self, block: Callable[[int], nn.Module] = Block) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.body = nn.Sequential(block(8), block(8))
        self.head = nn.Linear(8, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.body(self.stem(x)).mean((2, 3)))


def small(block: Callable[[int], nn.Module] = Block) -> Any:
    torch.manual_seed(0)
    return Small(block).eval()


def attended(position: str = "residual", *, module: str = "se", net: Any = None) -> Any:
    """A network whose attention is no longer the identity."""
    model = small() if net is None else net
    return shaken(na.attach(model, f"stage1@{position}={module}", input_shape=SHAPE))


def take_part(model: nn.Module, count: int) -> None:
    assert [one.takes_part for one in na.check(model, SHAPE)] == [True] * count


# ------------------------------------------------------------------------- blocks of other forms


class TellsMore(Block):
    """Returns its map among other things, as a tuple."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        y = super().forward(x)
        return y, y.mean((2, 3))


class ReturnsByName(Block):
    """Returns its map in a dictionary; ends in a module, and takes a keyword."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.activation = nn.ReLU()

    def forward(self, x: Tensor, *, shift: float = 0.0) -> dict[str, Tensor]:
        y = self.activation(super().forward(x + shift))
        return {"map": y, "mean": y.mean((2, 3))}


class Telling(Small):
    """Runs blocks that return more than a map."""

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        means = []
        for block in self.body:
            if isinstance(block, ReturnsByName):
                results = block(x, shift=0.5)
                x = results["map"]
                means.append(results["mean"])
            else:
                x, mean = block(x)
                means.append(mean)
        return self.head(x.mean((2, 3)) + sum(means))


@pytest.mark.parametrize(
    ("block", "hosts"),
    [
        (TellsMore, {"residual": ["second"]}),
        (ReturnsByName, {"residual": ["second"], "block": ["activation"]}),
    ],
)
def test_blocks_that_return_more_than_their_map_are_sites(
    block: type[Block], hosts: dict[str, list[str]]
) -> None:
    torch.manual_seed(0)
    net = Telling(block).eval()
    (site,) = na.find_sites(net, SHAPE, granularity="stage")
    for position, names in hosts.items():
        paths = [point.path for point in site.at(position)]
        assert paths == [f"body.{i}.{name}" for i in (0, 1) for name in names]
        bare = net(IMAGES)
        attended(position, net=net)
        assert not torch.equal(net(IMAGES), bare)
        take_part(net, 2)
        assert torch.equal(na.detach(net)(IMAGES), bare)


# torch's own, of scripting
@pytest.mark.filterwarnings("ignore::FutureWarning", "ignore::DeprecationWarning")
def test_parts_in_torchscript_are_passed_over() -> None:
    net = small()
    net.stem = torch.jit.script(net.stem)
    net.body.append(torch.jit.script(Block(8).eval()))
    bare = net(IMAGES)
    attended(net=net)
    assert list(attached_modules(net)) == [f"body.{i}.second.nas_attn.0" for i in (0, 1)]
    take_part(net, 2)
    assert torch.equal(na.detach(net)(IMAGES), bare)
    with pytest.raises(BackboneError, match=r"'body\.2'"):
        na.attach(net, "mine=se", input_shape=SHAPE, custom={"mine": ["body.2"]})


class Unit(nn.Sequential):
    """A container that is a block itself."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__(
            *(layers or (nn.Conv2d(8, 8, 3, padding=1), nn.Conv2d(8, 8, 3, padding=1)))
        )

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


EDITS: dict[str, Callable[[Any], Any]] = {
    "append": lambda unit: unit.append(nn.Identity()),
    "extend": lambda unit: unit.extend([nn.Identity()]),
    "insert": lambda unit: unit.insert(1, nn.Identity()),
    "delete": lambda unit: unit.__delitem__(1),
    "delete some": lambda unit: unit.__delitem__(slice(0, 1)),
    "pop": lambda unit: unit.pop(-1),
    "set": lambda unit: unit.__setitem__(1, nn.Tanh()),
    "append and set": lambda unit: unit.append(nn.Identity()).__setitem__(-1, nn.Tanh()),
}


@pytest.mark.parametrize("edit", EDITS.values(), ids=EDITS)
def test_a_container_with_attention_is_edited_as_without(edit: Callable[[Any], Any]) -> None:
    net = attended("block", net=small(lambda channels: Unit()))
    bare = na.detach(copy.deepcopy(net))
    same = copy.deepcopy(net)
    edit(net.body[0])
    edit(bare.body[0])  # type: ignore[index]
    assert list(attached_modules(net)) == list(attached_modules(same))
    assert len(net.body[0]) == len(bare.body[0])  # type: ignore[index,arg-type]
    take_part(net, 2)
    na.detach(net)
    assert list(net.state_dict()) == list(bare.state_dict())
    assert torch.equal(net(IMAGES), bare(IMAGES))


def test_a_part_of_a_container_with_attention_has_none() -> None:
    net = attended("block", net=small(lambda channels: Unit()))
    part = net.body[0][:1]
    assert (type(part), len(part), attached_modules(part)) == (Unit, 1, {})


def test_layers_put_before_attention_take_none_of_it() -> None:
    net = attended("block")
    want = net(IMAGES)
    net.body.insert(0, nn.Identity())
    assert torch.equal(net(IMAGES), want)
    take_part(net, 2)


# ---------------------------------------------------------------------------- tools around layers


def test_a_layer_made_from_a_hosts_type_is_bare() -> None:
    host = attended().body[0].second
    twin = type(host)(8, 8, 3, padding=1)
    assert type(twin) is nn.Conv2d
    assert twin(torch.rand(1, 8, 4, 4)).shape == (1, 8, 4, 4)


class CopiesItself(Block):
    """Has a copy made by its own method, from its arguments."""

    def __deepcopy__(self, memo: Any) -> CopiesItself:
        twin = CopiesItself(8)
        own = {name: t for name, t in self.state_dict().items() if "nas_attn" not in name}
        twin.load_state_dict(own)
        return twin


def test_a_copy_made_anew_by_a_blocks_own_method_has_its_attention() -> None:
    net = attended("block", net=small(CopiesItself))
    twin = copy.deepcopy(net)
    assert torch.equal(twin(IMAGES), net(IMAGES))
    assert not {id(p) for p in twin.parameters()} & {id(p) for p in net.parameters()}


class Adapter(nn.Module):
    """Adds a product of two small matrices to a convolution, as PEFT's layers do."""

    def __init__(self, base_layer: nn.Module) -> None:
        super().__init__()
        self.base_layer = base_layer
        self.down = type(base_layer)(8, 2, 3, padding=1, bias=False)
        self.up = nn.Conv2d(2, 8, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.base_layer(x) + self.up(self.down(x))

    def merge(self) -> None:
        with torch.no_grad():
            product = torch.einsum("or,rihw->oihw", self.up.weight[..., 0, 0], self.down.weight)
            self.base_layer.weight += product  # type: ignore[operator]


def test_an_adapter_on_a_host_is_merged_without_loss() -> None:
    net = attended()
    before = net(IMAGES)
    for block in net.body:
        block.second = Adapter(block.second)
    adapted = net(IMAGES)
    assert not torch.allclose(adapted, before, atol=1e-3)
    assert list(attached_modules(net)) == [f"body.{i}.second.nas_attn.0" for i in (0, 1)]
    take_part(net, 2)
    for block in net.body:
        block.second.merge()
        block.second = block.second.base_layer
    assert torch.allclose(net(IMAGES), adapted, atol=1e-6)
    take_part(net, 2)


@pytest.mark.extras("peft")
def test_lora_on_hosts_is_merged_without_loss() -> None:
    import peft

    net = attended()
    before = net(IMAGES)
    adapted = peft.LoraConfig(r=2, target_modules=["second"], init_lora_weights=False)
    tuned = peft.get_peft_model(net, adapted).eval()
    want = tuned(IMAGES)
    assert not torch.allclose(want, before, atol=1e-3)
    merged = tuned.merge_and_unload()
    assert torch.allclose(merged(IMAGES), want, atol=1e-6)
    take_part(merged, 2)


@pytest.mark.parametrize("order", ["pruned first", "attention first"])
def test_pruned_layers_keep_their_attention(order: str) -> None:
    def pruned(net: nn.Module) -> nn.Module:
        for module in net.modules():
            if isinstance(module, Block):
                prune.l1_unstructured(module.second, "weight", 0.4)
        # leaves the pruned weights with a graph
        net(IMAGES).sum().backward()
        return net

    net = attended(net=pruned(small())) if order[0] == "p" else pruned(attended())
    want = net(IMAGES)
    take_part(net, 2)
    for block in net.body:
        prune.remove(block.second, "weight")
    assert torch.equal(net(IMAGES), want)
    bare = na.detach(copy.deepcopy(net))
    assert not torch.equal(bare(IMAGES), want)
    assert float((bare.body[0].second.weight == 0).float().mean()) > 0.3  # type: ignore[index,union-attr]


def test_threads_that_share_a_network_get_their_own_results() -> None:
    net = attended()
    for block in net.body:
        before = block.second.forward

        def doubled(x: Tensor, before: Callable[[Tensor], Tensor] = before) -> Tensor:
            time.sleep(0.001)
            return 2 * before(x)

        block.second.forward = doubled
    images = [torch.rand(1, *SHAPE) for _ in range(8)]
    want = [net(x) for x in images]
    with ThreadPoolExecutor(4) as threads:
        results = list(threads.map(net, images))
    torch.testing.assert_close(results, want)


# -------------------------------------------------------------------- devices, types and processes


def test_another_default_device_is_in_nobodys_way() -> None:
    net = small()
    want = net(IMAGES)
    # stands for a GPU: a tensor that lands there by mistake cannot be used with others
    with torch.device("meta"):
        na.attach(net, "stage1=cbam", input_shape=SHAPE)
        take_part(net, 2)
    assert torch.equal(net(IMAGES), want)


class Bent(Block):
    """Its branch ends in a module without weights."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.end = nn.Tanh()

    def forward(self, x: Tensor) -> Tensor:
        return x + self.end(self.second(functional.relu(self.first(x))))


def test_a_host_without_weights_takes_the_type_of_what_is_around_it() -> None:
    class Mixed(Small):
        def forward(self, x: Tensor) -> Tensor:
            x = self.body(self.stem(x).bfloat16()).float()
            return self.head(x.mean((2, 3)))

    torch.manual_seed(0)
    net = Mixed(Bent).eval()
    net.body.bfloat16()
    attended(net=net)
    assert list(attached_modules(net)) == [f"body.{i}.end.nas_attn.0" for i in (0, 1)]
    assert {p.dtype for m in attached_modules(net).values() for p in m.parameters()} == {
        torch.bfloat16
    }


class NormedInFloat32(Block):
    """Its branch ends in a norm, whose result has the norm's type."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.norm = nn.BatchNorm2d(channels)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.norm(self.second(functional.relu(self.first(x))).float()).to(x.dtype)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("module", ["se", "cbam", "mhsa"])
def test_attention_on_a_norm_in_float32_takes_the_type_of_the_norm(
    module: str, dtype: torch.dtype
) -> None:
    net = small(NormedInFloat32).to(dtype)
    for part in net.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.float()
    attended(module=module, net=net)
    assert net(IMAGES.to(dtype)).dtype == dtype
    take_part(net, 2)
    assert {p.dtype for m in attached_modules(net).values() for p in m.parameters()} == {
        torch.float32
    }


@pytest.mark.parametrize("by", ["to_empty", "assign"])
@pytest.mark.parametrize("module", ["se", "fca", "cbam", "mhsa"])
def test_a_network_without_numbers_gets_them_from_a_file(
    module: str, by: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    want = attended("block", module=module)
    with torch.device("meta"):
        net = small()
    with pytest.warns(na.errors.NasAttnWarning, match="on the device meta"):
        na.attach(net, f"stage1@block={module}", input_shape=SHAPE)
    assert all(t.is_meta for t in (*net.parameters(), *net.buffers()))
    if by == "to_empty":
        # new memory holds anything
        monkeypatch.setattr(torch, "empty_like", lambda t, **k: torch.full_like(t, 7, **k))
        net.to_empty(device="cpu")
    net.load_state_dict(want.state_dict(), assign=by == "assign")
    assert torch.equal(net(IMAGES), want(IMAGES))


@pytest.mark.parametrize("position", POSITIONS)
def test_a_sharded_network_trains_its_attention(position: str, tmp_path: Path) -> None:
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{tmp_path}/store", rank=0, world_size=1
    )
    try:
        mesh = init_device_mesh("cpu", (1,))
        net = attended(position)
        want = net(IMAGES)
        for block in net.body:
            fully_shard(block, mesh=mesh)
        fully_shard(net, mesh=mesh)
        assert torch.allclose(net(IMAGES), want, atol=1e-6)
        net(IMAGES).sum().backward()
        parameters = [p for m in attached_modules(net).values() for p in m.parameters()]
        assert len(parameters) == 8
        assert all(p.grad is not None for p in parameters)
        with pytest.raises(BackboneError, match="check it before"):
            na.check(net, SHAPE)
        bare = fully_shard(small(), mesh=mesh)
        with pytest.raises(BackboneError, match="attach before sharding"):
            na.attach(bare, "stage1=se", input_shape=SHAPE)
    finally:
        torch.distributed.destroy_process_group()


# --------------------------------------------------------------- several states of one network


# torch's own, of an operation that it does in a loop
@pytest.mark.filterwarnings("ignore:There is a performance drop")
@pytest.mark.parametrize("module", ["cbam", "ema", "shuffle", "srm", "mhsa"])
def test_ensembles_and_gradients_of_each_image(module: str) -> None:
    nets = [attended("block", module=module) for _ in range(2)]
    for parameter in nets[1].parameters():
        parameter.data.mul_(1.1)
    parameters, buffers = stack_module_state(nets)

    def run(parameters: Any, buffers: Any, x: Tensor) -> Any:
        return functional_call(nets[0], (parameters, buffers), (x,))

    together = vmap(run, (0, 0, None))(parameters, buffers, IMAGES)
    torch.testing.assert_close(together, torch.stack([net(IMAGES) for net in nets]))
    own = {name: p.detach() for name, p in nets[0].named_parameters()}
    of_each = vmap(grad(lambda p, x: run(p, {}, x[None]).sum()), (None, 0))(own, IMAGES)
    nets[0](IMAGES).sum().backward()
    for name, parameter in nets[0].named_parameters():
        if parameter.grad is not None:
            torch.testing.assert_close(
                of_each[name].sum(0), parameter.grad, rtol=1e-3, atol=1e-4, msg=name
            )


def test_an_average_of_weights_has_the_attention() -> None:
    net = attended("block", module="cbam")
    average = AveragedModel(net)
    average.update_parameters(net)
    net.train()(IMAGES).sum().backward()
    torch.optim.SGD(net.parameters(), 0.1).step()
    average.update_parameters(net)
    update_bn([IMAGES], average)
    want = average.eval()(IMAGES)
    take_part(average, 2)
    net.eval().load_state_dict(average.module.state_dict())
    assert torch.equal(net(IMAGES), want)
