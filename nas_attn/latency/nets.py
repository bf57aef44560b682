"""Prepares a network for timing: in torch, in another runtime, or by a user's command; and chooses
the clock.

Every mode (a row of `nas_attn.recipe.tables.LATENCY_MODES`) ends in a `Net`, whose `turn(calls)`
does one untimed call and then times `calls` calls. A user's command gets the path of an ONNX file,
in place of `{onnx}` or as its last argument, and prints milliseconds a call: one number or many,
separated by blanks, commas or line ends."""

from __future__ import annotations

import shutil
import statistics
import subprocess
import tempfile
import time
import warnings
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import FunctionType
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.attachment import fold_batchnorm, reparameterized
from nas_attn.backbones.torchvision_detectors import undecided
from nas_attn.errors import DeviceLost, MeasurementError
from nas_attn.latency.paired import Call, Times, Turn, host_turn
from nas_attn.latency.runtime_files import (
    opened,
    why_not_exported,
    write_onnx,
    write_runtime_file,
)
from nas_attn.recipe.recipe import LatencySection
from nas_attn.system.cuda_graphs import capture, mend, side_stream, waits
from nas_attn.system.processes import words_of

UNTIMED_CALLS = 2
"""Untimed calls before a capture, and one that is watched."""
BUILD_TIMEOUT_S = 600.0


def command_words(command: str, onnx: Path) -> list[str]:
    """The command's words with the ONNX file in its place, for no shell; MeasurementError: a
    quotation does not end.
    """
    try:
        words = words_of(command)
    except ValueError as error:
        raise MeasurementError(
            f"latency.command {command!r} cannot be split into words: {error}"
        ) from None
    if "{onnx}" in command:
        return [word.replace("{onnx}", str(onnx)) for word in words]
    return [*words, str(onnx)]


def run_command(words: Sequence[str], timeout_s: float = BUILD_TIMEOUT_S) -> list[float]:
    """The milliseconds that a user's command prints; MeasurementError: it fails, takes too long, or
    prints no such numbers.
    """
    name = f"latency.command '{words[0]}'"
    try:
        done = subprocess.run(
            words, capture_output=True, encoding="utf-8", errors="replace", timeout=timeout_s
        )
    except subprocess.TimeoutExpired:
        raise MeasurementError(f"{name} took longer than {timeout_s:g} s") from None
    except OSError as error:
        raise MeasurementError(f"{name} cannot be started: {error.strerror}") from None
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["nothing on standard error"])[-1]
        raise MeasurementError(f"{name} ended with status {done.returncode}: {reason}")
    try:
        values = [float(word) for word in done.stdout.replace(",", " ").split()]
    except ValueError:
        values = []
    if not values or not all(0 < value < float("inf") for value in values):
        printed = done.stdout.strip()[:80]
        raise MeasurementError(
            f"{name} must print milliseconds, one number or several, not {printed!r}"
        )
    return values


@dataclass(frozen=True, slots=True)
class Net:
    """A network ready to be timed."""

    turn: Turn
    # must live as long as the network: a folder with its ONNX file
    owned: object = None


def clock_name(section: LatencySection) -> str:
    """The study's clock under these settings: `thread`, `wall`, `cuda-events` or `command`."""
    if section.by_command:
        return "command"
    if section.device == "cuda":
        if section.row.own_stream:
            return "wall"
        return "cuda-events"
    return "thread" if section.threads == 1 else "wall"


def example_input(section: LatencySection, input_shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal noise of shape (batch_size, *input_shape), in the section's dtype and memory format,
    on its device.
    """
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((section.batch_size, *input_shape), generator=generator)
    x = x.to(device=section.device, dtype=getattr(torch, section.dtype))
    if section.channels_last:
        return x.contiguous(memory_format=torch.channels_last)
    return x


def deployed(
    model: nn.Module, section: LatencySection, input_shape: tuple[int, int, int]
) -> nn.Module:
    """A copy of the model as it is deployed and timed: in evaluation mode, reparameterized,
    BatchNorm folded into convolutions, on the device, in dtype and memory format; a detector's
    without NMS. BackboneError: it does not take such an image (C, H, W).
    """
    copied = fold_batchnorm(reparameterized(model, input_shape), input_shape)
    return placed(undecided(copied.requires_grad_(False)), section)


def placed(model: nn.Module, section: LatencySection) -> nn.Module:
    """The model on the section's device, in its dtype and memory format."""
    layout = torch.channels_last if section.channels_last else torch.contiguous_format
    dtype = getattr(torch, section.dtype)
    # torch takes them together, which its types do not say
    moved: nn.Module = model.to(device=section.device, dtype=dtype, memory_format=layout)  # type: ignore[call-overload]
    return moved


def prepare(
    model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None = None
) -> Net:
    """Makes a copy of a network ready to be timed.

    Args:
        model: the network, which does not change.
        section: how latency is measured.
        x: the input (N, C, H, W).
        images: float32 (M, C, H, W), calibrate a quantized mode; None: noise.

    Returns:
        What has its turns.

    Raises:
        MeasurementError: the network cannot run so.
        DeviceLost: this process cannot measure any more.
    """
    try:
        mode = section.row
        channels, height, width = x.shape[1:]
        more = {"images": images} if mode.quantized else {}
        copied = deployed(model, section, (channels, height, width))
        net: Net = mode.prepare()(copied, section, x, **more)
        return net
    except (MeasurementError, DeviceLost):
        raise
    except Exception as error:
        raise MeasurementError(
            f"the network cannot be prepared for latency.mode = '{section.mode}' with dtype"
            f" {section.dtype} on {section.device}: {why_not_exported(error)}"
        ) from error


def eager(model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    """In torch, as it is."""
    return timed(lambda: model(x), section)


def compiled_alone(model: nn.Module, **settings: Any) -> Callable[[Tensor], object]:
    """`torch.compile`, with a code object of its own: of one code, the compiler keeps a few
    results, and runs what comes then as it is, without a word.
    """

    def forward(x: Tensor) -> object:
        return model(x)

    own = FunctionType(forward.__code__.replace(), globals(), closure=forward.__closure__)
    quick: Callable[[Tensor], object] = torch.compile(own, **settings)
    return quick


def compiled(model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    """Through torch.compile."""
    quick = compiled_alone(model, dynamic=False)
    # in inference mode, as in the timing, or it would be compiled again; the compiler's warnings do
    # not concern this network
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quick(x)
    return timed(lambda: quick(x), section)


def cuda_graph(model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    """Replayed as a CUDA graph. MeasurementError: the network waits for the GPU within a call.
    DeviceLost: this process cannot measure any more.
    """
    device = x.device
    pool = torch.cuda.graph_pool_handle()
    side = side_stream(device)
    current = torch.cuda.current_stream(device)
    side.wait_stream(current)
    with torch.cuda.stream(side):
        # libraries choose their kernels before the capture
        for _ in range(UNTIMED_CALLS):
            model(x)
        with waits() as noted:
            model(x)
    current.wait_stream(side)
    if noted:
        raise MeasurementError(
            f"the network cannot be a CUDA graph, since it waits for the GPU in each call, at"
            f" {noted[0]}: set latency.mode = 'eager'"
        )
    graph = torch.cuda.CUDAGraph()
    try:
        with capture(graph, device, pool):
            result = model(x)
    except Exception as error:
        mend(device, pool, error, way_out="start again with latency.mode = 'eager'")
        raise
    net = timed(graph.replay, section)
    # the graph reads and writes their memory
    return Net(net.turn, owned=(model, x, result))


def by_runtime(
    model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None = None
) -> Net:
    """Opens a network in a runtime that reads files.

    Args:
        model: the network, in eval mode, in the section's dtype.
        section: the recipe's `[latency]`.
        x: an input (N, C, H, W).
        images: float32 (M, C, H, W) that calibrate a quantized mode.
    """
    given = x.cpu().contiguous().numpy()
    # Windows removes no file that is still mapped.
    with tempfile.TemporaryDirectory(prefix="nas_attn-", ignore_cleanup_errors=True) as folder:
        path = Path(folder) / "model.onnx"
        write_runtime_file(model, section, x, images, path)
        call, outputs = opened(section, given, path)
    net = timed(call, section)
    return Net(net.turn, owned=(given, outputs))


def timed(call: Call, section: LatencySection) -> Net:
    """A network whose turns are timed on the section's clock."""
    clock = clock_name(section)
    if clock == "cuda-events":
        # A tensor larger than the L2 cache: writing it empties the cache.
        size: int = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
        return Net(
            _cuda_turns(call, torch.empty(2 * max(size, 2**20), dtype=torch.int8, device="cuda"))
        )
    return Net(lambda calls: host_turn(call, calls, own_time=clock == "thread"))


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _cuda_turns(call: Call, filler: Tensor) -> Turn:
    def turn(calls: int) -> Times:
        """CUDA events round each call; the host waits before and after the sample, never inside."""
        call()
        starts = [_event() for _ in range(calls)]
        ends = [_event() for _ in range(calls)]
        torch.cuda.synchronize()
        wall = time.perf_counter_ns()
        for start, end in zip(starts, ends, strict=True):
            filler.zero_()
            start.record()
            call()
            end.record()
        torch.cuda.synchronize()
        wall = time.perf_counter_ns() - wall
        times = [start.elapsed_time(end) for start, end in zip(starts, ends, strict=True)]
        return sum(times) / calls, wall / calls / 1e6

    return turn


def by_command(model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    """By a user's program, perhaps on another machine; the median of its printed times counts for
    both clocks.
    """
    # the recipe sees to it
    assert section.command is not None
    path = Path(tempfile.mkdtemp(prefix="nas_attn-")) / "model.onnx"

    def turn(calls: int) -> Times:
        milliseconds = statistics.median(
            value for _ in range(calls) for value in run_command(words)
        )
        return milliseconds, milliseconds

    weakref.finalize(turn, shutil.rmtree, path.parent, ignore_errors=True)
    write_onnx(model, x, path)
    words = command_words(section.command, path)
    return Net(turn)
