"""Writes a trained network with its attention into a file of a format that other programs read."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from nas_attn.errors import NasAttnError, OperationError, UserError, first_line, shorten
from nas_attn.export.graphs import Graph, Normalising, Order
from nas_attn.export.python_file import Described, python_source
from nas_attn.latency.nets import CALIBRATION, quantize, write_ncnn
from nas_attn.tasks import Task


@dataclass(frozen=True, slots=True)
class Format:
    """A kind of file that a network is written to."""

    name: str
    suffix: str
    begins: tuple[bytes, ...]
    """How its files begin, in small letters."""
    write: Callable[[Order], None]
    graph: bool = False
    """Whether it holds what is computed, and not the weights alone."""
    quantized: bool = False
    """Whether it computes in int8: its accuracy is scored by the file itself."""


def find_format(name: str, task: Task | None = None) -> Format:
    """A format by its name; those of the task too, where it is given.

    Raises:
        UserError: there is no such format.
    """
    known = {**FORMATS, **(task.answers.formats() if task is not None else {})}
    if name not in known:
        raise UserError(f"unknown format '{shorten(name)}': give {', '.join(known)}")
    return known[name]


def normalising(graph: nn.Module, described: Described, format_: Format) -> nn.Module:
    """The network with its images' normalisation inside.

    Raises:
        UserError: the format holds no graph, or there is no normalisation.
    """
    if not format_.graph:
        graphs = " or ".join(one.name for one in FORMATS.values() if one.graph)
        raise UserError(f"normalize does not apply to the format '{format_.name}', which holds no graph: take {graphs}")
    if not described.task.normalised:
        raise UserError("normalize does not apply to detectors, which take images from 0 to 1: leave it out")
    mean, std = described.interface.mean, described.interface.std
    if not mean:
        raise UserError("normalize: this study's evaluator normalises its images, and how is not known: leave it out")
    return Normalising(graph, mean, std).eval()


def write(
    model: nn.Module,
    path: Path,
    format_: str,
    *,
    input_shape: tuple[int, int, int],
    notes: Mapping[str, str],
    described: Described | None = None,
    images: torch.Tensor | None = None,
) -> Path:
    """Writes a model; what was at the path before is replaced once the new file is whole.

    Args:
        model: on the CPU; it is put into eval mode.
        format_: a key of FORMATS, or of the task's own formats.
        input_shape: (channels, height, width); the batch stays free in `torch` and `onnx`.
        notes: what the file is, for those formats that can hold it: study, placement, scores.
        described: from what the network was built; `python` cannot do without.
        images: with which an int8 format is calibrated, (N, C, H, W) as the file takes them; None: noise.

    Raises:
        UserError: unknown format, or its extra is not installed.
        OperationError: the model cannot be exported, or the file not be written.
    """
    format_found = find_format(format_, None if described is None else described.task)
    model = model.cpu().eval()
    x = torch.randn(2, *input_shape)
    if isinstance(model, Normalising):
        x = torch.randint(256, (2, *input_shape), dtype=torch.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".nas_attn-") as folder:
            made = Path(folder) / path.name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporters' own deprecations say nothing to the user
                format_found.write(Order(model, made, x, notes, described, images))
            for file in sorted(Path(folder).iterdir()):
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise OperationError(f"'{path}' cannot be written: {error}") from None
    except NasAttnError:
        raise
    except Exception as error:  # the exporters raise what they like
        first = first_line(error)
        raise OperationError(f"the network cannot be exported as '{format_}': {first}") from error
    return path


def _graph(order: Order) -> Graph:
    return order.model if isinstance(order.model, Graph) else Graph(order.model).eval()


# ------------------------------------------------------------------------------------------- writers


def _weights(order: Order) -> None:
    """`{"state_dict": …, "notes": …}`; loads with `torch.load(path, weights_only=True)`."""
    torch.save({"state_dict": order.model.state_dict(), "notes": dict(order.notes)}, order.path)


def _program(order: Order) -> None:
    """A `torch.export` program; loads with `torch.export.load(path).module()`."""
    _graph(order).write_program(order)


def _onnx(order: Order, *, quantized: bool = False) -> None:
    """ONNX with the notes as metadata and the weights inside the file."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise UserError("the format 'onnx' needs onnx and onnxscript: pip install 'nas-attn[onnx]'") from None
    graph = _graph(order)
    graph.write_onnx(order)
    if quantized:
        if type(graph) not in (Graph, Normalising):
            raise UserError("int8 formats are for classification and segmentation: take onnx")
        images = torch.randn(CALIBRATION, *order.x.shape[1:]) if order.images is None else order.images
        quantize(order.path, images.numpy(), len(order.x))
    loaded = onnx.load(str(order.path))
    for name, text in (dict(order.notes) | _metadata(order)).items():
        entry = loaded.metadata_props.add()
        entry.key, entry.value = f"{graph.metadata_prefix}{name}", text
    onnx.save(loaded, str(order.path))


def _openvino(order: Order, *, quantized: bool = False) -> None:
    """OpenVINO's own format, `.xml` and `.bin`, by way of ONNX."""
    try:
        import openvino
    except ImportError:
        raise UserError("the format 'openvino' needs openvino: pip install 'nas-attn[openvino]'") from None
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
        path = Path(folder) / "model.onnx"
        _onnx(replace(order, path=path), quantized=quantized)
        openvino.save_model(openvino.convert_model(path), order.path, compress_to_fp16=False)


def _ncnn(order: Order) -> None:
    """ncnn's `.param` and `.bin`, for one image."""
    if isinstance(order.model, Normalising):
        raise UserError("normalize does not apply to the format 'ncnn', which takes no uint8: leave it out")
    write_ncnn(_graph(order), order.x[:1], order.path)


def _metadata(order: Order) -> dict[str, str]:
    """What a program needs to know in order to use an ONNX file, as JSON."""
    if order.described is None:
        return {}
    interface = order.described.interface
    facts = {"classes": interface.classes, "mean": interface.mean, "std": interface.std}
    found = {name: json.dumps(value) for name, value in facts.items() if value}
    return found | {"normalised_inside": json.dumps(isinstance(order.model, Normalising))}


def _python(order: Order) -> None:
    """A Python file that defines this network and nothing else, and its weights beside it, as `weights` writes them."""
    if order.described is None:
        raise UserError("the format 'python' needs to know how the network was built")
    if order.path.stem in {"torch", "torchvision", "timm", order.described.backbone.name.partition(":")[0]}:
        raise UserError(f"a file named '{order.path.name}' would hide the package of this name: choose another")
    weights = order.path.with_suffix(FORMATS["weights"].suffix)
    text = python_source(order.model, order.described, weights=weights.name, notes=order.notes)
    order.path.write_text(text, "utf-8")
    torch.save({"state_dict": order.model.state_dict(), "notes": dict(order.notes)}, weights)


FORMATS: Mapping[str, Format] = MappingProxyType(
    {
        one.name: one
        for one in (
            Format("weights", ".pt", (b"pk",), _weights),
            Format("torch", ".pt2", (b"pk",), _program, graph=True),
            Format("onnx", ".onnx", (b"\x08",), _onnx, graph=True),
            Format("python", ".py", (b'"""',), _python),
            Format("openvino", ".xml", (b"<?xml",), _openvino, graph=True),
            Format("ncnn", ".param", (b"7767517",), _ncnn, graph=True),
            Format("onnx-int8", ".onnx", (b"\x08",), partial(_onnx, quantized=True), graph=True, quantized=True),
            Format(
                "openvino-int8", ".xml", (b"<?xml",), partial(_openvino, quantized=True), graph=True, quantized=True
            ),
        )
    }
)
"""The formats of all tasks; a task may have more (`Answers.formats`). A file of a graph is loaded by `scoring.RUNNERS`."""
