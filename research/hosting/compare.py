"""Ways to hold attention in a network, each under what tools do to networks.

    python -m research.hosting.compare

For each way and tool: `kept` (the network computes what it did, attention included), `lost` (it
computes what it does without attention, and nothing was said), `wrong` (something else, and nothing
was said), or the error. README.md beside this file has the table and what follows from it.
"""

from __future__ import annotations

import copy
import functools
import io
import pickle
import tempfile
import warnings
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.fsdp import fully_shard
from torch.fx.experimental.optimization import fuse
from torch.nn.utils.fusion import fuse_conv_bn_eval

import nas_attn as na
from nas_attn.attention import create

SHAPE = (3, 16, 16)


class Block(nn.Module):
    """A residual block."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1, bias=False)
        self.bn2 = nn.BatchNorm2d(channels)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        y = self.relu(self.bn1(self.conv1(x)))
        return self.relu(self.bn2(self.conv2(y)) + x)


class Net(nn.Module):
    """A stem, two blocks and a head."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 16, 3, padding=1)
        self.layer = nn.Sequential(Block(16), Block(16))
        self.head = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.layer(self.stem(x)).mean((2, 3)))


def stirred(seed: int) -> nn.Module:
    """Attention away from its start."""
    torch.manual_seed(seed)
    attention = create("se", 16, reduction=4, init="identity")
    with torch.no_grad():
        for parameter in attention.parameters():
            parameter.add_(torch.randn_like(parameter))
    return nn.Sequential(attention)


def by_class(net: Net) -> None:
    """The host's class is a subclass whose forward ends in attention, a child of the host: ours."""
    na.attach(net, "layer=se(reduction=4)", input_shape=SHAPE, custom={"layer": ["layer.*.bn2"]})
    for number, block in enumerate(net.layer):
        block.bn2.nas_attn.load_state_dict(stirred(number).state_dict())


class Hook:
    """A forward hook of the host, which holds attention; this is a child of the block."""

    def __init__(self, attention: nn.Module) -> None:
        self.attention = attention

    def __call__(self, _host: nn.Module, _args: Any, y: Tensor) -> Tensor:
        return self.attention(y)


def by_hook(net: Net) -> None:
    """A forward hook of the host calls attention, a child of the block; the host stays as it is."""
    for number, block in enumerate(net.layer):
        block.nas_attn = stirred(number)
        block.bn2.register_forward_hook(Hook(block.nas_attn))


def _forward(host: nn.Module, attention: nn.Module, x: Tensor) -> Tensor:
    return attention(type(host).forward(host, x))


def by_forward(net: Net) -> None:
    """The host's instance has another `forward`, which calls attention, a child of the block."""
    for number, block in enumerate(net.layer):
        block.nas_attn = stirred(number)
        block.bn2.forward = functools.partial(_forward, block.bn2, block.nas_attn)


def by_sibling(net: Net) -> None:
    """As `class`, but attention is a child of the block, to which the host has a reference."""

    class Attended(nn.BatchNorm2d):
        def forward(self, x: Tensor) -> Tensor:
            return self.__dict__["attention"](super().forward(x))

    # a leaf for torch.fx, as the norm is
    Attended.__module__ = nn.BatchNorm2d.__module__
    for number, block in enumerate(net.layer):
        block.nas_attn = stirred(number)
        block.bn2.__class__ = Attended
        block.bn2.__dict__["attention"] = block.nas_attn


def by_sequence(net: Net) -> None:
    """A Sequential of host and attention is in the host's place."""
    for number, block in enumerate(net.layer):
        block.bn2 = nn.Sequential(block.bn2, stirred(number))


WAYS = {
    "class": by_class,
    "hook": by_hook,
    "forward": by_forward,
    "sibling": by_sibling,
    "sequence": by_sequence,
}


def bare() -> Net:
    torch.manual_seed(0)
    net = Net()
    with torch.no_grad():
        for module in net.modules():
            if isinstance(module, nn.BatchNorm2d):
                module.weight.uniform_(0.5, 1.5)
                module.running_mean.uniform_(-1, 1)
                module.running_var.uniform_(0.5, 2)
    return net.eval()


def made(way: str) -> Net:
    net = bare()
    WAYS[way](net)
    return net.eval()


IMAGES = torch.rand(2, *SHAPE, generator=torch.Generator().manual_seed(1))


@torch.no_grad()
def verdict(found: Any, way: str, near: float = 1e-4) -> str:
    """What a network computes, or an output, in comparison."""
    y = found(IMAGES) if callable(found) else found
    for name, want in (("kept", made(way)(IMAGES)), ("lost", bare()(IMAGES))):
        if (y - want).abs().max() < near:
            return name
    return "wrong"


def host_of(net: nn.Module) -> nn.Module:
    """The norm, wherever it is now."""
    host = net.layer[0].bn2
    return host[0] if isinstance(host, nn.Sequential) else host


def attention_of(net: nn.Module) -> nn.Module:
    return next(m for m in net.layer[0].modules() if type(m).__name__ == "SqueezeExcitation")


# ------------------------------------------------------------------------------------ tools


def names(way: str) -> str:
    """Names of the bare backbone's weights stay."""
    gone = bare().state_dict().keys() - made(way).state_dict().keys()
    return "kept" if not gone else "other names"


def former_files(way: str) -> str:
    """A state_dict of today."""
    former = made("class").state_dict()
    net = made(way)
    try:
        net.load_state_dict(former)
    except RuntimeError:
        return "names to map"
    return verdict(net, way)


def deepcopy(way: str) -> str:
    net = made(way)
    twin = copy.deepcopy(net)
    with torch.no_grad():
        for parameter in attention_of(net).parameters():
            parameter.zero_()
    return verdict(twin, way)


def pickled(way: str) -> str:
    return verdict(pickle.loads(pickle.dumps(made(way))), way)  # noqa: S301 - our own


def part_alone(way: str) -> str:
    """A feature extractor: the children in a Sequential, moved to another type."""
    net = made(way)
    features = nn.Sequential(*list(net.children())[:-1]).double()
    y = net.head.double()(features(IMAGES.double()).mean((2, 3))).float()
    return verdict(y.detach(), way)


def replicas(way: str) -> str:
    """DataParallel: copies of each module's dictionary, whose children are then replaced."""
    net = made(way)
    modules = list(net.modules())
    copies = {id(m): m._replicate_for_data_parallel() for m in modules}
    for module in modules:
        twin = copies[id(module)]
        twin._modules = {name: copies[id(child)] for name, child in module._modules.items()}
        for name, parameter in module._parameters.items():
            setattr(twin, name, None if parameter is None else parameter.detach() * 1)
    with torch.no_grad():
        for parameter in attention_of(net).parameters():
            parameter.zero_()
    return verdict(copies[id(net)], way)


def jit_trace(way: str) -> str:
    return verdict(torch.jit.trace(made(way), IMAGES), way)


def fx_trace(way: str) -> str:
    return verdict(torch.fx.symbolic_trace(made(way)), way)


def fx_fuse(way: str) -> str:
    """Torch.fx's folding of norms into convolutions."""
    return verdict(fuse(made(way)), way)


def export(way: str) -> str:
    return verdict(torch.export.export(made(way), (IMAGES,)).module(), way)


def onnx(way: str) -> str:
    import onnxruntime

    file = io.BytesIO()
    torch.onnx.export(made(way), (IMAGES,), file, dynamo=False, input_names=["x"])
    session = onnxruntime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    return verdict(torch.from_numpy(session.run(None, {"x": IMAGES.numpy()})[0]), way)


def compiled(way: str) -> str:
    torch._dynamo.reset()
    return verdict(torch.compile(made(way), backend="aot_eager", fullgraph=True), way)


def eager_fuse(way: str) -> str:
    """Torch.ao's fuse_modules, by name."""
    net = made(way)
    for block in net.layer:
        torch.ao.quantization.fuse_modules(block, [["conv2", "bn2"]], inplace=True)
    return verdict(net, way)


def folded_by_hand(way: str) -> str:
    """As YOLO's fuse(): the folded convolution in its place, the norm an Identity."""
    net = made(way)
    for block in net.layer:
        host = block.bn2
        if not isinstance(host, nn.BatchNorm2d):
            return "not found"
        block.conv2 = fuse_conv_bn_eval(block.conv2, host)
        block.bn2 = nn.Identity()
    return verdict(net, way)


def sync_norms(way: str) -> str:
    return verdict(nn.SyncBatchNorm.convert_sync_batchnorm(made(way)), way)


def averaged(way: str) -> str:
    """EMA of the weights."""
    net = made(way)
    average = torch.optim.swa_utils.AveragedModel(net, use_buffers=True)
    average.update_parameters(net)
    return verdict(average, way)


def sharded(way: str) -> str:
    mesh = torch.distributed.device_mesh.init_device_mesh("cpu", (1,))
    net = made(way)
    for block in net.layer:
        fully_shard(block, mesh=mesh)
    return verdict(fully_shard(net, mesh=mesh)(IMAGES).detach(), way)


def ddp(way: str) -> str:
    net = nn.parallel.DistributedDataParallel(made(way).train())
    net(IMAGES).sum().backward()
    got = attention_of(net.module).reduce.weight.grad
    return "kept" if got is not None and bool(got.any()) else "lost"


def autocast(way: str) -> str:
    net = made(way)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        return verdict(net(IMAGES).float(), way, near=0.1)


def norms_in_float32(way: str) -> str:
    """A half network whose norms are float32."""
    net = made(way).bfloat16()
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.float()
    same = {p.dtype for p in attention_of(net).parameters()} == {torch.bfloat16}
    with torch.no_grad():
        return verdict(net(IMAGES.bfloat16()).float(), way, near=0.1) if same else "float32, too"


def frozen_norms(way: str) -> str:
    """`for m in modules: if BatchNorm: m.eval(); m.requires_grad_(False)`, after `train()`."""
    net = made(way).train()
    for module in list(net.modules()):
        if isinstance(module, nn.BatchNorm2d):
            module.eval().requires_grad_(False)
    own = attention_of(net)
    free = own.training and all(p.requires_grad for p in own.parameters())
    return "kept" if free and not host_of(net).training else "frozen, too"


def frozen_by_name(way: str) -> str:
    """As YOLO's freeze=N: all parameters whose names begin with a layer's."""
    net = made(way)
    for name, parameter in net.named_parameters():
        parameter.requires_grad_(not name.startswith("layer.0."))
    return "kept" if all(p.requires_grad for p in attention_of(net).parameters()) else "frozen, too"


def fx_qat(way: str) -> str:
    """prepare_qat_fx and convert_fx."""
    from torch.ao.quantization import get_default_qat_qconfig_mapping, quantize_fx

    net = quantize_fx.prepare_qat_fx(
        made(way).train(), get_default_qat_qconfig_mapping(), (IMAGES,)
    )
    net(IMAGES)
    y = quantize_fx.convert_fx(net.eval())(IMAGES)
    want, without = (m(IMAGES).detach() for m in (made(way), bare()))
    return "kept" if (y - want).norm() < 0.5 * (y - without).norm() else "lost"


def exact_type(way: str) -> str:
    """Tools that look a layer up by its exact type (LRP, prepare_qat, ptflops)."""
    return "found" if type(host_of(made(way))) is nn.BatchNorm2d else "not found"


def leaf(way: str) -> str:
    """Tools that count or explain only modules without children (torchinfo, Captum)."""
    return "found" if not list(host_of(made(way)).children()) else "not found"


def own_module(way: str) -> str:
    """What a tool's forward hook on the layer sees (activations, relevance) is the layer's own."""
    net = made(way)
    seen: list[Tensor] = []
    host_of(net).register_forward_hook(lambda _m, _a, y: seen.append(y.detach()))
    with torch.no_grad():
        net(IMAGES)
        plain = bare()
        block = plain.layer[0]
        first = block.relu(block.bn1(block.conv1(plain.stem(IMAGES))))
        want = block.bn2(block.conv2(first))
    return "own" if torch.allclose(seen[0], want, atol=1e-5) else "with attention"


def direct_forward(way: str) -> str:
    """Code that calls the norm's `forward` itself."""
    net = made(way)
    for block in net.layer:
        if not isinstance(block.bn2, nn.BatchNorm2d):
            continue
        block.forward = functools.partial(_direct, block)
    return verdict(net, way)


def _direct(block: Block, x: Tensor) -> Tensor:
    y = block.relu(block.bn1(block.conv1(x)))
    return block.relu(block.bn2.forward(block.conv2(y)) + x)


TOOLS: tuple[Callable[[str], str], ...] = (
    names,
    former_files,
    deepcopy,
    pickled,
    part_alone,
    replicas,
    jit_trace,
    fx_trace,
    fx_fuse,
    export,
    onnx,
    compiled,
    eager_fuse,
    folded_by_hand,
    sync_norms,
    averaged,
    sharded,
    ddp,
    autocast,
    frozen_norms,
    frozen_by_name,
    fx_qat,
    exact_type,
    leaf,
    own_module,
    direct_forward,
)


def main() -> None:
    warnings.simplefilter("ignore")
    dist.init_process_group("gloo", rank=0, world_size=1, init_method=f"file://{tempfile.mktemp()}")
    print(f"| {'tool':18} | " + " | ".join(f"{way:14}" for way in WAYS) + " |")
    for tool in TOOLS:
        cells = []
        for way in WAYS:
            try:
                cell = tool(way)
            except Exception as error:
                cell = f"raises {type(error).__name__}"
            cells.append(f"{cell:14}")
        print(f"| {tool.__name__:18} | " + " | ".join(cells) + " |", flush=True)
    dist.destroy_process_group()


if __name__ == "__main__":
    main()
