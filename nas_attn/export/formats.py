"""Writes a trained network with its attention into a file of a format that other programs read."""

from __future__ import annotations

import json
import os
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path
from types import MappingProxyType

import torch
from torch import nn

from nas_attn.errors import NasAttnError, OperationError, UserError


def write(
    model: nn.Module, path: Path, format_: str, *, input_shape: tuple[int, int, int], notes: Mapping[str, str]
) -> Path:
    """Writes a model; what was at the path before is replaced once the new file is whole.

    Args:
        model: on the CPU; it is put into eval mode.
        format_: a key of FORMATS.
        input_shape: (channels, height, width); the batch stays free in `torch` and `onnx`.
        notes: what the file is, for those formats that can hold it: study, placement, scores.

    Raises:
        UserError: unknown format, or its extra is not installed.
        OperationError: the model cannot be exported, or the file not be written.
    """
    if format_ not in FORMATS:
        raise UserError(f"unknown format '{format_}': give {', '.join(FORMATS)}")
    model = model.cpu().eval()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=path.parent, prefix=".nas_attn-") as folder:
            made = Path(folder) / path.name
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the exporters' own deprecations say nothing to the user
                FORMATS[format_](model, made, torch.randn(2, *input_shape), notes)
            os.replace(made, path)
    except OSError as error:
        raise OperationError(f"'{path}' cannot be written: {error}") from None
    except NasAttnError:
        raise
    except Exception as error:  # the exporters raise what they like
        first = str(error).strip().partition("\n")[0] or type(error).__name__
        raise OperationError(f"the network cannot be exported as '{format_}': {first}") from error
    return path


def _weights(model: nn.Module, path: Path, x: torch.Tensor, notes: Mapping[str, str]) -> None:
    """`{"state_dict": …, "notes": …}`; loads with `torch.load(path, weights_only=True)`."""
    torch.save({"state_dict": model.state_dict(), "notes": dict(notes)}, path)


def _program(model: nn.Module, path: Path, x: torch.Tensor, notes: Mapping[str, str]) -> None:
    """A `torch.export` program with a free batch size; loads with `torch.export.load(path).module()`."""
    batch = torch.export.Dim("batch", min=1, max=65536)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: batch},))
    torch.export.save(program, path, extra_files={"notes.json": json.dumps(dict(notes))})


def _onnx(model: nn.Module, path: Path, x: torch.Tensor, notes: Mapping[str, str]) -> None:
    """ONNX with a free batch size, the notes as metadata, the weights inside the file."""
    try:
        import onnx
        import onnxscript  # noqa: F401 - torch's exporter needs it
    except ImportError:
        raise UserError("the format 'onnx' needs onnx and onnxscript: pip install 'nas-attn[onnx]'") from None
    batch = torch.export.Dim("batch", min=1, max=65536)
    torch.onnx.export(
        model,
        (x,),
        str(path),
        input_names=["image"],
        output_names=["output"],
        dynamic_shapes=({0: batch},),
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    loaded = onnx.load(str(path))
    for name, text in notes.items():
        entry = loaded.metadata_props.add()
        entry.key, entry.value = name, text
    onnx.save(loaded, str(path))


FORMATS: Mapping[str, Callable[[nn.Module, Path, torch.Tensor, Mapping[str, str]], None]] = MappingProxyType(
    {"weights": _weights, "torch": _program, "onnx": _onnx}
)
"""Name -> writer: `weights` (.pt), `torch` (.pt2, torch.export), `onnx` (.onnx)."""
SUFFIXES = {"weights": ".pt", "torch": ".pt2", "onnx": ".onnx"}
