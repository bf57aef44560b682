"""LiteRT on this machine's CPU: `pip install onnx2tf ai-edge-litert`, with TensorFlow, into an
environment of its own.

    [latency]
    mode = "command"
    command = "ENVIRONMENT/bin/python runners/devices/litert.py {onnx}"

Prints the milliseconds of twenty calls with one thread, in float32.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

CALLS = 20
SAMPLES = "calibration_image_sample_data_20x128x128x3_float32.npy"


def main(file: str) -> None:
    onnx = Path(file).resolve()
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        # the converter compares its layers on images, which it downloads if they are not there
        np.save(SAMPLES, np.random.default_rng(0).random((20, 128, 128, 3), np.float32))
        # and prints a lot
        with contextlib.redirect_stdout(sys.stderr):
            import onnx2tf
            from ai_edge_litert.interpreter import Interpreter

            onnx2tf.convert(
                input_onnx_file_path=str(onnx), output_folder_path=".", non_verbose=True
            )
            (converted,) = Path().glob("*_float32.tflite")
            network = Interpreter(model_path=str(converted), num_threads=1)
            network.allocate_tensors()
        times = []
        for _ in range(CALLS + 2):
            began = time.perf_counter()
            network.invoke()
            times.append(1000 * (time.perf_counter() - began))
        os.chdir(onnx.parent)
    print(*times[2:])


if __name__ == "__main__":
    main(*sys.argv[1:])
