"""ncnn on this machine's CPU: `pip install ncnn pnnx` beside `nas-attn[onnx]`.

    [latency]
    mode = "command"
    command = "python runners/devices/ncnn.py {onnx}"

Prints the milliseconds of twenty calls with one thread, in float32. pnnx does not translate every
operator of ONNX (no maximum over channels, as in CBAM): the error names it.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

# this file has the library's name
sys.path.pop(0)

import ncnn
import numpy as np
import onnx
import pnnx

CALLS = 20


def main(file: str) -> None:
    (given,) = onnx.load(file).graph.input
    shape = [side.dim_value for side in given.type.tensor_type.shape.dim]
    if shape[0] != 1:
        sys.exit("ncnn takes one image at a time: set latency.batch_size = 1")
    with tempfile.TemporaryDirectory() as folder:
        copied = Path(folder) / "net.onnx"
        copied.write_bytes(Path(file).read_bytes())
        command = [pnnx.EXEC_PATH, copied.name, f"inputshape={shape}".replace(" ", ""), "fp16=0"]
        if subprocess.run(command, cwd=folder, capture_output=True).returncode:
            sys.exit("pnnx cannot convert this network")
        net = ncnn.Net()
        net.opt.num_threads = 1
        net.opt.use_fp16_packed = net.opt.use_fp16_storage = net.opt.use_fp16_arithmetic = False
        # ncnn prints which operator it lacks
        failed = net.load_param(f"{folder}/net.ncnn.param")
        failed = failed or net.load_model(f"{folder}/net.ncnn.bin")
        if failed:
            sys.exit("ncnn lacks an operator of this network")
        x = np.zeros(shape[1:], np.float32)
        times = [milliseconds(net, x) for _ in range(CALLS + 2)]
    print(*times[2:])


def milliseconds(net: ncnn.Net, x: np.ndarray) -> float:
    began = time.perf_counter()
    extractor = net.create_extractor()
    extractor.input("in0", ncnn.Mat(x))
    code, _ = extractor.extract("out0")
    if code:
        sys.exit(f"ncnn ends with {code}")
    return 1000 * (time.perf_counter() - began)


if __name__ == "__main__":
    main(*sys.argv[1:])
