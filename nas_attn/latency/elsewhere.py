"""A folder of networks to be measured on another device, without torch, and the sessions that come back."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from nas_attn.errors import MeasurementError
from nas_attn.latency import paired
from nas_attn.latency.nets import deployed, example_input, runtime_suffix, write_runtime_file
from nas_attn.latency.paired import ORDER, RESULTS
from nas_attn.latency.session import conditions
from nas_attn.recipe import LatencySection
from nas_attn.records import Session
from nas_attn.storage.rows import to_sessions
from nas_attn.tables import LATENCY_MODES

PROGRAM = "measure.py"


@dataclass(frozen=True, slots=True)
class Measured:
    """What came back in a folder."""

    backbone: str
    placements: Mapping[str, str]
    """Key -> notation."""
    sessions: tuple[Session, ...]


def write_folder(
    folder: Path,
    section: LatencySection,
    *,
    backbone: str,
    reference: nn.Module,
    candidates: Mapping[str, tuple[str, nn.Module]],
    input_shape: tuple[int, int, int],
) -> None:
    """Writes the networks as ONNX files for the section's runtime, beside a program that measures them.

    Args:
        backbone: its name.
        candidates: key -> (notation, network).
        input_shape: (C, H, W).

    Raises:
        MeasurementError: the mode is no runtime of ONNX files, a network cannot be exported, or the folder not be written.
    """
    if LATENCY_MODES[section.mode].prepare != LATENCY_MODES["openvino"].prepare:
        runtimes = ", ".join(
            name for name, row in LATENCY_MODES.items() if row.prepare == LATENCY_MODES["openvino"].prepare
        )
        raise MeasurementError(f"latency.mode = '{section.mode}' needs torch on the device: set mode to {runtimes}")
    x, names = example_input(section, input_shape, 0), {}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / RESULTS).unlink(missing_ok=True)
        for number, (key, (_, model)) in enumerate([("", ("", reference)), *candidates.items()]):
            names[key] = f"{number or 'bare'}{runtime_suffix(section)}"
            with torch.no_grad():
                write_runtime_file(deployed(model, section, input_shape), section, x, None, folder / names[key])
        order = {
            "backbone": backbone,
            "section": section.model_dump(mode="json"),
            "input_shape": input_shape,
            "conditions": conditions(section, input_shape),
            "reference": names.pop(""),
            "networks": names,
            "placements": {key: text for key, (text, _) in candidates.items()},
        }
        (folder / ORDER).write_text(json.dumps(order, indent=1), "utf-8")
        shutil.copyfile(paired.__file__, folder / PROGRAM)
    except OSError as error:
        raise MeasurementError(f"the folder '{folder}' cannot be written: {error.strerror}") from None


def read_folder(folder: Path) -> Measured:
    """The sessions that the program has left in a folder.

    Raises:
        MeasurementError: there are none, or they cannot be read.
    """
    try:
        order = json.loads((folder / ORDER).read_text("utf-8"))
        sessions = tuple(to_sessions([json.dumps(one) for one in json.loads((folder / RESULTS).read_text("utf-8"))]))
        if not sessions:
            raise ValueError("there is no session")
        return Measured(order["backbone"], order["placements"], sessions)
    except FileNotFoundError as error:
        raise MeasurementError(
            f"'{error.filename}' does not exist: run python {PROGRAM} on the device, and copy the folder back"
        ) from None
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise MeasurementError(f"the results in '{folder}' cannot be read: {error}") from None
