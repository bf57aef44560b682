"""Paired latency rounds, and networks in ONNX files run by their runtimes. NumPy and a runtime
suffice, without torch.

As a program, on the device that counts, in a folder that `nas-attn measure STUDY --to FOLDER`
wrote:

    # then, where the study is: nas-attn measure STUDY --from FOLDER
    python measure.py
    # any files: compares the others with the first
    python measure.py bare.onnx se.onnx …

This file is copied there, so it imports nothing of nas_attn.
"""

from __future__ import annotations

import argparse
import gc
import importlib
import itertools
import json
import math
import os
import platform
import random
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

Call = Callable[[], object]
# (milliseconds a call on the study's clock, milliseconds a call on the wall clock)
Times = tuple[float, float]
# does one untimed call, then times so many
Turn = Callable[[int], Times]
Array = np.ndarray[Any, np.dtype[Any]]
# a session of a folder, one file, or one compared with the first
Measured = dict[str, Any]

MIN_ROUNDS = 5
# A turn repeats a short call until it takes about this long, so that overhead does not matter
TURN_MS = 10.0
MAX_CALLS = 32
MAX_CANDIDATES = 8
# files of a folder: the networks to measure, and the sessions
ORDER_FILE = "order.json"
RESULTS_FILE = "results.json"
# at the end of the modes that run a quantized network
INT8 = "-int8"


def host_turn(call: Call, calls: int, *, own_time: bool) -> Times:
    """One turn on the clock of this thread's CPU time, or on the wall clock."""
    call()
    wall = time.perf_counter_ns()
    own = time.thread_time_ns()
    for _ in range(calls):
        call()
    own = time.thread_time_ns() - own
    wall = time.perf_counter_ns() - wall
    return (own if own_time else wall) / calls / 1e6, wall / calls / 1e6


def time_rounds(
    turns: Sequence[Turn],
    rng: random.Random,
    *,
    seconds: float,
    fewest: int = MIN_ROUNDS,
    calls: int | None = None,
) -> tuple[list[list[Times]], int]:
    """Times networks in rounds, in each of which every network has one turn, in random order.

    Args:
        turns: of the reference, its control, and the others.
        rng: gives the order.
        seconds: how long it goes on.
        fewest: the least number of rounds.
        calls: timed calls a turn; None: as many as take about TURN_MS.

    Returns:
        Of each network its times by round, and the timed calls a turn.
    """
    # runs all networks, so that all start equally warm
    if calls is None:
        reference, control, *_ = [turn(1)[0] for turn in turns]
        calls = max(1, min(MAX_CALLS, round(TURN_MS / max(min(reference, control), 1e-3))))
    times: list[list[Times]] = [[] for _ in turns]
    order = list(range(len(turns)))
    end = time.perf_counter() + seconds
    while len(times[0]) < fewest or time.perf_counter() < end:
        rng.shuffle(order)
        for index in order:
            times[index].append(turns[index](calls))
    return times, calls


def summary(times: Sequence[Sequence[Times]], keys: Sequence[str], calls: int) -> dict[str, Any]:
    """The results of rounds: `reference_ms`, `control_log_ratio` and `samples`, in the fields of
    `records.Session`.
    """
    reference, control, *candidates = times
    copies = (reference, control)
    samples = []
    for key, mine in zip(keys, candidates, strict=True):
        sample = {
            "key": key,
            "log_ratio": _log_ratio(mine, copies, 0),
            "candidate_ms": statistics.median(own for own, _ in mine),
            "wall_log_ratio": _log_ratio(mine, copies, 1),
            "wall_ms": statistics.median(wall for _, wall in mine),
            "calls": calls * len(mine),
        }
        samples.append(sample)
    return {
        "reference_ms": statistics.median(own for own, _ in (*reference, *control)),
        "control_log_ratio": _log_ratio(control, (reference,), 0),
        "samples": samples,
    }


def _log_ratio(times: Sequence[Times], copies: Sequence[Sequence[Times]], clock: int) -> float:
    """Median over rounds of log(time / geometric mean of the copies' times in the same round)."""
    log_ratios = []
    for mine, *round_copies in zip(times, *copies, strict=True):
        copied = statistics.fmean(math.log(theirs[clock]) for theirs in round_copies)
        log_ratios.append(math.log(mine[clock]) - copied)
    return statistics.median(log_ratios)


class Opened:
    """A network's file in a runtime. `x` is its input: write the next one into it; `outputs()` has
    the answer of the last `call()`.
    """

    def __init__(self, path: Path, mode: str, x: Array, threads: int, device: str = "cpu") -> None:
        """`x` (N, C, H, W): shape and type of the input; ImportError: no runtime; RuntimeError: not
        on this device.
        """
        self.x = np.ascontiguousarray(x).copy()
        self.call, self.outputs = OPENERS[mode.removesuffix(INT8)](path, self.x, threads, device)


# (calls the network, fetches its outputs)
Ready = tuple[Call, Callable[[], list[Array]]]


def _onnxruntime(path: Path, x: Array, threads: int, device: str) -> Ready:
    return _by_provider(
        "CUDAExecutionProvider" if device == "cuda" else "CPUExecutionProvider", path, x, threads
    )


def _tensorrt(path: Path, x: Array, threads: int, _device: str) -> Ready:
    """In ONNX Runtime: TensorRT builds the parts that it supports, CUDA runs the rest."""
    return _by_provider(
        "TensorrtExecutionProvider", path, x, threads, trt_fp16_enable=x.dtype == np.float16
    )


def _by_provider(provider: str, path: Path, x: Array, threads: int, **settings: bool) -> Ready:
    """In ONNX Runtime. RuntimeError: it has no such provider, or falls back to another because a
    library is missing.
    """
    import onnxruntime

    device = "cpu" if provider == "CPUExecutionProvider" else "cuda"
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    tensorrt = provider.startswith("Tensorrt")
    used = []
    if provider in onnxruntime.get_available_providers():
        providers = [(provider, settings), *(["CUDAExecutionProvider"] if tensorrt else [])]
        session = onnxruntime.InferenceSession(str(path), options, providers=providers)
        used = session.get_providers()[:1]
    if used != [provider]:
        needed = "onnxruntime-gpu"
        if tensorrt:
            needed = "onnxruntime-gpu and tensorrt"
        raise RuntimeError(
            f"ONNX Runtime cannot use its {provider} here: install {needed}, or choose another"
            " latency.mode"
        )
    binding = session.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(x, device)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, device)
    return lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu


def _openvino(path: Path, x: Array, threads: int, _device: str) -> Ready:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return request.infer, lambda: [
        request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))
    ]


OPENERS: Mapping[str, Callable[[Path, Array, int, str], Ready]] = {
    "onnxruntime": _onnxruntime,
    "tensorrt": _tensorrt,
    "openvino": _openvino,
}
# of modes whose package has another name
PACKAGE_NAMES = {"tensorrt": "onnxruntime"}


def cpu_name() -> str:
    """The CPU's model as the system names it; if it names none, the board's."""
    for file, line in (("/proc/cpuinfo", "model name"), ("/proc/device-tree/model", "")):
        try:
            text = Path(file).read_text("utf-8", errors="replace")
        except OSError:
            continue
        for row in text.splitlines():
            if row.partition(":")[0].strip() == line or not line:
                return row.partition(":")[2].strip() or row.strip("\0 ")
    return platform.processor() or platform.machine()


def gpu_name() -> str:
    """Name of the first GPU from NVIDIA's driver; empty if there is none."""
    asked = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
    try:
        return (
            subprocess.run(asked, capture_output=True, text=True, check=True).stdout.splitlines()
            or [""]
        )[0].strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def main(folder: Path, sessions: int) -> Iterator[Measured]:
    """Runs sessions of all networks of a folder, and writes `results.json` there after each.
    Yields the bare backbone's milliseconds in each.
    """
    order = json.loads((folder / ORDER_FILE).read_text("utf-8"))
    machine = _fingerprint(order)
    done: list[dict[str, Any]] = []
    for number in range(sessions):
        keys = list(order["networks"])
        random.Random(number).shuffle(keys)
        for first in range(0, len(keys), MAX_CANDIDATES):
            group = keys[first : first + MAX_CANDIDATES]
            done.append({"fingerprint": machine, **_session(folder, order, group, number)})
            part = folder / f"{RESULTS_FILE}.part"
            part.write_text(json.dumps(done), "utf-8")
            part.replace(folder / RESULTS_FILE)
        yield {
            "session": number + 1,
            "sessions": sessions,
            "reference_ms": done[-1]["reference_ms"],
        }


def _session(
    folder: Path, order: Mapping[str, Any], keys: Sequence[str], seed: int
) -> dict[str, Any]:
    started_at = time.time()
    began = time.perf_counter()
    section = order["section"]
    shape = (section["batch_size"], *order["input_shape"])
    x = np.random.default_rng(seed).standard_normal(shape).astype(section["dtype"])
    files = [order["reference"], order["reference"], *(order["networks"][key] for key in keys)]
    opened = [
        Opened(folder / file, section["mode"], x, section["threads"], section["device"])
        for file in files
    ]
    own_time = order["conditions"]["clock"] == "thread"
    turns = [_turn(network.call, own_time) for network in opened]
    gc.collect()
    gc.disable()
    try:
        times, calls = time_rounds(turns, random.Random(seed), seconds=section["session_seconds"])
    finally:
        gc.enable()
    facts = {
        "conditions": order["conditions"],
        "started_at": started_at,
        "duration_s": time.perf_counter() - began,
    }
    # Windows has none
    load = getattr(os, "getloadavg", None)
    return {
        **facts,
        **summary(times, keys, calls),
        "notes": {"load": f"{load()[0]:.2f}"} if load else {},
    }


def _turn(call: Call, own_time: bool) -> Turn:
    return lambda calls: host_turn(call, calls, own_time=own_time)


def _fingerprint(order: Mapping[str, Any]) -> dict[str, Any]:
    section = order["section"]
    runtime = PACKAGE_NAMES.get(section["mode"], section["mode"].removesuffix(INT8))
    details = {
        "mode": section["mode"],
        "threads": str(section["threads"]),
        "machine": platform.machine(),
        "cpus": str(os.cpu_count()),
        "system": platform.system(),
        "python": platform.python_version().rpartition(".")[0],
        runtime: str(importlib.import_module(runtime).__version__),
    }
    name = gpu_name() if section["device"] == "cuda" else ""
    return {
        "device": section["device"],
        "name": name or cpu_name(),
        "details": sorted(details.items()),
    }


def _open_file(path: Path, mode: str, threads: int) -> Turn:
    """The turn of a file, on zeros of its input's shape: on the thread's clock with one thread,
    else on the wall clock.
    """
    try:
        if mode.startswith("openvino"):
            sizes = (
                importlib.import_module("openvino")
                .Core()
                .read_model(str(path))
                .inputs[0]
                .partial_shape
            )
            sides = [side.get_length() if side.is_static else None for side in sizes]
        else:
            sides = (
                importlib.import_module("onnxruntime")
                .InferenceSession(str(path))
                .get_inputs()[0]
                .shape
            )
    except Exception as error:
        # each runtime has its own errors, with the reason only in their text
        if any(
            words in str(error)
            for words in ("rotobuf", "Unable to read the model", "can't be parsed")
        ):
            raise RuntimeError(
                f"'{path}' is not an ONNX file, or is damaged: export it again"
            ) from None
        raise
    batch, *rest = [side if isinstance(side, int) else None for side in sides]
    if None in rest:
        raise RuntimeError(f"the input of '{path}' has no fixed size: export it with one")
    device = "cuda" if mode == "tensorrt" else "cpu"
    opened = Opened(path, mode, np.zeros((batch or 1, *rest), np.float32), threads, device)
    return _turn(opened.call, threads == 1 and device == "cpu")


def one_file(path: Path, mode: str, threads: int, seconds: float = 1.0) -> float:
    """Measures one ONNX file.

    Args:
        path: of the file.
        mode: the runtime, `onnxruntime`.
        threads: of the runtime.
        seconds: how long it is timed.

    Returns:
        Milliseconds per call: the median of its turns.
    """
    turn = _open_file(path, mode, threads)
    times, _ = time_rounds([turn, turn], random.Random(0), seconds=seconds)
    return statistics.median(own for own, _ in itertools.chain(*times))


def compare(
    paths: Sequence[Path], mode: str, threads: int, sessions: int, seconds: float = 2.0
) -> Iterator[Measured]:
    """Compares each ONNX file after the first with it, in paired sessions.

    Args:
        paths: of the files.
        mode: the runtime, `onnxruntime`.
        threads: of the runtime.
        sessions: how many each file has.
        seconds: how long one takes.

    Returns:
        Of each file its time in times of the first one's, and its milliseconds.
    """
    first, *others = paths
    for start in range(0, len(others), MAX_CANDIDATES):
        group = others[start : start + MAX_CANDIDATES]
        turns = [_open_file(path, mode, threads) for path in (first, first, *group)]
        results = []
        for number in range(sessions):
            times, calls = time_rounds(turns, random.Random(number), seconds=seconds)
            results.append(summary(times, [str(path) for path in group], calls)["samples"])
        for path, samples in zip(group, zip(*results, strict=True), strict=True):
            ratios = sorted(math.exp(sample["log_ratio"]) for sample in samples)
            took = statistics.median(sample["candidate_ms"] for sample in samples)
            yield {
                "path": str(path),
                "first": str(first),
                "ratio": statistics.median(ratios),
                "low": ratios[0],
                "high": ratios[-1],
                "sessions": sessions,
                "ms": took,
            }


def measured_line(measured: Measured) -> str:
    """What was measured, as a line for people. It is here, since this file runs alone."""
    if "session" in measured:
        return (
            f"session {measured['session']}/{measured['sessions']}: the bare backbone takes"
            f" {measured['reference_ms']:.3f} ms"
        )
    if "ratio" in measured:
        return (
            f"{measured['path']}: {measured['ratio']:.3f} times the time of {measured['first']}"
            f" ({measured['low']:.3f} to {measured['high']:.3f} in {measured['sessions']}"
            f" sessions), {measured['ms']:.3f} ms"
        )
    return str(measured["ms"])


def read_arguments() -> argparse.Namespace:
    """The program's arguments."""
    parser = argparse.ArgumentParser(
        description="Measures networks on this device. It needs numpy and a runtime."
    )
    parser.add_argument(
        "paths",
        nargs="*",
        type=Path,
        help=(
            "a folder with ONNX files or from nas-attn measure --to (where this program is); or one"
            " ONNX file, to print its milliseconds; or several, to compare the others with the"
            " first"
        ),
    )
    parser.add_argument("--sessions", type=int, default=6, help="sessions for each network (6)")
    parser.add_argument(
        "--mode", help="runtime of ONNX files: onnxruntime (the default), openvino or tensorrt"
    )
    parser.add_argument("--threads", type=int, help="CPU threads for ONNX files (1)")
    parser.add_argument(
        "--json", action="store_true", help="a JSON object a line, errors too: for programs"
    )
    return parser.parse_args()


def measured_files(asked: argparse.Namespace) -> Iterator[Measured]:
    """Measures what the arguments name."""
    paths: list[Path] = asked.paths or [Path(__file__).resolve().parent]
    if missing := [path for path in paths if not path.exists()]:
        raise RuntimeError(f"'{missing[0]}' does not exist: give a file or folder")
    if len(paths) == 1 and (paths[0] / ORDER_FILE).exists():
        if asked.mode or asked.threads:
            raise RuntimeError(f"mode and threads are in '{paths[0] / ORDER_FILE}': leave them out")
        yield from main(paths[0], asked.sessions)
        return
    mode = asked.mode or "onnxruntime"
    threads = asked.threads or 1
    if len(paths) == 1 and paths[0].is_dir():
        (folder,) = paths
        paths = sorted(
            folder.glob("*.onnx"), key=lambda path: (not path.name.startswith("bare"), path.name)
        )
        if len(paths) < 2:
            raise RuntimeError(
                f"'{folder}' has {len(paths)} ONNX files: give it two or more, the first named"
                " bare.onnx"
            )
    if len(paths) == 1:
        yield {"ms": one_file(paths[0], mode, threads)}
        return
    yield from compare(paths, mode, threads, asked.sessions)


def run(asked: argparse.Namespace) -> int:
    """Prints what is measured; returns the exit status."""
    if asked.json:
        return _run_for_a_program(asked)
    try:
        for measured in measured_files(asked):
            print(measured_line(measured), flush=True)
    except Exception as error:
        # missing runtime or device, wrong file: each runtime has its own errors
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


def _run_for_a_program(asked: argparse.Namespace) -> int:
    """The same as JSON objects, a line each, the error too."""
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as lines:
        # some runtimes print lines of their own
        os.dup2(2, 1)
        try:
            for measured in measured_files(asked):
                print(json.dumps(measured), file=lines, flush=True)
        except Exception as error:
            print(json.dumps({"error": str(error)}), file=lines, flush=True)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(run(read_arguments()))
