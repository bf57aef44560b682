"""A network made ready to be timed: how it is executed (the recipe's mode) and on which clock.

Every mode (a row of `nas_attn.tables`) ends in a `Net`, whose `turn(calls)` does one untimed call and then times `calls` calls.
"""

from __future__ import annotations

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from nas_attn.attachment import fold_batchnorm, reparameterized
from nas_attn.backbones.detectors import undecided
from nas_attn.errors import MeasurementError, RecipeError, first_line
from nas_attn.importing import load_object
from nas_attn.latency.command import CommandNet
from nas_attn.latency.files import CALIBRATION, quantize, write_ncnn, write_onnx
from nas_attn.latency.paired import Call, Opened, Times, Turn, host_turn
from nas_attn.recipe import LatencySection
from nas_attn.tables import LATENCY_MODES


@dataclass(frozen=True, slots=True)
class Net:
    """A network ready to be timed."""

    turn: Turn
    owned: object = None
    """What must live as long as the network does: a folder with its ONNX file."""


def clock_name(section: LatencySection) -> str:
    """The study's clock under these settings: `thread`, `wall`, `cuda-events` or `command`."""
    if section.mode == "command":
        return "command"
    if section.device == "cuda":
        return "wall" if LATENCY_MODES[section.mode].own_stream else "cuda-events"
    return "thread" if section.threads == 1 else "wall"


def example_input(section: LatencySection, input_shape: tuple[int, ...], seed: int) -> Tensor:
    """Normal noise of shape (batch_size, *input_shape), in the section's dtype and memory format, on its device."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn((section.batch_size, *input_shape), generator=generator)
    x = x.to(device=section.device, dtype=getattr(torch, section.dtype))
    return x.contiguous(memory_format=torch.channels_last) if section.channels_last else x


def deployed(model: nn.Module, section: LatencySection, input_shape: tuple[int, int, int]) -> nn.Module:
    """A copy of the model as it is timed: as it is deployed, on the device, in dtype and memory format.

    Deployed is a network in evaluation mode, reparameterized by its own methods, with each BatchNorm folded into the
    convolution before it. Torchvision's detectors are timed without the choice among their boxes, which depends on weights
    and image.

    Args:
        input_shape: (C, H, W).

    Raises:
        BackboneError: the model cannot process an image of this shape.
    """
    copied = fold_batchnorm(reparameterized(model, input_shape), input_shape)
    copied = undecided(copied.requires_grad_(False))
    copied = copied.to(device=section.device, dtype=getattr(torch, section.dtype))
    if section.channels_last:
        copied = copied.to(memory_format=torch.channels_last)
    return copied


def prepare(model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None = None) -> Net:
    """Makes a copy of the model ready to be timed on input x (N, C, H, W), as the section says.

    Args:
        images: with which a quantized mode is calibrated, (M, C, H, W); None: noise.

    Raises:
        MeasurementError: it cannot be compiled, captured, exported or run in this mode.
    """
    try:
        mode = LATENCY_MODES[section.mode]
        make = load_object(mode.prepare, what="latency.mode", error=RecipeError)
        channels, height, width = x.shape[1:]
        more = {"images": images} if mode.quantized else {}
        net: Net = make(deployed(model, section, (channels, height, width)), section, x, **more)
        return net
    except MeasurementError:
        raise
    except Exception as error:
        reason = first_line(error)
        raise MeasurementError(
            f"the network cannot be prepared for latency.mode = '{section.mode}' with dtype {section.dtype} "
            f"on {section.device}: {reason}"
        ) from error


def eager(model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    """As it is."""
    return timed(lambda: model(x), section)


def compiled(model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    """Through torch.compile."""

    def forward(x: Tensor) -> object:
        return model(x)

    # The compiler keeps what it compiled by code object, a few a piece, and then runs the rest as it is without a word.
    forward.__code__ = forward.__code__.replace()
    quick: Callable[[Tensor], object] = torch.compile(forward, dynamic=False)
    # in inference mode as it will be timed, or it would be compiled again; the compiler's warnings are not about this network
    with torch.inference_mode(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        quick(x)
    return timed(lambda: quick(x), section)


def cuda_graph(model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    """Replayed as a CUDA graph."""
    side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):  # libraries choose their kernels before the capture
        for _ in range(3):
            model(x)
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = model(x)
    net = timed(graph.replay, section)
    return Net(net.turn, owned=(model, x, result))  # the graph reads and writes their memory


def by_runtime(model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None = None) -> Net:
    """By ONNX Runtime or OpenVINO; in the int8 modes quantized with the images, with noise where there are none."""
    opened = open_in_runtime(model, section, x, images)
    net = timed(opened.call, section)
    return Net(net.turn, owned=opened)


def open_in_runtime(model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None) -> Opened:
    """The network in the section's runtime, by way of an ONNX file for inputs of x's shape (N, C, H, W)."""
    with tempfile.TemporaryDirectory(prefix="nas_attn-") as folder:
        path = Path(folder) / f"model{runtime_suffix(section)}"
        write_runtime_file(model, section, x, images, path)
        return Opened(path, section.mode, x.cpu().numpy(), section.threads, section.device)


def runtime_suffix(section: LatencySection) -> str:
    """Of the file that the section's mode runs."""
    return ".param" if section.mode == "ncnn" else ".onnx"


def write_runtime_file(model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None, path: Path) -> None:
    """The file that the section's mode runs, for inputs of x's shape (N, C, H, W)."""
    if section.mode == "ncnn":
        write_ncnn(model, x, path)
        return
    write_onnx(model, x, path)
    if LATENCY_MODES[section.mode].quantized:
        images = torch.randn(CALIBRATION, *x.shape[1:]) if images is None else images
        quantize(path, images.cpu().numpy(), len(x))


# ------------------------------------------------------------------------------------------- clocks


def timed(call: Call, section: LatencySection) -> Net:
    """A network whose turns are timed on the section's clock."""
    clock = clock_name(section)
    if clock == "cuda-events":
        return Net(_cuda_turns(call, _l2_filler()))
    return Net(lambda calls: host_turn(call, calls, own_time=clock == "thread"))


def _cuda_turns(call: Call, filler: Tensor | None) -> Turn:
    def turn(calls: int) -> Times:
        """CUDA events round each call; the host waits before and after the sample, never inside."""
        call()
        starts, ends = [_event() for _ in range(calls)], [_event() for _ in range(calls)]
        torch.cuda.synchronize()
        wall = time.perf_counter_ns()
        for start, end in zip(starts, ends, strict=True):
            if filler is not None:
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
    """By a program of the user's, on another machine perhaps."""
    net = CommandNet(model, section, x)
    return Net(net.turn, owned=net)


def _event() -> torch.cuda.Event:
    return torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]


def _l2_filler() -> Tensor:
    """A tensor larger than the L2 cache: writing it pushes everything else out."""
    size: int = torch.cuda.get_device_properties(torch.cuda.current_device()).L2_cache_size
    return torch.empty(2 * max(size, 2**20), dtype=torch.int8, device="cuda")
