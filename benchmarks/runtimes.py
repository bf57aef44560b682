"""Modules × runtimes: does a network with the module export, run and compute the same, and what
does the module cost there?

    # writes benchmarks/runtimes.json, docs/reference/runtimes.md
    python -m benchmarks.runtimes
    python -m benchmarks.runtimes --runtimes onnxruntime openvino --modules se ela --print

The network is ResNet-8 (with 1x1 convolutions as shortcuts) on one 32x32 image, with the module at
every residual site and random weights. The time is that of the bare backbone in the same runtime,
measured in turns on one thread: the median over rounds of the ratio of CPU times. Each export runs
in a process of its own, since some converters crash. Runtimes that are not installed keep the
columns that the file has. They need not be in one environment; litert-torch asks for an older torch
than the rest.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import json
import logging
import multiprocessing
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from datetime import date
from pathlib import Path
from typing import Any

os.environ |= {"OMP_NUM_THREADS": "1", "TF_CPP_MIN_LOG_LEVEL": "3"}

import numpy as np
import torch
from torch import nn

import nas_attn as na
from nas_attn import backbones
from nas_attn.attention import catalogue
from nas_attn.backbones.cifar import Shortcut

HEADING = """\
# Modules and runtimes

Made by `python -m benchmarks.runtimes`; do not edit.

The network is ResNet-8 (with 1×1 convolutions as shortcuts) on one 32×32 image, with the module at
every residual site.

- A number: the network exports, runs, and its output is that of torch, to 1e-3 of the largest
  value. It takes so many times the CPU time of the bare backbone in the same runtime, on one
  thread.
- `differs`: it runs and gives another output. `no export`: the converter fails, or the runtime does
  not load what it writes. `does not run`, `crashes`: what fails later.

"""
FOOTER = """
Not tested: TensorRT, RKNN (Rockchip) and Core ML need hardware or a system that was not there.
"""

Run = Callable[[], np.ndarray[Any, Any]]
SHAPE = (3, 32, 32)
TOLERANCE = 1e-3
"""Largest difference of an output from torch's, divided by its largest value."""
LIMIT_S = 240
ROUNDS, ROUND_S = 11, 0.02


def torch_eager(network: nn.Module, x: torch.Tensor, folder: Path) -> Run:
    def run() -> np.ndarray[Any, Any]:
        with torch.inference_mode():
            y: np.ndarray[Any, Any] = network(x).numpy()
            return y

    return run


def write_onnx(network: nn.Module, x: torch.Tensor, folder: Path) -> str:
    path = folder / "network.onnx"
    if not path.exists():
        torch.onnx.export(network, (x,), str(path), dynamo=True, external_data=False, verbose=False)
    return str(path)


def onnxruntime(network: nn.Module, x: torch.Tensor, folder: Path) -> Run:
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    session = ort.InferenceSession(
        write_onnx(network, x, folder), options, providers=["CPUExecutionProvider"]
    )
    given = {session.get_inputs()[0].name: x.numpy()}
    return lambda: session.run(None, given)[0]


def openvino(network: nn.Module, x: torch.Tensor, folder: Path) -> Run:
    import openvino as ov

    settings = {"INFERENCE_NUM_THREADS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = ov.Core().compile_model(write_onnx(network, x, folder), "CPU", settings)
    return lambda: compiled([x.numpy()])[0]


def ncnn(network: nn.Module, x: torch.Tensor, folder: Path) -> Run:
    import ncnn as library
    import pnnx

    if not (folder / "network.ncnn.bin").exists():
        pnnx.export(network, str(folder / "network.pt"), x, fp16=False)
    net = library.Net()
    net.opt.num_threads = 1
    net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
    if net.load_param(str(folder / "network.ncnn.param")) or net.load_model(
        str(folder / "network.ncnn.bin")
    ):
        raise ValueError("ncnn cannot load what pnnx has written")

    def run() -> np.ndarray[Any, Any]:
        extractor = net.create_extractor()
        extractor.input("in0", library.Mat(x[0].numpy()))
        code, out = extractor.extract("out0")
        if code:
            raise ValueError(f"ncnn ends with {code}")
        return np.array(out)[None]

    return run


def litert(network: nn.Module, x: torch.Tensor, folder: Path) -> Run:
    import litert_torch
    from ai_edge_litert.interpreter import Interpreter

    path = folder / "network.tflite"
    if not path.exists():
        litert_torch.convert(network, (x,)).export(str(path))
    interpreter = Interpreter(model_path=str(path), num_threads=1)
    interpreter.allocate_tensors()
    given, taken = (
        interpreter.get_input_details()[0]["index"],
        interpreter.get_output_details()[0]["index"],
    )

    def run() -> np.ndarray[Any, Any]:
        interpreter.set_tensor(given, x.numpy())
        interpreter.invoke()
        y: np.ndarray[Any, Any] = interpreter.get_tensor(taken)
        return y

    return run


TABLE = Path(__file__).with_name("runtimes.json")
"""The results so far, from which the page is written."""
RUNTIMES: dict[str, tuple[Callable[[nn.Module, torch.Tensor, Path], Run], tuple[str, ...]]] = {
    "torch": (torch_eager, ("torch",)),
    "onnxruntime": (onnxruntime, ("onnxruntime", "onnx", "onnxscript")),
    "openvino": (openvino, ("openvino", "onnx", "onnxscript")),
    "ncnn": (ncnn, ("ncnn", "pnnx")),
    "litert": (litert, ("ai_edge_litert", "litert_torch")),
}
"""Name -> (what prepares a call, the packages that it needs, the runtime's own first)."""


def with_convolutions(model: nn.Module) -> nn.Module:
    """The same ResNet with 1x1 convolutions as shortcuts, like those of larger networks."""
    for block in model.modules():
        if isinstance(getattr(block, "shortcut", None), Shortcut):
            block.shortcut = nn.Conv2d(
                block.conv1.in_channels, block.conv1.out_channels, 1, stride=2
            )
    return model


def network_with(module: str | None) -> nn.Module:
    torch.manual_seed(0)
    model = with_convolutions(backbones.create("resnet8", input_shape=SHAPE, classes=10))
    if module is not None:
        own = {name for name, _ in model.named_parameters()}
        na.attach(
            model,
            " ".join(f"stage{i}@residual={module}" for i in (1, 2, 3)),
            input_shape=SHAPE,
            init="paper",
        )
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                if name not in own:  # nothing hides behind weights that start at zero
                    parameter.add_(0.1 * torch.randn_like(parameter))
    return model.eval()


def measure(module: str, runtime: str, bare: Path, pipe: Any) -> None:
    """Sends the cell of the table. In a process of its own."""
    for number in (1, 2):  # what converters print
        os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    x = torch.randn(1, *SHAPE, generator=torch.Generator().manual_seed(1))
    prepare = RUNTIMES[runtime][0]
    with tempfile.TemporaryDirectory() as folder:
        network = network_with(module)
        want = torch_eager(network, x, Path(folder))()
        pipe.send({"state": "no export"})
        run = prepare(network, x, Path(folder))
        pipe.send({"state": "does not run"})
        apart = float(np.abs(run() - want).max() / np.abs(want).max())
        if not apart <= TOLERANCE:
            pipe.send({"state": "differs", "apart": apart})
            return
        ratio = in_turns(run, prepare(network_with(None), x, bare))
        pipe.send({"state": "same", "apart": apart, "time": round(ratio, 2)})


def in_turns(run: Run, bare: Run) -> float:
    def seconds(call: Run, count: int) -> float:
        start = time.process_time()
        for _ in range(count):
            call()
        return time.process_time() - start

    for call in (run, bare):
        seconds(call, 3)
    count = max(1, int(ROUND_S / max(seconds(bare, 3) / 3, 1e-6)))
    return statistics.median(seconds(run, count) / seconds(bare, count) for _ in range(ROUNDS))


def cell(module: str, runtime: str, bare: Path) -> dict[str, Any]:
    """The last thing that the process said, whatever became of it."""
    context = multiprocessing.get_context("fork")
    receiver, sender = context.Pipe(duplex=False)
    process = context.Process(target=measure, args=(module, runtime, bare, sender))
    process.start()
    sender.close()
    found: dict[str, Any] = {"state": "no export"}
    until = time.monotonic() + LIMIT_S
    try:
        while receiver.poll(max(0.0, until - time.monotonic())):
            found = receiver.recv()
    except EOFError:
        pass
    if process.is_alive():
        process.join(5)
        process.kill()
    process.join()
    if found["state"] == "does not run" and process.exitcode is not None and process.exitcode < 0:
        found["state"] = "crashes"
    return found


def installed(runtime: str) -> str | None:
    """The runtime's version; None where a package is missing."""
    try:
        versions = [importlib.metadata.version(package) for package in RUNTIMES[runtime][1]]
    except importlib.metadata.PackageNotFoundError:
        return None
    return versions[0]


def measured() -> tuple[dict[str, dict[str, Any]], list[list[str]]]:
    """(Runtime -> version, date and result per module; the same as a table, titles first.)

    A result that has a version and a date of its own was measured with these, not with the
    runtime's.
    """
    columns: dict[str, dict[str, Any]] = json.loads(TABLE.read_text("utf-8"))
    lines = [["module", *columns]]
    for name in catalogue.ROWS:
        # plain layers run everywhere
        if name not in catalogue.CONTROLS:
            line = [name]
            for column in columns.values():
                cell = column["cells"].get(name, {"state": "not tested"})
                shown = cell["state"]
                if shown == "same":
                    shown = f"{cell['time']:.2f}"
                line.append(shown)
            lines.append(line)
    return columns, lines


def measured_with() -> list[str]:
    """For each runtime, in words, with which versions its results were measured, and when."""
    columns, _ = measured()
    sentences = []
    for runtime, column in columns.items():
        later: dict[str, list[str]] = {}
        for name, cell in column["cells"].items():
            if "version" in cell:
                later.setdefault(f"{cell['version']} on {cell['date']}", []).append(name)
        exceptions = "; ".join(f"{', '.join(names)} with {when}" for when, names in later.items())
        usual = f"{runtime} {column['version']} on {column['date']}"
        sentences.append(f"{usual} ({exceptions})" if exceptions else usual)
    return sentences


def page() -> str:
    """The page in Markdown."""
    _, (titles, *modules) = measured()
    rows = [titles, ["---"] * len(titles), *modules]
    listed = "Measured with:\n\n" + "".join(f"- {one}\n" for one in measured_with())
    return HEADING + "\n".join(f"| {' | '.join(row)} |" for row in rows) + "\n\n" + listed + FOOTER


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runtimes", nargs="+", choices=RUNTIMES, default=list(RUNTIMES))
    parser.add_argument(
        "--modules", nargs="+", choices=catalogue.ROWS, default=list(catalogue.ROWS)
    )
    parser.add_argument("--page", type=Path, default=Path("docs/reference/runtimes.md"))
    parser.add_argument("--print", action="store_true", help="write no file")
    given = parser.parse_args()
    table, _ = measured()
    for runtime in given.runtimes:
        version = installed(runtime)
        if version is None:
            print(f"{runtime} is not installed here: pip install {' '.join(RUNTIMES[runtime][1])}")
            continue
        for package in RUNTIMES[runtime][1]:  # once, before the processes of the cells
            importlib.import_module(package)
        now = {"version": version, "date": date.today().isoformat()}
        column = table.setdefault(runtime, {"cells": {}, **now})
        column |= now if set(given.modules) >= set(column["cells"]) else {}
        with tempfile.TemporaryDirectory() as bare:  # is exported once
            for module in given.modules:
                column["cells"][module] = found = cell(module, runtime, Path(bare))
                if column["date"] != now["date"]:  # the rest of the column is older
                    found |= now
                print(f"{runtime:>12} {module:>8} {found}", flush=True)
        if not given.print:
            TABLE.write_text(json.dumps(table, indent=1) + "\n")
            given.page.write_text(page())


if __name__ == "__main__":
    main()
