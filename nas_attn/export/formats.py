"""Writes a trained network with its attention to a file in a format of other programs."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas_attn.data.dataset import Dataset
from nas_attn.errors import NasAttnError, OperationError, UserError, shorten
from nas_attn.latency.runtime_files import (
    CALIBRATION,
    open_onnx,
    quantize,
    quiet,
    why_not_exported,
)
from nas_attn.recipe.task import Task
from nas_attn.system.importing import installing
from nas_attn.system.paths import replace_file
from nas_attn.training.learnt import Learnt, answer_of, learnt_from
from nas_attn.training.plan import Plan

Run = Callable[[NDArray[Any]], NDArray[Any]]
"""A network as a function of NumPy arrays: images (N, C, H, W) in, outputs out."""
BOX_VALUES = 6
"""Number of values of a detected box: left, top, right, bottom, score, class."""
UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)
"""Mean and standard deviation of images that are taken as they are, from 0 to 1."""


@dataclass(frozen=True, slots=True)
class Interface:
    """What an exported network takes and gives."""

    classes: tuple[str, ...]
    """Empty if only an evaluator knows them."""
    mean: tuple[float, ...]
    """Per channel, on the scale 0 to 1; empty if an evaluator makes the images."""
    std: tuple[float, ...]
    output: tuple[int, ...]
    """Shape of the output for one image."""
    scale: tuple[float, ...] = ()
    """A network's numbers times `scale` plus `shift` are in the units of the data; files
    that compute do this themselves.
    """
    shift: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class ExportOrder:
    """The input of a format's writer."""

    model: nn.Module
    path: Path
    """In a temporary folder; other files in it are moved along."""
    x: Tensor
    """Two images for tracing."""
    notes: Mapping[str, str]
    interface: Interface | None
    images: Tensor | None = None
    """Images for the calibration of an int8 format; None: noise."""


class Graph(nn.Module):
    """A network with one tensor as output; from a dictionary (torchvision's segmentation networks)
    it takes `out`.
    """

    metadata_prefix = ""
    """Prefix of the notes' names in an ONNX file."""
    input_name = "image"
    """Of the images in an ONNX file."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits = answer_of(self.network(image))
        assert isinstance(logits, Tensor)
        return logits

    def differences(self, outputs: Tensor, expected: Tensor, x: Tensor) -> Tensor:  # noqa: ARG002 - boxes need the images
        """Differences of a file's output from the network's for images x, as shares of the largest
        output.
        """
        return apart(outputs, expected)

    def worst(self, differences: Tensor) -> float | None:
        """The number that decides whether two outputs are the same; None if there was nothing to
        compare.
        """
        if not len(differences):
            return None
        return float(differences.max())

    def write_onnx(self, order: ExportOrder) -> None:
        """Writes ONNX with a free batch size."""
        torch.onnx.export(
            self,
            (order.x,),
            str(order.path),
            input_names=[self.input_name],
            output_names=["output"],
            dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=65536)},),
            dynamo=True,
            external_data=False,
            verbose=False,
        )

    def write_program(self, order: ExportOrder) -> None:
        """Writes a `torch.export` program with a free batch size; loads with
        `torch.export.load(path).module()`.
        """
        batch = torch.export.Dim("batch", min=1, max=65536)
        program = torch.export.export(self, (order.x,), dynamic_shapes=({0: batch},))
        torch.export.save(
            program, order.path, extra_files={"notes.json": json.dumps(dict(order.notes))}
        )


class Normalising(Graph):
    """A network that takes images as uint8 (N, C, H, W), and normalises them itself."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """`mean` and `std` are per channel, on the scale 0 to 1."""
        super().__init__(network)
        scale = [1 / (255 * s) for s in std]
        shift = [m / s for m, s in zip(mean, std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        return super().forward(image.float() * self.scale - self.shift)


class DetectorGraph(Graph):
    """A detector of torchvision for one image (1, 3, H, W), 0 to 1. Output: its final boxes as (K,
    6), left, top, right, bottom in pixels, score and class from 1.
    """

    def forward(self, image: Tensor) -> Tensor:
        answer = self.network([image[0]])[0]
        return torch.cat(
            [answer["boxes"], answer["scores"][:, None], answer["labels"].to(image.dtype)[:, None]],
            1,
        )

    def differences(self, outputs: Tensor, expected: Tensor, x: Tensor) -> Tensor:
        return boxes_apart(outputs, expected, x)

    def worst(self, differences: Tensor) -> float | None:
        """The median over boxes: of boxes with nearly equal scores, rounding may suppress another
        one.
        """
        if not len(differences):
            return None
        return float(differences.median())

    def write_onnx(self, order: ExportOrder) -> None:
        """Uses torch's tracing exporter: the newer one cannot express a number of boxes that
        depends on the image.
        """
        torch.onnx.export(
            self,
            (order.x[:1].abs().clamp(max=1),),
            str(order.path),
            input_names=[self.input_name],
            output_names=["boxes"],
            dynamic_axes={"boxes": {0: "found"}},
            opset_version=17,
            dynamo=False,
            verbose=False,
        )

    def write_program(self, order: ExportOrder) -> None:  # noqa: ARG002 - Graph fixes it
        raise UserError(
            "the format 'torch' cannot express a detector's choice of boxes: give onnx or weights"
        )


def single_output(model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
    """The network with one tensor as its output, after a trial with one image. OperationError: its
    output is not a tensor, a dictionary with `out`, or boxes.
    """
    with torch.no_grad():
        output = model.eval()(torch.zeros(1, *input_shape))
    if isinstance(output, list) and output and isinstance(output[0], Mapping):
        return DetectorGraph(model).eval()
    if not isinstance(answer_of(output), Tensor):
        raise OperationError(
            f"the network's output is a {type(output).__name__}, which only 'weights' can export"
        )
    return Graph(model).eval()


def _output_of(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[int, ...] | None:
    """Shape of the output for one image; None: it is no tensor with the images in front."""
    with torch.no_grad():
        answer = answer_of(model.eval()(torch.zeros(1, *input_shape)))
    if not isinstance(answer, Tensor) or answer.shape[:1] != (1,):
        return None
    return tuple(answer.shape[1:])


def apart(outputs: Tensor, expected: Tensor) -> Tensor:
    """(1,) Largest difference, as a share of the largest output."""
    return ((outputs - expected).abs().max() / expected.abs().max().clamp(min=1e-12)).view(1)


def boxes_apart(boxes: Tensor, expected: Tensor, x: Tensor) -> Tensor:
    """(boxes,) Distance of each box of either, (…, K, 6), from the nearest of its class in the
    other: sides as shares of the image's, and scores; infinite if there is none.
    """
    boxes = boxes.view(boxes.shape[-2:])
    expected = expected.view(expected.shape[-2:])
    width = x.shape[-1]
    height = x.shape[-2]
    scale = boxes.new_tensor([width, height, width, height, 1.0])
    between = torch.cdist(boxes[:, :5] / scale, expected[:, :5] / scale, p=float("inf"))
    between[boxes[:, 5, None] != expected[None, :, 5]] = float("inf")
    far = between.new_full((1,), float("inf"))
    rows = torch.cat([between, far.expand(len(boxes), 1)], 1).amin(1)
    columns = torch.cat([between, far.expand(1, len(expected))], 0).amin(0)
    return torch.cat([rows, columns])


@dataclass(frozen=True, slots=True)
class Format:
    """A file format of networks."""

    name: str
    suffix: str
    """Of a file that is not named: `.onnx`, `-best.pt`."""
    begins: tuple[bytes, ...]
    """The first bytes of its files, in lower case."""
    write: Callable[[ExportOrder], None]
    open: Callable[[Path], Run] | None = None
    """Opens its files for computing; None: they hold the weights only."""
    quantized: bool = False
    """Whether it computes in int8."""

    @property
    def ending(self) -> str:
        """What the name of each of its files ends with."""
        return Path(f"name{self.suffix}").suffix

    @property
    def graph(self) -> bool:
        """Whether it holds the computation, not only the weights."""
        return self.open is not None


def find_format(name: str, task: Task | None = None, file: str = "") -> Format:
    """A format by its name, the task's own formats included; without a name, the first one with the
    ending of `file`.

    Without both it is weights, which may also end in `.pth`. Raises UserError: there is no such
    format, no format has this ending, or the file has the ending of another one.
    """
    formats = {**FORMATS, **({} if task is None else answers_of(task).formats)}
    ending = Path(file).suffix.lower()
    by_ending = [row for row in formats.values() if row.ending == ending]
    if not name and not by_ending and ending not in ("", ".pth"):
        endings = ", ".join(sorted({row.ending for row in formats.values()}))
        raise UserError(
            f"output '{shorten(file)}' ends like no known format: end it with {endings}, or say the"
            " format"
        )
    name = name or (by_ending[0].name if by_ending else "weights")
    if name not in formats:
        raise UserError(f"unknown format '{shorten(name)}': give {', '.join(formats)}")
    if by_ending and formats[name] not in by_ending:
        raise UserError(
            f"output '{shorten(file)}' ends like the format {by_ending[0].name}, not like {name}:"
            f" name it *{formats[name].ending}, or change the format"
        )
    return formats[name]


def normalising(graph: nn.Module, interface: Interface, task: Task, format_: Format) -> nn.Module:
    """Puts the normalisation of a network's images into it.

    Args:
        graph: the network; it takes (N, C, H, W), normalised.
        interface: has the mean and deviation of each channel, on the scale 0 to 1.
        task: what the network is for.
        format_: of the file.

    Returns:
        A network that takes (N, C, H, W) in uint8, 0 to 255.

    Raises:
        UserError: the format holds no graph, or the normalisation is unknown.
    """
    if not format_.graph:
        graphs = " or ".join(row.name for row in FORMATS.values() if row.graph)
        raise UserError(
            f"normalize does not apply to the format '{format_.name}', which holds no graph: give"
            f" {graphs}"
        )
    if not task.normalised:
        raise UserError(
            "normalize does not apply to detectors, which take images from 0 to 1: leave it out"
        )
    if not interface.mean:
        raise UserError(
            "normalize: this study's evaluator normalises its images in a way that nas_attn does"
            " not know: leave it out"
        )
    return Normalising(graph, interface.mean, interface.std).eval()


def write(  # noqa: PLR0913 - public; all but three have a default or a name
    model: nn.Module,
    path: Path,
    format_: str | Format,
    *,
    input_shape: tuple[int, int, int],
    notes: Mapping[str, str],
    interface: Interface | None = None,
    images: torch.Tensor | None = None,
) -> Path:
    """Writes a model; replaces an existing file once the new one is complete.

    Args:
        model: is put on the CPU and into eval mode.
        format_: a key of FORMATS, or a task's own format.
        input_shape: (channels, height, width); the batch stays free in `torch` and `onnx`.
        notes: facts about the network, for formats that can hold them.
        interface: what the network takes and gives, for formats that can hold it.
        images: for the calibration of int8 formats, (N, C, H, W) as the file takes them; None:
            noise.

    Raises:
        UserError: unknown format, or its extra is not installed.
        OperationError: the model cannot be exported, or the file not be written.
    """
    kind = find_format(format_) if isinstance(format_, str) else format_
    model = model.cpu().eval()
    x = torch.randn(2, *input_shape)
    if isinstance(model, Normalising):
        x = torch.randint(256, (2, *input_shape), dtype=torch.uint8)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".nas_attn-") as folder:
            written = Path(folder) / path.name
            with quiet():
                kind.write(ExportOrder(model, written, x, notes, interface, images))
            for file in sorted(Path(folder).iterdir()):
                replace_file(file, path.with_name(file.name))
    except OSError as error:
        raise OperationError(f"'{path}' cannot be written: {error}") from None
    except NasAttnError:
        raise
    except Exception as error:
        # the exporters raise any exception
        raise OperationError(
            f"the network cannot be exported as '{kind.name}': {why_not_exported(error)}"
        ) from error
    return path


def _graph(order: ExportOrder) -> Graph:
    if isinstance(order.model, Graph):
        return order.model
    return Graph(order.model).eval()


# -------------------------------------------------------------------------------------------
# writers, and what opens their files


def _weights(order: ExportOrder) -> None:
    """`{"state_dict": …, "notes": …}`; loads with `torch.load(path, weights_only=True)`."""
    torch.save({"state_dict": order.model.state_dict(), "notes": dict(order.notes)}, order.path)


def _onnx(order: ExportOrder, *, quantized: bool = False) -> None:
    """ONNX with the notes as metadata and the weights inside the file."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise UserError(
            f"the format 'onnx' needs onnx and onnxscript: {installing('onnx')}"
        ) from None
    graph = _graph(order)
    graph.write_onnx(order)
    if quantized:
        if type(graph) not in (Graph, Normalising):
            raise UserError("int8 formats are for classification and segmentation: give onnx")
        if order.images is None:
            images = torch.randn(CALIBRATION, *order.x.shape[1:])
        else:
            images = order.images
        quantize(order.path, images.numpy(), len(order.x))
    notes = dict(order.notes)
    # what a program needs to use it, as JSON
    interface = order.interface
    if interface is not None:
        facts = {"classes": interface.classes, "mean": interface.mean, "std": interface.std}
        notes |= {name: json.dumps(value) for name, value in facts.items() if value}
        notes["normalised_inside"] = json.dumps(isinstance(order.model, Normalising))
    loaded = onnx.load(str(order.path))
    for name, text in notes.items():
        entry = loaded.metadata_props.add()
        entry.key = f"{graph.metadata_prefix}{name}"
        entry.value = text
    onnx.save(loaded, str(order.path))


def _program(order: ExportOrder) -> None:
    _graph(order).write_program(order)


def running(network: Callable[[Tensor], Any]) -> Run:
    """A torch network as a function of arrays."""

    def run(x: NDArray[Any]) -> NDArray[Any]:
        with torch.no_grad():
            answer = network(torch.from_numpy(x))
        if isinstance(answer, list):
            return table_of_boxes(answer)
        output = answer_of(answer)
        assert isinstance(output, Tensor)
        return output.numpy()

    return run


def table_of_boxes(answers: Sequence[Mapping[str, Tensor]]) -> NDArray[np.float32]:
    """A torchvision detector's boxes of N images: (N, K, 6), left, top, right, bottom, score,
    class; zeros if there are fewer.
    """
    rows = [np.hstack([o["boxes"], o["scores"][:, None], o["labels"][:, None]]) for o in answers]
    table = np.zeros((len(rows), max(map(len, rows)), BOX_VALUES), np.float32)
    for number, row in enumerate(rows):
        table[number, : len(row)] = row
    return table


def _open_program(path: Path) -> Run:
    return running(torch.export.load(path).module())


def _open_onnx(path: Path) -> Run:
    session = open_onnx(path)
    name = session.get_inputs()[0].name
    return lambda x: session.run(None, {name: x})[0]


FORMATS: Mapping[str, Format] = {
    one.name: one
    for one in (
        Format("weights", ".pt", (b"pk",), _weights),
        Format("torch", ".pt2", (b"pk",), _program, _open_program),
        Format("onnx", ".onnx", (b"\x08",), _onnx, _open_onnx),
        Format(
            "onnx-int8",
            ".onnx",
            (b"\x08",),
            partial(_onnx, quantized=True),
            _open_onnx,
            quantized=True,
        ),
    )
}
"""The formats of all tasks; a task may have more (`TaskExport.formats`)."""
COMPARED = 4
"""Number of images for the comparison of a detector's file: a single one may have no boxes."""


def answers_of(task: Task) -> TaskExport:
    """How networks of this task are exported."""
    kind: type[TaskExport] = task.row.answers()
    return kind(task)


class TaskExport:
    """Export of networks with logits; the base class for other tasks."""

    formats: ClassVar[Mapping[str, Format]] = {}
    """Formats for this task's networks only."""

    def __init__(self, task: Task) -> None:
        self.task = task

    def interface(self, plan: Plan, dataset: Dataset | None) -> Interface:
        """Input and output of an exported network."""
        output = self.task.output(plan.classes, plan.input_shape[1:])
        if dataset is None:
            # a network of one's own may give what it likes
            given = _output_of(plan.bare(0), plan.input_shape)
            classes = plan.recipe.data.classes or 0
            return Interface(tuple(map(str, range(classes))), (), (), given or output)
        return Interface(tuple(dataset.classes), dataset.train.mean, dataset.train.std, output)

    def computing(self, model: nn.Module, dataset: Dataset | None) -> nn.Module:  # noqa: ARG002 - a task whose outputs are scaled needs it
        """The network as a file computes it.

        Args:
            model: the trained network.
            dataset: what it was trained on; None: only an evaluator knows.
        """
        return model

    def graph(self, model: nn.Module, input_shape: tuple[int, int, int]) -> Graph:
        """The network for files that hold a graph: images in, one tensor out."""
        return single_output(model, input_shape)

    def compared(self, plan: Plan, dataset: Dataset | None, *, stored: bool) -> Iterator[Tensor]:
        """Batches of different sizes for the comparison of a file with its network; `stored`: in
        uint8, as in the data set.
        """
        if dataset is None:
            yield from (torch.randn(count, *plan.input_shape) for count in (3, 1))
            return
        images = dataset.validation.first(5)
        if not stored:
            images = next(iter(dataset.validation.batches(len(images))))[0].contiguous()
        yield from (
            (images[:3].contiguous(), images[3:].contiguous()) if len(images) > 3 else (images,)
        )

    def judged(self, run: Run, dataset: Dataset, *, stored: bool, batch: int) -> Learnt:
        """Scores an exported file on the validation images.

        Args:
            run: the file: images (N, C, H, W) in, outputs out, both NumPy.
            dataset: has the images.
            stored: the file takes them in uint8, as in the data set.
            batch: the number of images at a time.

        Returns:
            What gives the metrics.
        """
        learnt = learnt_from(dataset)
        split = dataset.validation
        for x, y in split.stored(batch) if stored else split.batches(batch):
            learnt.add(torch.from_numpy(run(x.contiguous().numpy())), y)
        return learnt

    def said(self, shape: tuple[int, ...], format_: str) -> str:  # noqa: ARG002 - a detector needs it
        """The output of an exported network, of this shape for one image, in words for its card."""
        return f"({', '.join(map(str, ('N', *shape)))}) {self.task.said}"
