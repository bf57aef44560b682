"""Runs an exported network where nas_attn cannot be imported: batches on standard input, outputs on standard output.

    python stranger.py FORMAT FILE

Each batch is a line that says its shape and kind, then its bytes; so is each answer. It imports what someone has who was
given the file.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[Any]


def send(pipe: IO[bytes], array: Array) -> None:
    """Writes an array; numpy's own format wants a file that can be sought in."""
    pipe.write(json.dumps([array.shape, array.dtype.str]).encode() + b"\n" + np.ascontiguousarray(array).tobytes())
    pipe.flush()


def receive(pipe: IO[bytes]) -> Array | None:
    """Reads an array; None at the end."""
    head = pipe.readline()
    if not head:
        return None
    shape, kind = json.loads(head)
    kind = np.dtype(kind)
    return np.frombuffer(pipe.read(int(np.prod(shape)) * kind.itemsize), kind).reshape(shape).copy()


def _onnx(path: str) -> Callable[[Array], Array]:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name

    def run(x: Array) -> Array:
        output: Array = session.run(None, {name: x})[0]
        return output

    return run


def _program(path: str) -> Callable[[Array], Array]:
    import torch

    return _torch(torch.export.load(path).module())


def _python(path: str) -> Callable[[Array], Array]:
    import importlib.util

    spec = importlib.util.spec_from_file_location("exported", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return _torch(module.load())


def _torch(network: Any) -> Callable[[Array], Array]:
    import torch

    def run(x: Array) -> Array:
        with torch.no_grad():
            found = network(torch.from_numpy(x))
        if isinstance(found, list):
            return boxes(found)
        output: Array = (found["out"] if isinstance(found, dict) else found).numpy()
        return output

    return run


def boxes(found: Any) -> Array:
    """What a detector of torchvision answers for N images as one array (N, K, 6), zeros where an image has fewer boxes than K.

    Of each box left, top, right, bottom, score, class.
    """
    rows = [np.hstack([o["boxes"], o["scores"][:, None], o["labels"][:, None]]) for o in found]
    table = np.zeros((len(rows), max(map(len, rows)), 6), np.float32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


RUNNERS = {"onnx": _onnx, "torch": _program, "python": _python}


def main() -> None:
    """Answers one batch after another, until there is none."""
    sys.modules["nas_attn"] = None  # type: ignore[assignment]  # whoever imports it gets an error
    run = RUNNERS[sys.argv[1]](sys.argv[2])
    target = sys.stdout.buffer
    sys.stdout = sys.stderr  # what a backbone prints is no answer
    while (x := receive(sys.stdin.buffer)) is not None:
        send(target, run(x))


if __name__ == "__main__":
    main()
