"""Latencies of this package beside those of each runtime's own benchmark tool: the same files, one
image, one thread.

    python -m benchmarks.beside eager compile onnxruntime onnxruntime-int8 openvino openvino-int8
    ncnn

ResNet-20, bare and with CBAM at every residual site. ONNX Runtime's and ncnn's packages have no
tool: a plain loop on their API stands for it. Medians of this thread's CPU time; `benchmark_app`
reads the wall clock, so its shortest calls are taken.
"""

from __future__ import annotations

import importlib
import math
import random
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch.utils import benchmark

import nas_attn as na
from nas_attn import backbones
from nas_attn.latency import files, nets
from nas_attn.latency.paired import Call, Opened, host_turn, time_rounds
from nas_attn.recipe import LatencySection

SHAPE = (3, 32, 32)
SECONDS, REPETITIONS = 4.0, 2
BLOCKS, BLOCK_S = 8, 0.4  # a loop's, the networks in turn


def ours(calls: Sequence[Call]) -> str:
    turns = [lambda count, call=call: host_turn(call, count, own_time=True) for call in calls]
    times, _ = time_rounds(turns, random.Random(0), seconds=SECONDS)
    bare, cbam = (statistics.median(own for own, _ in one) for one in times)
    ratio = math.exp(statistics.median(math.log(b[0] / a[0]) for a, b in zip(*times, strict=True)))
    return f"{bare:.2f} ms, {cbam:.2f} ms, {ratio:.2f}"


def by_benchmark_app(path: Path) -> float:
    words = [
        str(Path(sys.executable).parent / "benchmark_app"),
        "-m",
        str(path),
        "-d",
        "CPU",
        "-hint",
        "none",
        "-api",
        "sync",
    ]
    words += [
        "-nthreads",
        "1",
        "-nireq",
        "1",
        "-nstreams",
        "1",
        "-infer_precision",
        "f32",
        "-t",
        str(int(SECONDS)),
    ]
    said = subprocess.run(words, capture_output=True, text=True, check=True).stdout
    value, unit = re.findall(r"Min:\s+([\d.]+) (\w+)", said)[0]
    return float(value) / (1000 if unit == "us" else 1)


def by_loops(calls: Sequence[Call]) -> list[float]:
    times: list[list[float]] = [[] for _ in calls]
    for call, kept in [*zip(calls, times, strict=True)] * BLOCKS:
        until = time.monotonic() + BLOCK_S
        while time.monotonic() < until:
            start = time.thread_time_ns()
            call()
            kept.append((time.thread_time_ns() - start) / 1e6)
    return [statistics.median(one) for one in times]


def own_call(mode: str, path: Path, x: Any) -> Call:
    """One inference by the runtime's own API."""
    runtime = importlib.import_module(mode.removesuffix("-int8"))
    if mode != "ncnn":
        options = runtime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        session = runtime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        return lambda: session.run(None, {session.get_inputs()[0].name: x})
    net = runtime.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    net.load_param(str(path))
    net.load_model(str(path.with_suffix(".bin")))

    def call() -> object:
        extractor = net.create_extractor()
        extractor.input("in0", runtime.Mat(x[0]))
        return extractor.extract("out0")

    return call


def compare(mode: str, folder: Path) -> tuple[str, list[list[float]]]:
    """(ours, per repetition the milliseconds of the bare network and of that with CBAM by the
    tool).
    """
    section, x = LatencySection(mode=mode), torch.rand(1, *SHAPE)
    bare, cbam = (
        backbones.create("resnet20", input_shape=SHAPE, classes=10).eval() for _ in range(2)
    )
    na.attach(cbam, "stage*@residual=cbam", input_shape=SHAPE, init="paper").eval()
    models = [nets.deployed(model, section, SHAPE) for model in (bare, cbam)]
    if mode in ("eager", "compile"):
        run = [
            torch.compile(model, dynamic=False) if mode == "compile" else model for model in models
        ]
        calls: list[Call] = [lambda model=model: model(x) for model in run]  # type: ignore[misc]

        def timer(call: Call) -> benchmark.Measurement:
            one = benchmark.Timer(
                "call()", globals={"call": call}, num_threads=1, timer=time.thread_time
            )
            return one.blocked_autorange(min_run_time=SECONDS / 2)

        with torch.inference_mode():
            return ours(calls), [
                [1e3 * timer(call).median for call in calls] for _ in range(REPETITIONS)
            ]
    paths = [folder / f"{mode}-{i}{files.runtime_suffix(section)}" for i in range(len(models))]
    for model, path in zip(models, paths, strict=True):
        files.write_runtime_file(
            model, section, x, torch.rand(64, *SHAPE) if mode.endswith("-int8") else None, path
        )
    said = ours([Opened(path, mode, x.numpy(), 1).call for path in paths])
    if mode.startswith("openvino"):
        return said, [[by_benchmark_app(path) for path in paths] for _ in range(REPETITIONS)]
    calls = [own_call(mode, path, x.numpy()) for path in paths]
    return said, [by_loops(calls) for _ in range(REPETITIONS)]


if __name__ == "__main__":
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as made:
        for asked in sys.argv[1:]:
            mine, theirs = compare(asked, Path(made))
            print(
                f"| {asked} | {mine} |"
                f" {'; '.join(f'{a:.2f}, {b:.2f}, {b / a:.2f}' for a, b in theirs)} |",
                flush=True,
            )
