"""Latencies from a user's own command: a phone, a Jetson, a remote board.

The command gets the path of an ONNX file, in place of `{onnx}` or as its last argument, and prints milliseconds a call: one
number or many, separated by blanks, commas or line ends. For instance

    [latency]
    mode = "command"
    command = "sh runners/devices/adb.sh {onnx}"
"""

from __future__ import annotations

import shlex
import shutil
import statistics
import subprocess
import tempfile
import weakref
from collections.abc import Sequence
from pathlib import Path

from torch import Tensor, nn

from nas_attn.errors import MeasurementError
from nas_attn.latency.files import write_onnx
from nas_attn.recipe import LatencySection

TIMEOUT_S = 600.0
"""Longest time of one call of the command."""


class CommandNet:
    """A network as an ONNX file in a folder of its own, which goes when the object does."""

    def __init__(self, model: nn.Module, section: LatencySection, x: Tensor) -> None:
        assert section.command is not None  # the recipe sees to it
        folder = Path(tempfile.mkdtemp(prefix="nas_attn-"))
        weakref.finalize(self, shutil.rmtree, folder, ignore_errors=True)
        path = folder / "model.onnx"
        write_onnx(model, x, path)
        self._words = command_words(section.command, path)

    def turn(self, calls: int) -> tuple[float, float]:
        """Runs the command `calls` times; the median of what it printed is both study's and wall clock."""
        printed = [value for _ in range(calls) for value in run_command(self._words)]
        milliseconds = statistics.median(printed)
        return milliseconds, milliseconds


def command_words(command: str, onnx: Path) -> list[str]:
    """The command's words with the ONNX file in its place. No shell reads them.

    Raises:
        MeasurementError: a quotation in the command does not end.
    """
    try:
        words = shlex.split(command)
    except ValueError as error:
        raise MeasurementError(f"latency.command {command!r} cannot be split into words: {error}") from None
    if "{onnx}" in command:
        return [word.replace("{onnx}", str(onnx)) for word in words]
    return [*words, str(onnx)]


def run_command(words: Sequence[str], timeout_s: float = TIMEOUT_S) -> list[float]:
    """The milliseconds that a user's command prints.

    Raises:
        MeasurementError: it cannot be started, fails, takes too long, or prints anything but positive numbers.
    """
    name = f"latency.command '{words[0]}'"
    try:
        done = subprocess.run(words, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_s)
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{name} took longer than {timeout_s:g} s") from None
    except OSError as error:
        raise MeasurementError(f"{name} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        said = (done.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        raise MeasurementError(f"{name} ended with status {done.returncode}: {said}")
    try:
        values = [float(word) for word in done.stdout.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or not all(0 < value < float("inf") for value in values):
        printed = done.stdout.strip()[:80]
        raise MeasurementError(f"{name} must print milliseconds, one number or several, not {printed!r}")
    return values
