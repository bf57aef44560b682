"""Every attention module on the device: against float64 on the CPU, what waits, whether it is
recorded, and how long it takes.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from gpu_check.findings import Finding, found_by
from gpu_check.timing import microseconds
from nas_attn.attention import catalogue
from nas_attn.system import cuda_graphs

MODULES_PART = "modules"
CHANNELS = 32
MAP_SIDE = 16
CHECKED_IMAGES = 16
# on a GPU
TIMED_IMAGES = 512
# relative distance to float64 that float32 may have
FLOAT32_DISTANCE = 1e-4
# that bfloat16 may have
BFLOAT16_DISTANCE = 0.05


def findings(device: torch.device) -> Iterator[Finding]:
    """One for each module, with its times in bfloat16, forward and backward."""
    conv = torch.backends.cudnn.allow_tf32
    matmul = torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    try:
        for name in catalogue.ROWS:
            yield found_by(partial(look, name, device), MODULES_PART, name)
    finally:
        torch.backends.cudnn.allow_tf32 = conv
        torch.backends.cuda.matmul.allow_tf32 = matmul


def look(name: str, device: torch.device) -> Finding:
    """One module, in its published form."""
    torch.manual_seed(0)
    module = catalogue.create(name, CHANNELS, height=MAP_SIDE, width=MAP_SIDE, init="paper")
    module.double().train()
    x = torch.randn(CHECKED_IMAGES, CHANNELS, MAP_SIDE, MAP_SIDE, dtype=torch.float64)
    weights = torch.randn_like(x)
    expected, expected_gradient = _answers(module, x, weights)

    module.zero_grad()
    module.float().to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    answer, gradient = _answers(module, _on(x, device), _on(weights, device))
    step = ModuleStep(module, device, _on(x, device, torch.bfloat16))
    low = step()
    values: dict[str, Any] = {
        "float32": _distance(answer, expected),
        "float32_gradient": _distance(gradient, expected_gradient),
        "bfloat16": _distance(low, expected),
        "bfloat16_gives": str(low.dtype).removeprefix("torch."),
        "channels_last": low.is_contiguous(memory_format=torch.channels_last),
    }
    if device.type == "cuda":
        values |= _recorded(module, device)
    else:
        values["eager_us"] = round(microseconds(step, device, calls=2), 1)
    return _judged(name, values)


class ModuleStep:
    """Forward and backward in bfloat16."""

    def __init__(self, module: nn.Module, device: torch.device, x: Tensor) -> None:
        self.module = module
        self.device = device
        self.x = x.requires_grad_()

    def __call__(self) -> Tensor:
        with torch.autocast(self.device.type, torch.bfloat16):
            y: Tensor = self.module(self.x)
        torch.autograd.backward(y, torch.ones_like(y))
        return y.detach()


def _recorded(module: nn.Module, device: torch.device) -> dict[str, Any]:
    """What waits for the device in a step, and whether a CUDA graph of it can be recorded."""
    x = torch.randn(TIMED_IMAGES, CHANNELS, MAP_SIDE, MAP_SIDE, device=device, dtype=torch.bfloat16)
    step = ModuleStep(module, device, x.contiguous(memory_format=torch.channels_last))
    side = cuda_graphs.side_stream(device)
    side.wait_stream(torch.cuda.current_stream(device))
    with torch.cuda.stream(side):
        step()
        with cuda_graphs.waits() as noted:
            step()
    torch.cuda.current_stream(device).wait_stream(side)
    values: dict[str, Any] = {"waits": noted, "eager_us": round(microseconds(step, device), 1)}
    if noted:
        return values
    step.x.grad = None
    module.zero_grad()
    graph = torch.cuda.CUDAGraph()
    pool = torch.cuda.graph_pool_handle()
    try:
        with cuda_graphs.capture(graph, device, pool):
            step()
    except Exception as error:
        cuda_graphs.mend(device, pool, error, way_out="see docs/develop/gpu-check.md")
        raise
    graph.replay()
    values["recorded"] = True
    values["graph_us"] = round(microseconds(graph.replay, device), 1)
    return values


def _judged(name: str, values: dict[str, Any]) -> Finding:
    float32 = max(values["float32"], values["float32_gradient"])
    bfloat16 = values["bfloat16"]
    # Not a number is far, too.
    if not float32 < FLOAT32_DISTANCE:
        far = f"float32 is {float32:.1e} from float64, more than {FLOAT32_DISTANCE:g}"
        return Finding(MODULES_PART, name, "bad", f"{far}: its results are wrong", values)
    if not bfloat16 < BFLOAT16_DISTANCE:
        far = f"bfloat16 is {bfloat16:.1e} from float64, more than {BFLOAT16_DISTANCE:g}"
        return Finding(MODULES_PART, name, "bad", far, values)
    if values.get("waits"):
        place = values["waits"][0]
        said = f"waits for the GPU in each step, at {place}: it is not recorded"
        return Finding(MODULES_PART, name, "note", said, values)
    said = f"float32 {float32:.0e}, bfloat16 {bfloat16:.0e} from float64"
    return Finding(MODULES_PART, name, "ok", said, values)


def _on(tensor: Tensor, device: torch.device, dtype: torch.dtype = torch.float32) -> Tensor:
    return tensor.to(device, dtype).contiguous(memory_format=torch.channels_last)


def _answers(module: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """The module's output, and the gradient of its weighted sum by x."""
    leaf = x.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    y: Tensor = module(leaf)
    torch.autograd.backward((y.double() * weights.double()).sum())
    assert leaf.grad is not None
    return y.detach(), leaf.grad


def _distance(answer: Tensor, expected: Tensor) -> float:
    """The norm of the difference, relative to the expected one."""
    difference = (answer.double().cpu() - expected).norm()
    return float(difference / expected.norm().clamp(min=1e-12))
