"""Writes a trained network with its attention into a file of a format that other programs read."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import torch
from torch import Tensor, nn

from nas_attn.errors import NasAttnError, OperationError, UserError, shorten
from nas_attn.export.detectors import Answer, Chosen, write_chosen, write_onnx, write_pt
from nas_attn.export.python_file import Described, python_source
from nas_attn.training.learning import answer_of


def known_format(name: str) -> None:
    """Raises:
    UserError: there is no such format.
    """
    if name not in FORMATS:
        raise UserError(f"unknown format '{shorten(name)}': give {', '.join(FORMATS)}")


@dataclass(frozen=True, slots=True)
class Task:
    """What a format's writer has to write."""

    model: nn.Module
    path: Path
    """In a folder of its own; files beside it are moved along with it."""
    x: Tensor
    """Two images for tracing."""
    notes: Mapping[str, str]
    described: Described | None


class Normalising(nn.Module):
    """A network that takes images as they come: uint8 (N, C, H, W)."""

    scale: Tensor
    shift: Tensor

    def __init__(self, network: nn.Module, mean: tuple[float, ...], std: tuple[float, ...]) -> None:
        """Args:
        mean: per channel, on the scale 0 to 1; so is `std`.
        """
        super().__init__()
        self.network = network
        scale, shift = [1 / (255 * s) for s in std], [m / s for m, s in zip(mean, std, strict=True)]
        self.register_buffer("scale", torch.tensor(scale).view(-1, 1, 1))
        self.register_buffer("shift", torch.tensor(shift).view(-1, 1, 1))

    def forward(self, image: Tensor) -> Tensor:
        normalised = image.float() * self.scale - self.shift
        logits: Tensor = self.network(normalised)
        return logits


def with_normalisation(model: nn.Module, described: Described, format_: str) -> nn.Module:
    """The network with its images' normalisation inside.

    Raises:
        UserError: the format holds no graph, or nothing is known of the normalisation.
    """
    if format_ not in GRAPHS:
        raise UserError(
            f"--normalize has no place in the format '{format_}', which holds no graph: give --format {' or '.join(GRAPHS)}"
        )
    if described.task == "detection":
        raise UserError(
            "--normalize has no place in a detector's file: ultralytics divides by 255 itself, torchvision takes 0 to 1"
        )
    if not described.mean:
        raise UserError("--normalize: this study's images are its evaluator's, their normalisation is not known")
    return Normalising(model, described.mean, described.std).eval()


class Answering(nn.Module):
    """A network that gives one tensor, where its own answer is a dictionary (torchvision's segmentation networks)."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, image: Tensor) -> Tensor:
        logits = answer_of(self.network(image))
        assert isinstance(logits, Tensor)
        return logits


def answering(model: nn.Module, input_shape: tuple[int, int, int]) -> nn.Module:
    """The network as a graph's format holds it: what gives a tensor stays as it is, of a detector the boxes are kept.

    Raises:
        UserError: a detector was to normalise its images.
    """
    bare = model.network if isinstance(model, Normalising) else model
    with torch.no_grad():
        output = bare.eval()(torch.zeros(1, *input_shape))
    if isinstance(output, Tensor):
        return model
    if isinstance(output, list) and isinstance(output[0], Mapping):
        return Chosen(bare).eval()
    if isinstance(output, tuple | list):
        return Answer(bare).eval()
    if bare is model:
        return Answering(model).eval()
    assert isinstance(model, Normalising)
    model.network = Answering(bare)
    return model.eval()


def write(
    model: nn.Module,
    path: Path,
    format_: str,
    *,
    input_shape: tuple[int, int, int],
    notes: Mapping[str, str],
    described: Described | None = None,
) -> Path:
    """Writes a model; what was at the path before is replaced once the new file is whole.

    Args:
        model: on the CPU; it is put into eval mode.
        format_: a key of FORMATS.
        input_shape: (channels, height, width); the batch stays free in `torch` and `onnx`.
        notes: what the file is, for those formats that can hold it: study, placement, scores.
        described: from what the network was built; `python` cannot do without.

    Raises:
        UserError: unknown format, or its extra is not installed.
        OperationError: the model cannot be exported, or the file not be written.
    """
    known_format(format_)
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
                FORMATS[format_](Task(model, made, x, notes, described))
            for file in sorted(Path(folder).iterdir()):
                os.replace(file, path.with_name(file.name))
    except OSError as error:
        raise OperationError(f"'{path}' cannot be written: {error}") from None
    except NasAttnError:
        raise
    except Exception as error:  # the exporters raise what they like
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OperationError(f"the network cannot be exported as '{format_}': {first}") from error
    return path


def _weights(task: Task) -> None:
    """`{"state_dict": …, "notes": …}`; loads with `torch.load(path, weights_only=True)`."""
    torch.save({"state_dict": task.model.state_dict(), "notes": dict(task.notes)}, task.path)


def _program(task: Task) -> None:
    """A `torch.export` program with a free batch size; loads with `torch.export.load(path).module()`."""
    if isinstance(task.model, Chosen):
        raise UserError(
            "the format 'torch' cannot hold a detector's choice among its boxes: give --format onnx, python or weights"
        )
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(task.model, (task.x,), dynamic_shapes=({0: batch},))
    torch.export.save(program, task.path, extra_files={"notes.json": json.dumps(dict(task.notes))})


def _onnx(task: Task) -> None:
    """ONNX with a free batch size (a detector's: one image), the notes as metadata, the weights inside the file."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise UserError("the format 'onnx' needs onnx and onnxscript: pip install 'nas-attn[onnx]'") from None
    if isinstance(task.model, Answer):
        described = _described_detector(task, "onnx")
        write_onnx(task.model.network, task.path, described.classes, described.input_shape[1])
    elif isinstance(task.model, Chosen):
        write_chosen(task.model, task.path, task.x[:1].abs().clamp(max=1))
    else:
        _onnx_by_torch(task)
    loaded = onnx.load(str(task.path))
    for name, text in (dict(task.notes) | _metadata(task)).items():
        entry = loaded.metadata_props.add()
        entry.key, entry.value = f"nas_attn.{name}" if isinstance(task.model, Answer) else name, text
    onnx.save(loaded, str(task.path))


def _onnx_by_torch(task: Task) -> None:
    batch = torch.export.Dim("batch", min=1, max=65536)
    torch.onnx.export(
        task.model,
        (task.x,),
        str(task.path),
        input_names=["image"],
        output_names=["output"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )


def _described_detector(task: Task, name: str) -> Described:
    if task.described is None or not task.described.backbone.name.startswith("ultralytics:"):
        raise UserError(f"the format '{name}' is for detectors of ultralytics: give weights, torch, onnx or python")
    return task.described


def _ultralytics(task: Task) -> None:
    """A `.pt` that `ultralytics.YOLO` loads, a pickle, with nas_attn installed."""
    described = _described_detector(task, "ultralytics")
    write_pt(task.model, task.path, described.classes, described.input_shape[1])


def _metadata(task: Task) -> dict[str, str]:
    """What a program needs to know in order to use an ONNX file, as JSON."""
    described = task.described
    if described is None:
        return {}
    facts = {"classes": described.classes, "mean": described.mean, "std": described.std}
    inside = isinstance(task.model, Normalising)
    found = {name: json.dumps(value) for name, value in facts.items() if value}
    return found | {"normalised_inside": json.dumps(inside)}


def _python(task: Task) -> None:
    """A Python file that defines this network and nothing else, and its weights beside it, as `weights` writes them."""
    if task.described is None:
        raise UserError("the format 'python' has to know from what the network was built")
    if task.path.stem in {"torch", "torchvision", "timm", task.described.backbone.name.partition(":")[0]}:
        raise UserError(
            f"a file named '{task.path.name}' would hide the package of this name, which it needs: name another"
        )
    weights = task.path.with_suffix(SUFFIXES["weights"])
    text = python_source(task.model, task.described, weights=weights.name, notes=task.notes)
    task.path.write_text(text, "utf-8")
    torch.save({"state_dict": task.model.state_dict(), "notes": dict(task.notes)}, weights)


FORMATS: Mapping[str, Callable[[Task], None]] = MappingProxyType(
    {"weights": _weights, "torch": _program, "onnx": _onnx, "python": _python, "ultralytics": _ultralytics}
)
"""Name -> writer: `weights` (.pt), `torch` (.pt2, torch.export), `onnx` (.onnx), `python` (.py with a .pt), `ultralytics`."""
GRAPHS = ("onnx", "torch")
"""The formats that hold what is computed, not the weights alone."""
BEGINNINGS: Mapping[str, tuple[bytes, ...]] = {
    "weights": (b"pk",),
    "torch": (b"pk",),
    "onnx": (b"\x08",),
    "python": (b'"""',),
    "ultralytics": (b"pk",),
}
"""How files of a format begin, in small letters."""
SUFFIXES = {"weights": ".pt", "torch": ".pt2", "onnx": ".onnx", "python": ".py", "ultralytics": "-best.pt"}
