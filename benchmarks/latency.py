"""How well latency ratios repeat: naive mean, blocked_autorange, do_bench in triton's manner, and
nas_attn's sessions.

    # a few minutes
    python -m benchmarks.latency
    # the default budget, longer
    python -m benchmarks.latency --full
    # how well the additive model predicts unseen placements
    python -m benchmarks.latency --additive 48
    python -m benchmarks.latency --write PAGE.md --sessions-file sessions.json

Every repetition measures the ratio of several placements to the bare backbone by each method, one
method after the other, first with nothing else started, then beside training processes that the
script starts (one per core). Reported: coefficient of variation of the ratio over repetitions
(worst and mean over placements), how far the mean under load is from the quiet one, how often
intervals contain the truth (the pooled estimate of all sessions of the condition), seconds per
candidate.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import math
import multiprocessing
import os
import platform
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.utils import benchmark

from nas_attn import attachment, backbones
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.machine import fingerprint
from nas_attn.latency.ratios import dropped, estimate, latency_model, open_keys, session_spread
from nas_attn.latency.session import measure as run_sessions
from nas_attn.latency.session import run_session
from nas_attn.recipe.recipe import BackboneSection, LatencySection
from nas_attn.space import search_space
from nas_attn.space.placement import Placement
from nas_attn.storage.records import Session

SHAPE = (3, 32, 32)
PLACEMENTS = {
    "SE everywhere": "*=se(reduction=8)",
    "ECA everywhere": "*=eca",
    "CBAM everywhere": "*=cbam(reduction=8)",
    "coordinate everywhere": "*=coord(reduction=16)",
    "ELA-B everywhere": "*=ela(variant=B)",
    "SimAM everywhere": "*=simam",
    "SE at stage 3": "stage3=se(reduction=8)",
    "ELA-B at stage 2": "stage2=ela(variant=B)",
}
FEWEST_REPETITIONS = 3
METHODS = ("naive mean of 100", "blocked_autorange", "do_bench", "sessions")


@dataclass
class Condition:
    """What was measured quiet, or under load."""

    name: str
    ratios: dict[str, list[dict[str, float]]] = field(
        default_factory=lambda: {method: [] for method in METHODS}
    )
    """Method -> per repetition, placement -> ratio to the bare backbone."""
    seconds: dict[str, float] = field(default_factory=lambda: dict.fromkeys(METHODS, 0.0))
    sessions: list[list[Session]] = field(default_factory=list)
    """Per repetition."""
    load: list[float] = field(default_factory=list)


def bare(name: str) -> nn.Module:
    torch.manual_seed(0)
    return backbones.build(BackboneSection(name=name), input_shape=SHAPE, classes=10).eval()


def networks(name: str) -> tuple[nn.Module, dict[str, nn.Module]]:
    """The bare backbone and the placements in it."""
    sites = attachment.find_sites(bare(name), SHAPE)
    resolved = {
        label: search_space.resolve(search_space.parse(text), sites, init="paper")
        for label, text in PLACEMENTS.items()
    }
    return bare(name), {
        label: attachment.attach(bare(name), placement).eval()
        for label, placement in resolved.items()
    }


# -------------------------------------------------------------------------------- the usual methods


def naive_mean(model: nn.Module, x: Tensor) -> float:
    for _ in range(10):
        model(x)
    begin = time.perf_counter()
    for _ in range(100):
        model(x)
    return (time.perf_counter() - begin) / 100


def blocked_autorange(model: nn.Module, x: Tensor) -> float:
    timer = benchmark.Timer("model(x)", globals={"model": model, "x": x}, num_threads=1)
    return float(timer.blocked_autorange(min_run_time=0.25).median)


def do_bench(model: nn.Module, x: Tensor) -> float:
    """As triton.testing.do_bench does on a GPU: 25 ms warm-up, 100 ms of single calls, cache
    overwritten before each.
    """
    flush = torch.empty(32 * 2**20, dtype=torch.int8)

    def calls(seconds: float) -> list[float]:
        times: list[float] = []
        while sum(times) < seconds or len(times) < 3:
            flush.zero_()
            begin = time.perf_counter()
            model(x)
            times.append(time.perf_counter() - begin)
        return times

    calls(0.025)
    return statistics.median(calls(0.1))


USUAL: dict[str, Callable[[nn.Module, Tensor], float]] = {
    "naive mean of 100": naive_mean,
    "blocked_autorange": blocked_autorange,
    "do_bench": do_bench,
}


# -------------------------------------------------------------------------------------------
# measuring


def train_forever(seed: int) -> None:
    """The competing load: a small CNN trained on noise, one thread."""
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    model = backbones.build(BackboneSection(name="resnet8"), input_shape=SHAPE, classes=10)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    while True:
        loss = nn.functional.cross_entropy(model(torch.randn(64, *SHAPE)), torch.randint(10, (64,)))
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()


@contextlib.contextmanager
def load(processes: int) -> Iterator[None]:
    context = multiprocessing.get_context("spawn")
    started = [
        context.Process(target=train_forever, args=(seed,), daemon=True)
        for seed in range(processes)
    ]
    for process in started:
        process.start()
    if started:
        time.sleep(8)  # until they train
    try:
        yield
    finally:
        for process in started:
            process.kill()
            process.join()


def measure(condition: Condition, arguments: argparse.Namespace) -> None:
    section = LatencySection(session_seconds=arguments.session_seconds)
    reference, candidates = networks(arguments.backbone)
    x = torch.randn(1, *SHAPE)
    lock = DeviceLock.for_section(section)
    end = time.perf_counter() + 60 * arguments.minutes
    for repetition in range(arguments.repetitions):
        if repetition >= FEWEST_REPETITIONS and time.perf_counter() > end:
            break
        condition.load.append(os.getloadavg()[0])
        with torch.inference_mode():
            for method, function in USUAL.items():
                begin = time.perf_counter()
                base = function(reference, x)
                condition.ratios[method].append(
                    {key: function(model, x) / base for key, model in candidates.items()}
                )
                condition.seconds[method] += time.perf_counter() - begin
        begin = time.perf_counter()
        sessions = [
            run_session(
                section,
                reference=reference,
                candidates=candidates,
                input_shape=SHAPE,
                seed=repetition * 100 + i,
                lock=lock,
            )
            for i in range(arguments.sessions)
        ]
        condition.seconds["sessions"] += time.perf_counter() - begin
        condition.sessions.append(sessions)
        condition.ratios["sessions"].append(
            {key: found.ratio for key, found in estimate(sessions).items()}
        )
        print(
            f"{condition.name}: repetition {repetition + 1} of {arguments.repetitions}", flush=True
        )


# ------------------------------------------------------------------------------- the additive model

CHOICES = (
    "none",
    "se(reduction=8)",
    "eca",
    "cbam(reduction=8)",
    "coord(reduction=16)",
    "ela(variant=B)",
    "simam",
)
FOLDS = 4


def random_placements(
    name: str, count: int
) -> tuple[nn.Module, dict[str, Placement], dict[str, nn.Module]]:
    """(bare backbone, key -> placement, key -> network) of different random placements."""
    reference = bare(name)
    sites = attachment.find_sites(reference, SHAPE)
    rng = random.Random(0)
    placements: dict[str, Placement] = {}
    models: dict[str, nn.Module] = {}
    while len(models) < count:
        text = " ".join(f"{site.name}={rng.choice(CHOICES)}" for site in sites)
        placement = search_space.resolve(search_space.parse(text), sites, init="paper")
        if placement.modules and placement.key not in placements:
            placements[placement.key] = placement.placement
            models[placement.key] = attachment.attach(bare(name), placement)
    return reference, placements, models


def additive(arguments: argparse.Namespace) -> str:
    """Measures random placements, then predicts each from those of the other folds."""
    reference, placements, models = random_placements(arguments.backbone, arguments.additive)
    section = LatencySection(session_seconds=arguments.session_seconds)

    def still_open(sessions: Sequence[Session]) -> list[str]:
        return open_keys(sessions, models, tolerance=1e-9, max_sessions=4)

    sessions = list(
        run_sessions(
            section,
            reference=reference,
            candidates=models,
            input_shape=SHAPE,
            seed=0,
            still_open=still_open,
        )
    )
    known = estimate(sessions)
    keys = sorted(known)
    truth, guess, off = [], [], []
    for fold in range(FOLDS):
        held_out = set(keys[fold::FOLDS])
        model = latency_model({k: v for k, v in known.items() if k not in held_out}, placements)
        assert model is not None
        for key in held_out:
            predicted, error = model.predict([placements[key]])[0]
            measured_error = known[key].ratio * known[key].half_width / 1.96
            truth.append(known[key].ratio)
            guess.append(predicted)
            off.append((predicted - known[key].ratio) / math.hypot(error, measured_error))
    mean = statistics.fmean(truth)
    residual = sum((g - t) ** 2 for g, t in zip(guess, truth, strict=True))
    relative = math.sqrt(
        statistics.fmean((g / t - 1) ** 2 for g, t in zip(guess, truth, strict=True))
    )
    half = statistics.median(one.half_width for one in known.values())
    return (
        f"Additive model, {arguments.backbone}, {len(keys)} random placements of {len(CHOICES) - 1}"
        f" types (ratio {min(truth):.2f} to {max(truth):.2f}), 4 sessions each, measured to"
        f" ±{half:.1%}; each predicted from the other"
        f" three quarters: R² {1 - residual / sum((t - mean) ** 2 for t in truth):.2f}, error"
        f" {relative:.1%}, within the stated 95 % interval"
        f" {statistics.fmean(abs(z) < 1.96 for z in off):.0%}. Load average"
        f" {os.getloadavg()[0]:.1f}."
    )


# ---------------------------------------------------------------------------------------- the table


def variation(condition: Condition, method: str) -> dict[str, float]:
    """Placement -> coefficient of variation of its ratio over repetitions."""
    found = condition.ratios[method]
    return {
        key: statistics.stdev(r[key] for r in found) / statistics.fmean(r[key] for r in found)
        for key in PLACEMENTS
        if all(key in r for r in found)
    }


def coverage(condition: Condition) -> float:
    """Share of intervals (one per repetition and placement) that contain the pooled estimate."""
    pooled = estimate([session for sessions in condition.sessions for session in sessions])
    hits = [
        found.low <= pooled[key].ratio <= found.high
        for sessions in condition.sessions
        for key, found in estimate(sessions).items()
    ]
    return statistics.fmean(hits)


def half_widths(condition: Condition) -> float:
    return statistics.median(
        e.half_width for sessions in condition.sessions for e in estimate(sessions).values()
    )


def shift(quiet: Condition, loaded: Condition, method: str) -> float:
    """Largest distance between a placement's median ratio under load and quiet, as a share."""

    def middle(condition: Condition, key: str) -> float:
        return statistics.median(r[key] for r in condition.ratios[method])

    return max(abs(math.log(middle(loaded, key) / middle(quiet, key))) for key in PLACEMENTS)


def control(condition: Condition) -> float:
    """Median A/A ratio, as a share off 1."""
    return statistics.median(
        s.control_log_ratio for sessions in condition.sessions for s in sessions
    )


def table(quiet: Condition, loaded: Condition, arguments: argparse.Namespace) -> str:
    lines = [
        (
            "| method | variation quiet, mean (worst) | variation under load, mean (worst) | load"
            " shifts a ratio by up to | s a candidate |"
        ),
        "|---|---|---|---|---|",
    ]
    for method in METHODS:
        q, busy = variation(quiet, method).values(), variation(loaded, method).values()
        repetitions = len(quiet.load) + len(loaded.load)
        seconds = (quiet.seconds[method] + loaded.seconds[method]) / (repetitions * len(PLACEMENTS))
        lines.append(
            f"| {method} | {statistics.fmean(q):.1%} ({max(q):.1%}) | {statistics.fmean(busy):.1%}"
            f" ({max(busy):.1%}) | {shift(quiet, loaded, method):.1%} | {seconds:.2f} |"
        )
    lines += ["", "| aim | quiet | under load |", "|---|---|---|"]
    for name, aim, function in (
        (
            "ratio repeats within 1 % quiet, 3 % under load (mean variation)",
            (0.01, 0.03),
            mean_variation,
        ),
        ("intervals cover at least 90 %", (0.9, 0.9), coverage),
        ("A/A within ±1 %", (0.01, 0.01), control),
    ):
        values = (function(quiet), function(loaded))
        met = [
            v >= a if function is coverage else abs(v) <= a
            for v, a in zip(values, aim, strict=True)
        ]
        lines.append(
            f"| {name} | "
            + " | ".join(
                f"{v:.1%} {'met' if m else 'NOT met'}" for v, m in zip(values, met, strict=True)
            )
            + " |"
        )
    for name, function in (
        ("half-width of the interval, median", half_widths),
        ("spread between sessions", spread),
    ):
        lines.append(f"| {name} | {function(quiet):.1%} | {function(loaded):.1%} |")
    lines.append(f"| sessions dropped | {lost(quiet)} | {lost(loaded)} |")
    return "\n".join(lines)


def mean_variation(condition: Condition) -> float:
    return statistics.fmean(variation(condition, "sessions").values())


def spread(condition: Condition) -> float:
    return session_spread([s for sessions in condition.sessions for s in sessions])


def lost(condition: Condition) -> str:
    every = [s for sessions in condition.sessions for s in sessions]
    return f"{len(dropped(every))} of {len(every)}"


def heading(quiet: Condition, loaded: Condition, arguments: argparse.Namespace) -> str:
    here = fingerprint(LatencySection())
    repetitions = f"{len(quiet.load)} and {len(loaded.load)} repetitions"
    return (
        f"{arguments.backbone}, batch 1, 3x32x32, one thread; {len(PLACEMENTS)} placements,"
        f" {repetitions}, {arguments.sessions} sessions of {arguments.session_seconds:g} s each;"
        f" {here.name}, {os.cpu_count()} cores, Python {platform.python_version()}, torch"
        f" {torch.__version__}. Load average {min(quiet.load):.1f} to {max(quiet.load):.1f} 'quiet'"
        f" (what else ran on the machine), {min(loaded.load):.1f} to {max(loaded.load):.1f} under"
        " load."
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--full", action="store_true", help="8 repetitions of 12 sessions of 3 s")
    parser.add_argument("--repetitions", type=int, help="default: 5, with --full 8")
    parser.add_argument(
        "--sessions", type=int, help="sessions a repetition; default: 6, with --full 12"
    )
    parser.add_argument("--session-seconds", type=float, help="default: 1.5, with --full 3")
    parser.add_argument(
        "--minutes",
        type=float,
        default=3.0,
        help="no new repetition of a condition after this; at least 3",
    )
    parser.add_argument(
        "--additive",
        type=int,
        default=0,
        metavar="N",
        help="test the additive model on N placements instead",
    )
    parser.add_argument("--backbone", default="resnet20")
    parser.add_argument("--write", type=Path, help="also write the tables to this file")
    parser.add_argument("--sessions-file", type=Path, help="also write all sessions as JSON")
    arguments = parser.parse_args()
    arguments.repetitions = arguments.repetitions or (8 if arguments.full else 5)
    arguments.sessions = arguments.sessions or (12 if arguments.full else 6)
    arguments.session_seconds = arguments.session_seconds or (3.0 if arguments.full else 1.5)
    torch.set_num_threads(1)
    if arguments.additive:
        print(additive(arguments))
        return
    quiet, loaded = Condition("quiet"), Condition("under load")
    measure(quiet, arguments)
    with load(os.cpu_count() or 1):
        measure(loaded, arguments)
    text = f"{heading(quiet, loaded, arguments)}\n\n{table(quiet, loaded, arguments)}\n"
    print(text)
    if arguments.write:
        arguments.write.write_text(text, "utf-8")
    if arguments.sessions_file:
        found = {
            c.name: [[asdict(s) for s in sessions] for sessions in c.sessions]
            for c in (quiet, loaded)
        }
        arguments.sessions_file.write_text(json.dumps(found), "utf-8")


if __name__ == "__main__":
    main()
