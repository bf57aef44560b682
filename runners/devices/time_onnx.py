"""Times one ONNX file where it runs, with numpy and ONNX Runtime or OpenVINO.

`ssh.sh` copies it to a board.

    python time_onnx.py net.onnx onnxruntime 4      # file, runtime, threads

Prints the milliseconds of each call of a second, ten at least.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import numpy as np

SECONDS = 1.0
FEWEST = 10


def in_onnxruntime(file: str, threads: int) -> Callable[[], object]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    # a free size, of the batch, is a name
    x = np.zeros([side if isinstance(side, int) else 1 for side in given.shape], np.float32)
    return lambda: session.run(None, {given.name: x})


def in_openvino(file: str, threads: int) -> Callable[[], object]:
    import openvino

    settings = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY"}
    compiled = openvino.Core().compile_model(file, "CPU", settings)
    sides = compiled.inputs[0].partial_shape
    x = np.zeros([side.get_length() if side.is_static else 1 for side in sides], np.float32)
    return lambda: compiled(x)


RUNTIMES = {"onnxruntime": in_onnxruntime, "openvino": in_openvino}


def main(file: str, runtime: str, threads: str) -> None:
    if runtime not in RUNTIMES:
        sys.exit(f"unknown runtime '{runtime}': give {' or '.join(RUNTIMES)}")
    call = RUNTIMES[runtime](file, int(threads))
    for _ in range(2):
        call()
    times: list[float] = []
    while len(times) < FEWEST or sum(times) < 1000 * SECONDS:
        began = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - began))
    print(*times)


if __name__ == "__main__":
    main(*sys.argv[1:])
