r"""Attention modules side by side: ours, timm's, torchvision's, and the published formula written
down plainly.

    # prints every shape and the page's table, 5 minutes
    python -m benchmarks.attention
    python -m benchmarks.attention --modules simam ela --channels 64 256 --maps 14 --batches 1 \
      --dtypes float32
    python -m benchmarks.attention --csv docs/benchmarks/data/attention.csv

In one process and in turns: every round calls each contender once, in random order; the figure is
the median over rounds of the ratio of the two times in that round, with its quartiles. On a CPU the
clock is the thread's CPU time with one thread, on a GPU the device's events. `saved` are the bytes
kept for the backward pass.
"""

from __future__ import annotations

import argparse
import csv
import gc
import importlib
import random
import statistics
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn import attention

Factory = Callable[[int, int], nn.Module]

MHSA_VALUES, MHSA_PIXELS = 2**21, 14 * 14
"""Largest input and map of `mhsa`, whose weights are maps of pixels x pixels."""


class PlainSimAM(nn.Module):
    """The formula, operation by operation."""

    def forward(self, x: Tensor) -> Tensor:
        n = x.shape[2] * x.shape[3] - 1
        d = (x - x.mean(dim=[2, 3], keepdim=True)).pow(2)
        v = d.sum(dim=[2, 3], keepdim=True) / n
        return x * torch.sigmoid(d / (4 * (v + 1e-4)) + 0.5)


class PlainTriplet(nn.Module):
    """Three rotated copies, each gated, and their mean."""

    def __init__(self) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1))
            for _ in range(3)
        )

    def forward(self, x: Tensor) -> Tensor:
        parts = []
        for conv, order in zip(self.convs, ((0, 2, 1, 3), (0, 3, 2, 1), (0, 1, 2, 3)), strict=True):
            turned = x.permute(order).contiguous()
            pooled = torch.cat((turned.max(1, keepdim=True)[0], turned.mean(1, keepdim=True)), 1)
            parts.append((turned * torch.sigmoid(conv(pooled))).permute(order))
        return (parts[0] + parts[1] + parts[2]) / 3


def ours(name: str, **knobs: Any) -> Factory:
    return lambda channels, side: attention.create(name, channels, height=side, width=side, **knobs)


def timm(path: str, *, sized: bool = False, **options: Any) -> Factory:
    """`module:Class` below timm.layers."""

    def build(channels: int, side: int) -> nn.Module:
        file, _, name = path.partition(":")
        cls = getattr(importlib.import_module(f"timm.layers.{file}"), name)
        module: nn.Module = cls(
            channels, **({"feat_size": (side, side)} if sized else {}), **options
        )
        return module

    return build


def torchvision_se(channels: int, side: int) -> nn.Module:
    from torchvision.ops import SqueezeExcitation

    return SqueezeExcitation(channels, channels // 16, scale_activation=nn.Sigmoid)


CONTENDERS: dict[str, dict[str, Factory]] = {
    "se": {
        "ours": ours("se"),
        "timm": timm("squeeze_excite:SEModule", rd_ratio=1 / 16, rd_divisor=1),
        "torchvision": torchvision_se,
    },
    "ese": {"ours": ours("ese"), "timm": timm("squeeze_excite:EffectiveSEModule")},
    "eca": {"ours": ours("eca"), "timm": timm("eca:EcaModule")},
    "gc": {
        "ours": ours("gc"),
        "timm": timm(
            "global_context:GlobalContext",
            rd_ratio=1 / 16,
            rd_divisor=1,
            fuse_add=True,
            fuse_scale=False,
        ),
    },
    "cbam": {
        "ours": ours("cbam"),
        "timm": timm("cbam:CbamModule", rd_ratio=1 / 16, rd_divisor=1, mlp_bias=True),
    },
    "coord": {
        "ours": ours("coord"),
        "timm": timm(
            "coord_attn:CoordAttn", rd_ratio=1 / 32, rd_divisor=8, se_factor=1.0, bias=True
        ),
    },
    "ela": {
        "ours": ours("ela", kernel_size=7, norm_groups=1, shared=False, activation="silu"),
        "timm": timm("coord_attn:EfficientLocalAttn"),
    },
    "triplet": {"ours": ours("triplet"), "plain": lambda channels, side: PlainTriplet()},
    "simam": {"ours": ours("simam"), "plain": lambda channels, side: PlainSimAM()},
    "mhsa": {
        "ours": ours("mhsa", residual=False),
        "timm": timm("bottleneck_attn:BottleneckAttn", sized=True),
    },
}
"""Module -> who -> how to build it, at equal settings (`gc` in timm has other fusion code, `mhsa`
is BoTNet's).
"""


@dataclass(frozen=True)
class Result:
    """One contender against ours, on one shape, in one mode."""

    module: str
    other: str
    channels: int
    side: int
    batch: int
    dtype: str
    mode: str
    ratio: float
    """Our time over the other's: below 1 we are quicker."""
    low: float
    high: float
    """Quartiles of the ratio over rounds."""
    our_ms: float
    saved_ratio: float
    """Our bytes saved for backward over the other's."""


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    results = []
    for result in measure_all(arguments):
        results.append(result)
        print(*asdict(result).values(), flush=True)
        if arguments.csv:
            write(results, arguments.csv)  # as they come: the whole table takes long
    print(summary(results))


def write(results: list[Result], path: Path) -> None:
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, asdict(results[0]))
        writer.writeheader()
        writer.writerows(
            {k: f"{v:.3f}" if isinstance(v, float) else v for k, v in asdict(r).items()}
            for r in results
        )


def summary(results: list[Result]) -> str:
    """Per module and other, the geometric mean over shapes (smallest to largest)."""
    columns = [
        (dtype, mode) for dtype in ("float32", "bfloat16") for mode in ("forward", "backward")
    ]
    lines = [
        "| module | other | " + " | ".join(f"{d}, {m}" for d, m in columns) + " |",
        "|---|---|" + "---|" * len(columns),
    ]
    for pair in dict.fromkeys((r.module, r.other) for r in results):
        cells = []
        for column in columns:
            ratios = [
                r.ratio for r in results if (r.module, r.other, r.dtype, r.mode) == (*pair, *column)
            ]
            spread = (
                f"{statistics.geometric_mean(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})"
                if ratios
                else ""
            )
            cells.append(spread)
        lines.append(f"| {' | '.join([*pair, *cells])} |")
    return "\n".join(lines)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--modules", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--channels", nargs="+", type=int, default=[64, 256])
    parser.add_argument("--maps", nargs="+", type=int, default=[56, 14, 7])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument(
        "--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"]
    )
    parser.add_argument(
        "--modes", nargs="+", choices=["forward", "backward"], default=["forward", "backward"]
    )
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument(
        "--seconds", type=float, default=0.2, help="about this long on one shape and mode"
    )
    parser.add_argument(
        "--max-mib", type=float, default=25.0, help="skip inputs larger than this in float32"
    )
    parser.add_argument("--csv", type=Path)
    return parser.parse_args()


def measure_all(arguments: argparse.Namespace) -> Iterator[Result]:
    for name in arguments.modules:
        for dtype in arguments.dtypes:
            for channels in arguments.channels:
                for side in arguments.maps:
                    for batch in arguments.batches:
                        pixels = side * side
                        if 4 * batch * channels * pixels > arguments.max_mib * 2**20:
                            continue
                        if name == "mhsa" and (
                            pixels > MHSA_PIXELS or batch * channels * pixels > MHSA_VALUES
                        ):
                            continue
                        yield from measure_shape(name, channels, side, batch, dtype, arguments)


def measure_shape(
    name: str, channels: int, side: int, batch: int, dtype: str, arguments: argparse.Namespace
) -> Iterator[Result]:
    x = torch.randn(
        batch, channels, side, side, dtype=getattr(torch, dtype), device=arguments.device
    )
    built = {
        who: make(channels, side).to(x.device, x.dtype).train()
        for who, make in CONTENDERS[name].items()
    }
    saved = {who: saved_by(module, x) for who, module in built.items()}
    for mode in arguments.modes:
        calls = {
            who: call_of(module.train(mode == "backward"), x, mode) for who, module in built.items()
        }
        times = in_turns(calls, arguments)
        for other in list(calls)[1:]:
            ratios = [a / b for a, b in zip(times["ours"], times[other], strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            our_ms, kept = (
                statistics.median(times["ours"]) * 1e3,
                saved["ours"] / max(saved[other], 1),
            )
            yield Result(
                name, other, channels, side, batch, dtype, mode, ratio, low, high, our_ms, kept
            )


def call_of(module: nn.Module, x: Tensor, mode: str) -> Callable[[], object]:
    if mode == "forward":

        def forward() -> object:
            with torch.inference_mode():
                return module(x)

        return forward
    grad = torch.randn_like(x)
    leaf = x.clone().requires_grad_()
    inputs = [leaf, *module.parameters()]
    return lambda: torch.autograd.grad(module(leaf), inputs, grad, allow_unused=True)


LONG = 20e-3
"""Seconds of a call that need no other before it to fill the caches."""


def in_turns(
    calls: dict[str, Callable[[], object]], arguments: argparse.Namespace
) -> dict[str, list[float]]:
    """Seconds per call of each contender, round by round; short calls are repeated within a
    turn.
    """
    clock = event_clock if arguments.device == "cuda" else thread_clock
    for call in calls.values():
        call()
    once = max(clock(call, 1) for call in calls.values())
    repeats = max(1, min(50, int(2e-3 / max(once, 1e-7))))
    rounds = max(
        5, min(arguments.rounds, int(arguments.seconds / max(once * repeats * len(calls), 1e-6)))
    )
    times: dict[str, list[float]] = {who: [] for who in calls}
    gc.disable()
    for _ in range(rounds):
        for who in random.sample(list(calls), len(calls)):
            if once < LONG:
                calls[who]()
            times[who].append(clock(calls[who], repeats))
    gc.enable()
    return times


def thread_clock(call: Callable[[], object], repeats: int) -> float:
    start = time.thread_time()
    for _ in range(repeats):
        call()
    return (time.thread_time() - start) / repeats


def event_clock(call: Callable[[], object], repeats: int) -> float:
    start, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    torch.cuda.synchronize()
    start.record()
    for _ in range(repeats):
        call()
    end.record()
    torch.cuda.synchronize()
    return start.elapsed_time(end) / 1e3 / repeats


def saved_by(module: nn.Module, x: Tensor) -> int:
    """Bytes saved for backward, input and parameters not counted."""
    leaf = x.clone().requires_grad_()
    own = {leaf.untyped_storage().data_ptr()} | {
        p.untyped_storage().data_ptr() for p in module.parameters()
    }
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        module(leaf)
    return sum(saved.values())


if __name__ == "__main__":
    main()
