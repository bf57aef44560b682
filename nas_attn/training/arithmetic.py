"""How trainings compute on a kind of device: what `auto` means there, and what a machine cannot do.

The choice changes results as much as another seed. So a study makes it once for each kind of device
and keeps it (`training.study_arithmetic`); whoever trains without a study makes it once per
process.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import replace
from functools import cache
from typing import Literal

import torch
from torch import nn
from torch.nn.functional import conv2d

from nas_attn.recipe.recipe import TrainingSection
from nas_attn.storage.records import FILLED, Arithmetic, Batches
from nas_attn.training.parameters import fused_in
from nas_attn.training.stepping import execution_on
from nas_attn.training.threads import GAIN, intra_op_threads

# timed convolutions in either precision
TIMED_CONVOLUTIONS = 15
# a clock of processor time must be at least as fine
FINE_S = 1e-4
# side of the largest usual depthwise kernel: those of MobileNet and EfficientNet
USUAL_KERNEL = 5
# least compute capability of a GPU with TF32
AMPERE = 8
TF32 = Literal["none", "convolutions", "matmul", "all"]

PLAIN = Arithmetic("float32", "channels_last", "eager", "none", fused=False, batches=FILLED)
"""For scores that do not depend on a machine."""


def decided(
    section: TrainingSection,
    device: torch.device,
    *,
    depthwise: bool = False,
    recordable: bool = True,
    batches: Batches = FILLED,
) -> Arithmetic:
    """The arithmetic of new trainings on a device.

    Args:
        depthwise: whether the backbone has depthwise convolutions.
        recordable: whether all batches have the same operations.

    Raises RecipeError: `section.execution` is not for this device.
    """
    low = section.precision == "bfloat16"
    low |= section.precision == "auto" and computes_bfloat16(device, depthwise=depthwise)
    return Arithmetic(
        precision="bfloat16" if low else "float32",
        memory_format="channels_last",
        execution=execution_on(section, device) if recordable else "eager",
        tf32=_tf32(device),
        fused=fused_in(section, device),
        batches=batches,
    )


def possible(arithmetic: Arithmetic, section: TrainingSection, device: torch.device) -> Arithmetic:
    """An arithmetic, without what this machine cannot do. A precision that the recipe names is
    computed everywhere, if slowly.
    """
    if (
        arithmetic.precision == "bfloat16"
        and section.precision == "auto"
        and not _has_bfloat16(device)
    ):
        arithmetic = replace(arithmetic, precision="float32")
    if arithmetic.tf32 != "none" and not _has_tf32(device):
        arithmetic = replace(arithmetic, tf32="none")
    if arithmetic.fused and not fused_in(section, device):
        arithmetic = replace(arithmetic, fused=False)
    if arithmetic.execution == "cuda-graph" and device.type != "cuda":
        arithmetic = replace(arithmetic, execution="eager")
    return arithmetic


@cache
def computes_bfloat16(device: torch.device, *, depthwise: bool = False) -> bool:
    """Whether bfloat16 is faster than float32: on a GPU that computes in it (a T4 or V100 only
    imitates it, slowly), and on a CPU with instructions for it where a convolution is, and for
    networks with `depthwise` convolutions such a one, too.

    The instructions do not decide: an Intel Xeon without matrix units has them, and is slower; an
    AMD EPYC is faster, but not in depthwise convolutions (docs/benchmarks/evaluation.md).
    """
    if not _has_bfloat16(device):
        return False
    kinds = (False, True) if depthwise else (False,)
    return device.type == "cuda" or all(
        convolves_faster(torch.bfloat16, depthwise=kind) for kind in kinds
    )


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        with nullcontext() if device.index is None else torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type != "cpu":
        return False
    capabilities: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return any(capabilities.get(name, False) for name in ("avx512_bf16", "amx_bf16"))


def convolves_faster(dtype: torch.dtype, *, depthwise: bool) -> bool:
    """Whether a convolution and its gradients are clearly faster in a lower precision than in
    float32.
    """
    return convolution_time(dtype, depthwise=depthwise) < GAIN


@torch.inference_mode(False)
@torch.enable_grad()
def convolution_time(dtype: torch.dtype, *, depthwise: bool) -> float:
    """The time of a convolution and its gradients in a lower precision, in times of that in
    float32, measured by turns on one thread.

    The time is the processor's: beside other work, the ratio of wall times was anything from 0.2 to
    1.3 where that of the processor's times was 0.69 to 0.77 (docs/benchmarks/evaluation.md).
    """
    channels = 64
    if depthwise:
        groups = channels
        kernel = USUAL_KERNEL
    else:
        groups = 1
        kernel = 3
    x = torch.ones(32, channels, 8, 8).contiguous(memory_format=torch.channels_last)
    weight = torch.ones(channels, channels // groups, kernel, kernel, requires_grad=True)
    fine = time.get_clock_info("process_time").resolution < FINE_S
    clock = time.process_time if fine else time.perf_counter

    def step(low: bool) -> float:
        began = clock()
        with torch.autocast("cpu", dtype, enabled=low):
            torch.autograd.backward(
                conv2d(x, weight, padding=kernel // 2, groups=groups).float().sum()
            )
        return clock() - began

    with intra_op_threads(1):
        # the first ones choose kernels
        step(False)
        step(True)
        times_s = [(step(False), step(True)) for _ in range(TIMED_CONVOLUTIONS)]
    # Of wall times, only the shortest are of the convolution alone.
    usual: Callable[[Iterable[float]], float] = statistics.median if fine else min
    plain_s, low_s = map(usual, zip(*times_s, strict=True))
    return low_s / plain_s


def has_depthwise(network: nn.Module) -> bool:
    """Whether a network has depthwise convolutions of usual size. Larger ones are of networks, like
    ConvNeXt, whose time is elsewhere.
    """
    convolutions = [module for module in network.modules() if isinstance(module, nn.Conv2d)]
    return any(
        c.groups == c.in_channels > 1 and 1 < max(c.kernel_size) <= USUAL_KERNEL
        for c in convolutions
    )


def _has_tf32(device: torch.device) -> bool:
    if device.type != "cuda" or not torch.cuda.is_available():
        return False
    return torch.cuda.get_device_properties(device).major >= AMPERE


def _tf32(device: torch.device) -> TF32:
    """What torch's settings in this process let float32 operations round to TF32."""
    if not _has_tf32(device):
        return "none"
    convolutions = _rounds(torch.backends.cudnn.conv.fp32_precision)  # type: ignore[attr-defined]
    products = _rounds(torch.backends.cuda.matmul.fp32_precision)
    if convolutions and products:
        return "all"
    if convolutions:
        return "convolutions"
    return "matmul" if products else "none"


def _rounds(setting: str) -> bool:
    """Whether a setting of torch, or the general one that stands behind it, is TF32."""
    usual: str = torch.backends.fp32_precision  # type: ignore[attr-defined]
    return (usual if setting == "none" else setting) == "tf32"


@contextmanager
def tf32_as(arithmetic: Arithmetic, device: torch.device) -> Iterator[None]:
    """Inside, float32 operations on a GPU round to TF32 as in this arithmetic."""
    if device.type != "cuda":
        yield
        return
    convolutions = torch.backends.cudnn.conv  # type: ignore[attr-defined]
    products = torch.backends.cuda.matmul
    before = convolutions.fp32_precision, products.fp32_precision
    convolutions.fp32_precision = _setting(arithmetic.tf32 in ("convolutions", "all"))
    products.fp32_precision = _setting(arithmetic.tf32 in ("matmul", "all"))
    try:
        yield
    finally:
        convolutions.fp32_precision, products.fp32_precision = before


def _setting(rounds: bool) -> str:
    return "tf32" if rounds else "ieee"
