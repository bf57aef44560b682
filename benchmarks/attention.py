"""Attention modules side by side: ours, timm's, torchvision's, and the published formula written down plainly.

    python benchmarks/attention.py                                    # the whole table, about 10 minutes
    python benchmarks/attention.py --modules simam ela --channels 64 256 --maps 14 --batches 1 --dtypes float32
    python benchmarks/attention.py --markdown docs/benchmarks/attention.md

In one process and in turns: every round calls each contender once, in random order; the figure is the median over rounds
of the ratio of the two times in that round, with its quartiles. On a CPU the clock is the thread's CPU time with
one thread, on a GPU the device's events. `saved` are the bytes kept for the backward pass, `peak` the bytes above
the input while a forward and backward pass runs.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import itertools
import json
import os
import platform
import random
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from datetime import date
from pathlib import Path
from typing import Any

os.environ.setdefault("KINETO_LOG_LEVEL", "99")  # the profiler is used for memory only

import torch
from torch import Tensor, nn

from nas_attn import attention

Factory = Callable[[int, int], nn.Module]
AIMS = {"cbam": 0.7, "coord": 0.7, "ela": 0.7, "triplet": 0.7, "simam": 0.7}
"""Largest ratio to the best other that is aimed at; 1 where nothing is said."""

MHSA_VALUES, MHSA_PIXELS = 2**21, 14 * 14
"""Largest input and map of `mhsa`, whose weights are maps of pixels x pixels."""

NOTES = """
How ours are quicker on a CPU: the gradient of `mean` is a view of a sum's; the gradient of `amax` compares nothing; strips
(`nas_attn/attention/strips.py`) are summed and spread by products with ones, in bfloat16 by matrices of ones, and values of
both directions are joined before they meet the map; ELA's depth-wise convolutions run as maps in channels_last; the learned
bias of `mhsa` is written out, which torch's own attention does not do on a CPU; small maps take the plain expressions.

Tried and left out, since slower: float32 strips by matrices of ones (14x14: 0.8 ms against 0.4 for 8192 maps), both means from one
such product (1.8 ms against 0.6), columns by batched products, pooling layers or halving; ELA's grouped convolutions as
maps (up to 5 times as long); the relative position folded into longer queries and keys, so that torch's fused attention takes it
(mostly 1.1 to 1.5 times as long as the bias written out, up to 3 times going back in bfloat16).

What is left: at batch 1 on small maps calls are the cost, not arithmetic, and ours are as many as theirs or a few more
(knobs, dtype under autocast); in float32 a row of 7 or 14 values stays a loop of 7 or 14. At batch 1 `mhsa` keeps the tables'
rows per distance, up to a tenth more bytes than timm; `cbam` on the smallest maps keeps its maxima twice (2 % more bytes),
which is quicker.
"""


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
            nn.Sequential(nn.Conv2d(2, 1, 7, padding=3, bias=False), nn.BatchNorm2d(1)) for _ in range(3)
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
        module: nn.Module = cls(channels, **({"feat_size": (side, side)} if sized else {}), **options)
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
        "timm": timm("global_context:GlobalContext", rd_ratio=1 / 16, rd_divisor=1, fuse_add=True, fuse_scale=False),
    },
    "cbam": {"ours": ours("cbam"), "timm": timm("cbam:CbamModule", rd_ratio=1 / 16, rd_divisor=1, mlp_bias=True)},
    "coord": {
        "ours": ours("coord"),
        "timm": timm("coord_attn:CoordAttn", rd_ratio=1 / 32, rd_divisor=8, se_factor=1.0, bias=True),
    },
    "ela": {
        "ours": ours("ela", kernel_size=7, norm_groups=1, shared=False, activation="silu"),
        "timm": timm("coord_attn:EfficientLocalAttn"),
    },
    "triplet": {"ours": ours("triplet"), "plain": lambda channels, side: PlainTriplet()},
    "simam": {"ours": ours("simam"), "plain": lambda channels, side: PlainSimAM()},
    "mhsa": {"ours": ours("mhsa", residual=False), "timm": timm("bottleneck_attn:BottleneckAttn", sized=True)},
}
"""Module -> who -> how to build it, at equal settings (`gc` in timm has other fusion code, `mhsa` is BoTNet's)."""


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
    peak_ratio: float


def main() -> None:
    arguments = parse()
    torch.set_num_threads(1)
    arguments.started = time.monotonic(), load()
    results = []
    for result in measure_all(arguments):
        results.append(result)
        print(row_of(result), flush=True)
        write(results, arguments)  # as they come: the whole table takes long


def load() -> str:
    return f"{os.getloadavg()[0]:.1f}"


def write(results: list[Result], arguments: argparse.Namespace) -> None:
    if arguments.json:
        arguments.json.write_text(json.dumps([asdict(r) for r in results], indent=1))
    if arguments.markdown:
        arguments.markdown.parent.mkdir(parents=True, exist_ok=True)
        arguments.markdown.write_text(report(results, arguments))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--modules", nargs="+", choices=CONTENDERS, default=list(CONTENDERS))
    parser.add_argument("--channels", nargs="+", type=int, default=[64, 256, 1024])
    parser.add_argument("--maps", nargs="+", type=int, default=[56, 14, 7])
    parser.add_argument("--batches", nargs="+", type=int, default=[1, 32])
    parser.add_argument("--dtypes", nargs="+", choices=["float32", "bfloat16"], default=["float32", "bfloat16"])
    parser.add_argument("--modes", nargs="+", choices=["forward", "backward"], default=["forward", "backward"])
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu")
    parser.add_argument("--compile", action="store_true", help="compile every contender with torch.compile")
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--seconds", type=float, default=0.2, help="about this long on one shape and mode")
    parser.add_argument("--max-mib", type=float, default=25.0, help="skip inputs larger than this in float32")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
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
                        if name == "mhsa" and (pixels > MHSA_PIXELS or batch * channels * pixels > MHSA_VALUES):
                            continue
                        yield from measure_shape(name, channels, side, batch, dtype, arguments)


def measure_shape(
    name: str, channels: int, side: int, batch: int, dtype: str, arguments: argparse.Namespace
) -> Iterator[Result]:
    x = torch.randn(batch, channels, side, side, dtype=getattr(torch, dtype), device=arguments.device)
    if arguments.channels_last:
        x = x.to(memory_format=torch.channels_last)
    built = {}
    for who, factory in CONTENDERS[name].items():
        module = factory(channels, side).to(x.device, x.dtype).train()
        built[who] = torch.compile(module) if arguments.compile else module
    memory = {who: memory_of(module, x) for who, module in built.items()}
    for mode in arguments.modes:
        calls = {who: call_of(module.train(mode == "backward"), x, mode) for who, module in built.items()}
        times = in_turns(calls, arguments)
        for other in list(calls)[1:]:
            ratios = [a / b for a, b in zip(times["ours"], times[other], strict=True)]
            low, ratio, high = statistics.quantiles(ratios, n=4)
            saved, peak = (a / max(b, 1) for a, b in zip(memory["ours"], memory[other], strict=True))
            our_ms = statistics.median(times["ours"]) * 1e3
            yield Result(name, other, channels, side, batch, dtype, mode, ratio, low, high, our_ms, saved, peak)


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


def in_turns(calls: dict[str, Callable[[], object]], arguments: argparse.Namespace) -> dict[str, list[float]]:
    """Seconds per call of each contender, round by round; short calls are repeated within a turn."""
    clock = event_clock if arguments.device == "cuda" else thread_clock
    for call in calls.values():
        call()
    once = max(clock(call, 1) for call in calls.values())
    repeats = max(1, min(50, int(2e-3 / max(once, 1e-7))))
    rounds = max(5, min(arguments.rounds, int(arguments.seconds / max(once * repeats * len(calls), 1e-6))))
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


def memory_of(module: nn.Module, x: Tensor) -> tuple[int, int]:
    """(bytes saved for backward, input and parameters not counted; peak bytes of forward and backward)."""
    leaf = x.clone().requires_grad_()
    own = {leaf.untyped_storage().data_ptr()} | {p.untyped_storage().data_ptr() for p in module.parameters()}
    saved: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        if tensor.untyped_storage().data_ptr() not in own:
            saved[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        y = module(leaf)
    kept = sum(saved.values())
    del y
    return kept, peak_of(lambda: module(leaf).sum().backward(), x.device.type)


def peak_of(call: Callable[[], object], device: str) -> int:
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        call()
        return torch.cuda.max_memory_allocated() - before
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True) as profile:
        call()
    level = peak = 0
    for event in profile.profiler.kineto_results.events():
        if event.name() == "[memory]":
            level += event.nbytes()
            peak = max(peak, level)
    return peak


def row_of(r: Result) -> str:
    shape = f"{r.channels:>5} {r.side:>3} {r.batch:>3} {r.dtype:>8} {r.mode:>8}"
    ratio = f"{r.ratio:5.2f} [{r.low:.2f}, {r.high:.2f}]"
    return f"{r.module:>8} / {r.other:<11} {shape} {ratio} {r.our_ms:9.3f} ms  saved {r.saved_ratio:.2f}  peak {r.peak_ratio:.2f}"


def machine(arguments: argparse.Namespace) -> str:
    if arguments.device == "cuda":
        name = torch.cuda.get_device_name()
    else:
        lines = Path("/proc/cpuinfo").read_text().splitlines() if Path("/proc/cpuinfo").exists() else []
        name = next(
            (line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor()
        )
    import timm

    versions = f"Python {platform.python_version()}, torch {torch.__version__}, timm {timm.__version__}"
    how = "torch.compile" if arguments.compile else "eager"
    layout = "channels_last" if arguments.channels_last else "contiguous"
    return f"{name}, {os.cpu_count()} cores, one thread, {versions}, {how}, {layout}, {arguments.rounds} rounds at most"


def left_out(arguments: argparse.Namespace) -> str:
    """Shapes of the grid that were not measured."""
    grid = itertools.product(arguments.batches, arguments.channels, arguments.maps)
    shapes = [f"{b}x{c}x{m}x{m}" for b, c, m in grid if 4 * b * c * m * m > arguments.max_mib * 2**20]
    mhsa = f"for `mhsa` maps above {MHSA_PIXELS} pixels and inputs above {MHSA_VALUES:,} values"
    return ", ".join([*shapes, mhsa] if "mhsa" in arguments.modules else shapes) or "nothing"


def report(results: list[Result], arguments: argparse.Namespace) -> str:
    """The table as a page: per module and mode the geometric mean and the worst shape, then every shape."""
    lines = [
        "# Attention modules: ours against others",
        "",
        f"`{' '.join(['python benchmarks/attention.py', *sys.argv[1:]])}`",
        "",
        f"Machine: {machine(arguments)}.",
        "",
        f"{date.today()}, {(time.monotonic() - arguments.started[0]) / 60:.0f} minutes, load average {arguments.started[1]} at the "
        f"beginning and {load()} at the end. Left out by their size: {left_out(arguments)}.",
        "",
        "Time and memory are ours divided by the other's (below 1: we are better). The aim is 1, and 0.7 of the time for "
        + ", ".join(f"`{name}`" for name in AIMS)
        + "; `plain` is the published formula written down operation by operation, where no library has the module.",
        "",
        "| module | other | dtype | mode | shapes | time, geometric mean | best | worst | shapes within the aim | saved bytes |"
        " peak bytes | met |",
        "|---|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    groups: dict[tuple[str, str, str, str], list[Result]] = {}
    for r in results:
        groups.setdefault((r.module, r.other, r.dtype, r.mode), []).append(r)
    for (name, other, dtype, mode), group in groups.items():
        aim, times = AIMS.get(name, 1.0), [r.ratio for r in group]
        within = sum(t <= aim for t in times)
        heavy = round(max(max(r.saved_ratio, r.peak_ratio) for r in group), 2)
        met = "yes" if within == len(group) and heavy <= 1 else "no"
        lines.append(
            f"| {name} | {other} | {dtype} | {mode} | {len(group)} | {statistics.geometric_mean(times):.2f} | {min(times):.2f} | "
            f"{max(times):.2f} | {within} of {len(group)} at ≤ {aim:g} | {max(r.saved_ratio for r in group):.2f} | "
            f"{max(r.peak_ratio for r in group):.2f} | {met} |"
        )
    lines += [
        "",
        "Saved and peak bytes: the largest ratio over the shapes.",
        *NOTES.splitlines(),
        "",
        "## Every shape",
        "",
        "| module | other | C | map | batch | dtype | mode | time (quartiles) | our ms | saved | peak |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    lines += [
        f"| {r.module} | {r.other} | {r.channels} | {r.side} | {r.batch} | {r.dtype} | {r.mode} | "
        f"{r.ratio:.2f} ({r.low:.2f} to {r.high:.2f}) | {r.our_ms:.3f} | {r.saved_ratio:.2f} | {r.peak_ratio:.2f} |"
        for r in results
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
