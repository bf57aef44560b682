"""An ONNX file as int8 and for OpenVINO: what becomes of its accuracy and of its time, beside float32."""

from __future__ import annotations

import hashlib
import importlib.util
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas_attn.data import Split
from nas_attn.errors import OperationError, UserError, shorten
from nas_attn.export.card import CALIBRATED_ON
from nas_attn.export.checking import medians
from nas_attn.export.verifying import Run, batches, count_right

Array = NDArray[Any]
ONNX_RUNTIME = "ONNX Runtime"
NEEDED = {
    "int8": ("onnxruntime", "pip install 'nas-attn[onnx]'"),
    "openvino": ("openvino", "pip install 'nas-attn[openvino]'"),
}
"""What can be had beside the float32 file -> the package that it takes, and how to get it."""


def known_kinds(kinds: Iterable[str]) -> None:
    """Raises:
    UserError: there is no such kind, or its package is not installed.
    """
    for kind in kinds:
        if kind not in NEEDED:
            raise UserError(f"--also '{shorten(kind)}' is nothing that export makes: give {' or '.join(NEEDED)}")
        package, way = NEEDED[kind]
        if importlib.util.find_spec(package) is None:
            raise UserError(f"--also {kind} needs {package}, which is not installed: {way}")


@dataclass(frozen=True, slots=True)
class Deployed:
    """One way of running a network, on the validation images."""

    network: str
    """`this`, or `no attention`: whether a gain survives is seen beside it."""
    precision: str
    """`float32` or `int8`."""
    runtime: str
    version: str
    file: str | None
    """None: computed from another row's file, or not kept."""
    sha256: str | None
    bytes: int
    """Of the model's file or files."""
    right: int
    images: int
    ms: float
    """Median for one image, one thread."""

    def as_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**asdict(self), "accuracy": self.right / self.images}


def deploy(
    path: Path, kinds: Sequence[str], split: Split, *, raw: bool, network: str = "this", keep: bool = True
) -> list[Deployed]:
    """Writes what is asked for beside an ONNX file, scores all of it on the validation images, and times it in turns.

    Args:
        kinds: of NEEDED.
        raw: the file takes uint8 images and normalises them itself.
        keep: False: nothing stays beside the file.

    Raises:
        UserError: a kind is unknown, or its package is not there.
        OperationError: the network cannot be quantised or converted.
    """
    known_kinds(kinds)
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
        place = path.parent if keep else Path(folder)
        found = list(_runners(path, kinds, split, raw, place))
        images = next(iter(batches(split, 1, raw=raw)))[0]
        times = medians(*[lambda run=run: run(images) for *_, run in found])
        return [
            Deployed(
                network,
                precision,
                runtime,
                version,
                files[0].name if keep and files else None,
                hashlib.sha256(files[0].read_bytes()).hexdigest() if keep and files else None,
                sum(file.stat().st_size for file in files),
                count_right(run, split, raw=raw),
                len(split),
                ms,
            )
            for (precision, runtime, version, files, run), ms in zip(found, times, strict=True)
        ]


_Found = tuple[str, str, str, tuple[Path, ...], Run]
"""Precision, runtime, its version, the files of this way, what runs a batch."""


def _runners(path: Path, kinds: Sequence[str], split: Split, raw: bool, place: Path) -> Iterator[_Found]:
    import onnxruntime

    yield "float32", ONNX_RUNTIME, onnxruntime.__version__, (path,), _onnxruntime(path)
    quantised = place / f"{path.stem}.int8.onnx"
    if "int8" in kinds:
        _attempt("quantised to int8", lambda: quantise(path, quantised, split, raw=raw))
        yield "int8", ONNX_RUNTIME, onnxruntime.__version__, (quantised,), _onnxruntime(quantised)
    if "openvino" in kinds:
        import openvino

        version = openvino.__version__.partition("-")[0]
        target = place / f"{path.stem}.xml"
        _attempt("converted for OpenVINO", lambda: openvino.save_model(openvino.convert_model(path), target, False))
        yield "float32", "OpenVINO", version, (target, target.with_suffix(".bin")), openvino_run(target)
        if "int8" in kinds:  # OpenVINO reads the same file
            yield "int8", "OpenVINO", version, (quantised,), openvino_run(quantised)


def _attempt(what: str, make: Callable[[], object]) -> None:
    try:
        make()
    except OSError as error:
        raise OperationError(f"the network cannot be {what}: {error}") from None
    except Exception as error:  # the libraries raise what they like
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OperationError(f"the network cannot be {what}: {shorten(first)}") from error


def quantise(path: Path, target: Path, split: Split, *, raw: bool) -> None:
    """ONNX Runtime's static quantisation: weights per channel, ranges by the validation images."""
    import logging

    from onnxruntime import quantization
    from onnxruntime.quantization.shape_inference import quant_pre_process

    class Images(quantization.CalibrationDataReader):  # type: ignore[misc]
        def __init__(self) -> None:
            self._batches = islice(batches(split, 16, raw=raw), -(-CALIBRATED_ON // 16))

        def get_next(self) -> dict[str, Array] | None:
            found = next(self._batches, None)
            return None if found is None else {"image": found[0]}

    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # it says at length what it does in any case
    try:
        with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
            prepared, made = Path(folder) / "prepared.onnx", Path(folder) / "int8.onnx"
            quant_pre_process(str(path), str(prepared), skip_symbolic_shape=True)
            quantization.quantize_static(
                str(prepared),
                str(made),
                Images(),
                quant_format=quantization.QuantFormat.QDQ,
                per_channel=True,
                activation_type=quantization.QuantType.QUInt8,
                weight_type=quantization.QuantType.QInt8,
            )
            target.write_bytes(made.read_bytes())
    finally:
        logging.disable(before)


def _onnxruntime(path: Path) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def run(x: Array) -> Array:
        output: Array = session.run(None, {"image": x})[0]
        return output

    return run


def openvino_run(path: Path) -> Run:
    """A model of OpenVINO's, or an ONNX file, on one thread of the CPU, in the file's own precision."""
    import openvino

    settings = {"INFERENCE_NUM_THREADS": 1, "NUM_STREAMS": 1, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = openvino.Core().compile_model(str(path), "CPU", settings)

    def run(x: Array) -> Array:
        return np.asarray(compiled(x)[0])

    return run
