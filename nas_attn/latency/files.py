"""Networks as files of other runtimes: ONNX, in float or quantized to int8 by ONNX Runtime, and ncnn."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_attn.errors import MeasurementError
from nas_attn.latency.paired import Array

CALIBRATION = 64
"""Images from which the ranges of the activations are taken."""
OPERATIONS = ("Conv", "Gemm", "MatMul", "Add")
"""What is quantized; the rest of an attention module (pooling, sigmoid, product) stays in float."""


def write_onnx(model: nn.Module, x: Tensor, path: Path) -> None:
    """Writes the model as an ONNX file for inputs of x's shape (N, C, H, W).

    Raises:
        MeasurementError: the `onnx` extra is not installed.
    """
    try:
        with warnings.catch_warnings():  # the exporter's own deprecations
            warnings.simplefilter("ignore")
            torch.onnx.export(model, (x,), str(path), dynamo=True, external_data=False, verbose=False)
    except ModuleNotFoundError as error:
        raise MeasurementError(f"exporting to ONNX needs '{error.name}': pip install 'nas-attn[onnx]'") from None


def write_ncnn(model: nn.Module, x: Tensor, path: Path) -> None:
    """Writes the model for ncnn, `path` (.param) and the .bin beside it, by way of TorchScript and pnnx.

    Args:
        x: one image (1, C, H, W).

    Raises:
        MeasurementError: ncnn or pnnx is not installed, x holds several images, or pnnx cannot convert the network.
    """
    try:
        import pnnx
    except ModuleNotFoundError:
        raise MeasurementError("ncnn needs pnnx: pip install 'nas-attn[ncnn]'") from None
    if len(x) != 1:
        raise MeasurementError(f"ncnn takes one image at a time, not {len(x)}: set latency.batch_size = 1")
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # TorchScript is deprecated
        traced = torch.jit.trace(model, x, check_trace=False)  # type: ignore[no-untyped-call]
        traced.save(f"{folder}/model.pt")
        shape = f"inputshape=[{','.join(map(str, x.shape))}]"
        done = subprocess.run(
            [pnnx.EXEC_PATH, "model.pt", shape, "fp16=0"], cwd=folder, capture_output=True, text=True, errors="replace"
        )
        made = [Path(folder) / f"model.ncnn{suffix}" for suffix in (".param", ".bin")]
        if done.returncode or not all(file.exists() for file in made):
            raise MeasurementError(f"pnnx cannot convert the network for ncnn (it ended with {done.returncode})")
        for file in made:
            path.with_suffix(file.suffix).write_bytes(file.read_bytes())


def quantize(path: Path, images: Array, batch_size: int) -> None:
    """Replaces a float file by one with quantize and dequantize nodes, which ONNX Runtime and OpenVINO execute in int8.

    Weights have a scale per channel, activations one per tensor, from their smallest and largest values on the images.

    Args:
        images: float32 (M, C, H, W), as the network takes them.
        batch_size: of the file's input.

    Raises:
        MeasurementError: the `onnx` extra is not installed.
    """
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    except ModuleNotFoundError as error:
        raise MeasurementError(f"quantizing needs '{error.name}': pip install 'nas-attn[onnx]'") from None
    name = onnx.load(str(path)).graph.input[0].name

    class Images(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Array] = iter(_batches(images, batch_size))

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    made = path.with_suffix(".int8")
    level = logging.root.level
    logging.root.setLevel(logging.ERROR)  # it advises on preparations that torch's exporter has made
    try:
        quantize_static(
            str(path),
            str(made),
            Images(),
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            per_channel=True,
            op_types_to_quantize=list(OPERATIONS),
        )
    finally:
        logging.root.setLevel(level)
    os.replace(made, path)


def _batches(images: Array, size: int) -> list[Array]:
    """Whole batches; fewer images than one are repeated."""
    rows = images.take(range(max(size, len(images) // size * size)), axis=0, mode="wrap")
    return [rows[i : i + size] for i in range(0, len(rows), size)]
