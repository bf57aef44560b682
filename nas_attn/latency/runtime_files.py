"""Networks as files of other runtimes: ONNX, also in int8."""

from __future__ import annotations

import io
import logging
import math
import os
import statistics
import traceback
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.fx.experimental.symbolic_shapes import GuardOnDataDependentSymNode

from nas_attn.attachment.containers import CHILD
from nas_attn.errors import MeasurementError, first_line
from nas_attn.latency.paired import Call
from nas_attn.recipe.recipe import LatencySection
from nas_attn.system.importing import installing

Array = NDArray[Any]
# (calls the network, fetches its outputs)
Opened = tuple[Call, Callable[[], list[Array]]]
# at the end of the modes that run a quantized network
INT8 = "-int8"
CALIBRATION = 64
"""Images that give the ranges of the activations."""
OPERATIONS = ("Conv", "Gemm", "MatMul", "Add")
"""What is quantized; the rest of a module (pooling, sigmoid) stays float."""
LIGHT = 0.25
"""Attention's layers with fewer MACs than this share of the backbone's median layer stay in float:
in int8, CBAM's are slower than in float, GAM's faster (docs/benchmarks/latency.md).
"""


@contextmanager
def quiet() -> Iterator[None]:
    """Without what exporters print: progress, deprecations of their own, and graphs before they
    fail.
    """
    level = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        nowhere = io.StringIO()
        with warnings.catch_warnings(), redirect_stdout(nowhere), redirect_stderr(nowhere):
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)


def why_not_exported(error: BaseException) -> str:
    """Why torch could not export a network, in one line: the branch that looks at values, or what
    the exporter says first.
    """
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, GuardOnDataDependentSymNode):
            return (
                f"it branches on the values of an image{_place(cause)}: torch.where can be"
                " exported in place of a branch"
            )
        cause = cause.__cause__ or cause.__context__
    return first_line(error)


def _place(error: BaseException) -> str:
    """Where the network's code was when torch raised: the last line that is not torch's."""
    folder = str(Path(torch.__file__).parent)
    lines = traceback.extract_tb(error.__traceback__)
    own = [line for line in lines if not line.filename.startswith((folder, "<"))]
    if not own:
        return ""
    return f", at {Path(own[-1].filename).name}:{own[-1].lineno} (`{own[-1].line}`)"


def open_onnx(
    path: Path, *, threads: int = 0, providers: Sequence[str] = ("CPUExecutionProvider",)
) -> Any:
    """An ONNX file in ONNX Runtime, as its `InferenceSession`.

    Args:
        path: of the file.
        threads: that compute; 0: as many as ONNX Runtime takes.
        providers: ONNX Runtime's names of what computes.

    Raises:
        ModuleNotFoundError: ONNX Runtime is not installed.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=list(providers))


def write_onnx(model: nn.Module, x: Tensor, path: Path) -> None:
    """The model as an ONNX file for x's shape (N, C, H, W); MeasurementError: the `onnx` extra is
    not installed.
    """
    try:
        with quiet():
            torch.onnx.export(
                model, (x,), str(path), dynamo=True, external_data=False, verbose=False
            )
    except ModuleNotFoundError as error:
        raise MeasurementError(
            f"exporting to ONNX needs '{error.name}': {installing('onnx')}"
        ) from None


def quantize(path: Path, images: Array, batch_size: int) -> None:
    """Replaces a float file by one that ONNX Runtime and OpenVINO execute in int8. Weights have a
    scale per channel, activations one per tensor, from their range on images.

    Args:
        path: of the ONNX file.
        images: float32 (M, C, H, W).
        batch_size: images that the file takes at a time.

    Raises:
        MeasurementError: the `onnx` extra is missing.
    """
    try:
        import onnx
        from onnxruntime.quantization import (
            CalibrationDataReader,
            QuantFormat,
            QuantType,
            quantize_static,
        )
    except ModuleNotFoundError as error:
        raise MeasurementError(f"quantizing needs '{error.name}': {installing('onnx')}") from None
    graph = onnx.load(str(path)).graph
    name = graph.input[0].name
    kept = _light_gates(graph)

    class Calibrating(CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self.batches: Iterator[Array] = iter(_batches(images, batch_size))

        def get_next(self) -> dict[str, Array] | None:
            batch = next(self.batches, None)
            return None if batch is None else {name: batch}

    quantized = path.with_suffix(".int8")
    level = logging.root.level
    # it recommends steps that torch's exporter has done already
    logging.root.setLevel(logging.ERROR)
    try:
        quantize_static(
            str(path),
            str(quantized),
            Calibrating(),
            per_channel=True,
            # weights of 7 bits: in 8, sums of products overflow on x86 processors without VNNI
            reduce_range=True,
            op_types_to_quantize=list(OPERATIONS),
            nodes_to_exclude=kept,
            quant_format=QuantFormat.QDQ,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
        )
    finally:
        logging.root.setLevel(level)
    os.replace(quantized, path)


def _light_gates(graph: Any) -> list[str]:
    """Names of the light nodes of attention modules in an ONNX graph; each node names its
    module.
    """
    sizes = {one.name: math.prod(one.dims) for one in graph.initializer}
    shapes = {}
    for value in graph.value_info:
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    nodes: dict[bool, list[tuple[int, str]]] = {True: [], False: []}
    for node in graph.node:
        weight = max((sizes.get(name, 0) for name in node.input), default=0)
        if node.op_type == "Add" or (weight and node.op_type in OPERATIONS):
            macs = 0
            if node.op_type != "Add":
                macs = weight * math.prod(shapes.get(node.output[0], [])[2:])
            scopes = (
                one.value for one in node.metadata_props if one.key == "pkg.torch.onnx.name_scopes"
            )
            nodes[any(CHILD in scope for scope in scopes)].append((macs, node.name))
    limit = LIGHT * statistics.median([macs for macs, _ in nodes[False] if macs] or [0])
    return [name for macs, name in nodes[True] if macs < limit]


def _batches(images: Array, size: int) -> list[Array]:
    """Whole batches; fewer images than one are repeated."""
    rows = images.take(range(max(size, len(images) // size * size)), axis=0, mode="wrap")
    return [rows[i : i + size] for i in range(0, len(rows), size)]


def write_runtime_file(
    model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None, path: Path
) -> None:
    """Writes the ONNX file that a latency mode runs.

    Args:
        model: the network, as it is deployed.
        section: names the mode.
        x: an input (N, C, H, W), for whose shape the file is made.
        images: float32 (M, C, H, W), calibrate a quantized mode; None: noise.
        path: of the file.
    """
    write_onnx(model, x, path)
    if section.row.quantized:
        if images is None:
            images = torch.randn(CALIBRATION, *x.shape[1:])
        quantize(path, images.cpu().numpy(), len(x))


def opened(section: LatencySection, x: Array, path: Path) -> Opened:
    """A network's file in a latency mode's runtime.

    Args:
        section: names the mode, the threads and the device.
        x: the input (N, C, H, W), contiguous; it must live as long as the network.
        path: of the file.

    Returns:
        What calls the network, and what fetches the outputs of the last call.

    Raises:
        MeasurementError: the runtime cannot use the device.
    """
    return OPENERS[section.mode.removesuffix(INT8)](section, x, path)


def _in_onnxruntime(section: LatencySection, x: Array, path: Path) -> Opened:
    import onnxruntime

    provider = "CUDAExecutionProvider" if section.device == "cuda" else "CPUExecutionProvider"
    used = []
    if provider in onnxruntime.get_available_providers():
        session = open_onnx(path, threads=section.threads, providers=[provider])
        used = session.get_providers()[:1]
    # it falls back to another one if a library is missing
    if used != [provider]:
        raise MeasurementError(
            f"ONNX Runtime cannot use its {provider} here: install onnxruntime-gpu, or choose"
            " another latency.mode"
        )
    binding = session.io_binding()
    value = onnxruntime.OrtValue.ortvalue_from_numpy(x, section.device)
    binding.bind_ortvalue_input(session.get_inputs()[0].name, value)
    for output in session.get_outputs():
        binding.bind_output(output.name, section.device)
    return lambda: session.run_with_iobinding(binding), binding.copy_outputs_to_cpu


def _in_openvino(section: LatencySection, x: Array, path: Path) -> Opened:
    import openvino

    settings = {
        "INFERENCE_NUM_THREADS": section.threads,
        "PERFORMANCE_HINT": "LATENCY",
        "INFERENCE_PRECISION_HINT": "f32",
    }
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)
    request = compiled.create_infer_request()
    request.set_input_tensor(openvino.Tensor(x, shared_memory=True))
    return request.infer, lambda: [
        request.get_output_tensor(i).data.copy() for i in range(len(compiled.outputs))
    ]


OPENERS: Mapping[str, Callable[[LatencySection, Array, Path], Opened]] = {
    "onnxruntime": _in_onnxruntime,
    "openvino": _in_openvino,
}
"""Runtime -> what opens its files."""
