"""Attention on maps and in networks that are not as usual: odd channels, long maps, other sizes than
those it was attached for, checkpointed, averaged, counted and tuned by other packages.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from attachment_models import shaken
from torch import Tensor, nn
from torch.nn import functional

import nas_attn as na

SHAPE = (3, 16, 16)
# published modules that differ in what they ask of a map's sides or channels
NAMES = [
    "se",
    "eca",
    "srm",
    "gct",
    "gc",
    "cbam",
    "bam",
    "gam",
    "simam",
    "sge",
    "scse",
    "triplet",
    "ema",
    "shuffle",
    "mlca",
    "psa",
    "ge",
    "lska",
    "lsk",
    "sk",
    "caa",
    "cpca",
    "coord",
    "ela",
    "scsa",
    "sdpa",
    "mhsa",
    "c2psa",
    "area",
]


class Block(nn.Module):
    """A residual block without norms."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(channels, channels, 3, padding=1)
        self.second = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = x + self.second(functional.relu(self.first(x)))
        return y


class Small(nn.Module):
    """Two residual blocks."""

    def __init__(self, channels: int = 16) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(Block(channels), Block(channels))
        self.head = nn.Linear(channels, 5)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.head(self.body(self.stem(x)).mean((2, 3)))
        return y


def attention_in(model: nn.Module) -> int:
    """Attention modules by their names alone."""
    return sum(path.endswith(".nas_attn") for path, _ in model.named_modules())


# each with all modules
@pytest.mark.parametrize(
    ("channels", "size"),
    [
        (3, (1, 5)),
        pytest.param(13, (7, 9), marks=pytest.mark.slow),
        pytest.param(37, (16, 4), marks=pytest.mark.slow),
    ],
)
def test_odd_channels_and_long_maps_begin_as_the_identity_and_learn(
    channels: int, size: tuple[int, int]
) -> None:
    x = torch.randn(2, 3, *size)
    for name in NAMES:
        net = Small(channels).eval()
        before = net(x)
        na.attach(net, f"stage1@block={name}", input_shape=(3, *size))
        assert torch.equal(net(x), before), name
        net.train()(x).sum().backward()
        new = [p for path, p in net.named_parameters() if ".nas_attn." in path]
        learning = [p for p in new if p.grad is not None and p.grad.abs().max() > 0]
        assert learning or not new, name


def test_images_of_other_sizes_than_attached_for() -> None:
    for name in NAMES:
        net = shaken(na.attach(Small().eval(), f"stage1@block={name}", input_shape=SHAPE))
        for size in ((24, 16), (15, 17), (4, 3)):
            assert torch.isfinite(net(torch.randn(1, 3, *size))).all(), (name, size)


@pytest.mark.parametrize("position", ["residual", "block", "stage"])
def test_checkpointing_and_averages_of_timm_keep_the_attention(position: str) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    from timm.utils import ModelEmaV3

    shape = (3, 64, 64)
    net = timm.create_model("resnet10t", num_classes=4, zero_init_last=False).train()
    placement = " ".join(f"stage{number}@{position}=coord" for number in (1, 2, 3, 4))
    shaken(na.attach(net, placement, input_shape=shape)).train()
    other = copy.deepcopy(net)
    other.set_grad_checkpointing(True)
    x = torch.randn(2, *shape)
    whole = net(x)
    checkpointed = other(x)
    assert torch.equal(whole, checkpointed)
    whole.sum().backward()
    checkpointed.sum().backward()
    for parameter, same in zip(net.parameters(), other.parameters(), strict=True):
        if parameter.grad is not None:
            assert torch.equal(parameter.grad, same.grad)
    assert len(na.check(ModelEmaV3(net).module, shape)) == len(na.check(net, shape)) > 0


def by_thop(net: nn.Module) -> tuple[float, ...]:
    """Multiply-adds and parameters, by the `thop` that ultralytics brings."""
    import thop

    counts = thop.profile(copy.deepcopy(net), inputs=(torch.randn(1, *SHAPE),), verbose=False)
    return tuple(counts[:2])


def by_torchinfo(net: nn.Module) -> tuple[float, ...]:
    """Multiply-adds and parameters."""
    import torchinfo

    summary = torchinfo.summary(copy.deepcopy(net), (1, *SHAPE), verbose=0)
    return summary.total_mult_adds, summary.total_params


# torchinfo counts leaves only, and a convolution that carries attention is none
LEAVES_ONLY = pytest.mark.xfail(
    strict=True, reason="torchinfo does not count a layer that carries attention"
)


@pytest.mark.extras("thop", "torchinfo")
@pytest.mark.parametrize(
    ("counter", "position"),
    [
        (by_thop, "residual"),
        (by_thop, "block"),
        pytest.param(by_torchinfo, "residual", marks=LEAVES_ONLY),
        (by_torchinfo, "block"),
    ],
)
def test_counters_of_leaf_modules_see_no_less_with_attention(
    counter: Callable[[nn.Module], tuple[float, ...]], position: str
) -> None:
    bare = counter(Small().eval())
    net = na.attach(Small().eval(), f"stage1@{position}=conv", input_shape=SHAPE)
    for with_attention, without in zip(counter(net), bare, strict=True):
        assert with_attention > without


@pytest.mark.extras("peft")
def test_lora_beside_attention_is_merged_without_loss() -> None:
    import peft

    net = shaken(na.attach(Small().eval(), "stage1@residual=se", input_shape=SHAPE)).eval()
    x = torch.randn(1, *SHAPE)
    before = net(x).detach()
    adapted = peft.LoraConfig(r=2, target_modules=["first"], modules_to_save=["head"])
    tuned = peft.get_peft_model(net, adapted).eval()
    torch.testing.assert_close(tuned(x), before, atol=1e-6, rtol=0)
    assert attention_in(tuned) == 2
    merged = tuned.merge_and_unload()
    torch.testing.assert_close(merged(x), before, atol=1e-5, rtol=0)
    assert attention_in(merged) == 2
