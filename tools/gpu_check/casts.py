"""What it costs that autocast casts each weight by a kernel of its own, and its gradient back: in a
step of a small network, these are kernels of a few microseconds each.

`torch._foreach_copy_` would cast all weights by one kernel. Whether this pays is seen here, before
anything is built for it (docs/benchmarks/brief-training.md).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial

import torch
from torch import Tensor, nn

from gpu_check.findings import Finding, State, found_by
from gpu_check.timing import microseconds
from gpu_check.training import Job, made_up, network, section
from nas_attn.system.cuda_graphs import capture, side_stream
from nas_attn.training.numerics import RECORDED_STEPS
from nas_attn.training.trainer import Trainer

CASTS = "casts"
# a saving of this share of a step is worth code
WORTH = 0.02


def jobs(device: torch.device) -> list[Job]:
    """A small network, without attention and with some; and a large one."""
    if device.type != "cuda":
        return [Job("resnet8", "se", 32, 256, 64, "eager", epochs=1)]
    small = Job("resnet20", "", 32, 12 * 512, 512, "cuda-graph")
    large = Job("torchvision:resnet18", "", 224, 4 * 128, 128, "cuda-graph")
    return [small, replace(small, module="se"), large]


def findings(device: torch.device) -> Iterator[Finding]:
    """What each job's casts cost."""
    for job in jobs(device):
        yield found_by(partial(look, job, device), CASTS, job.subject)


def look(job: Job, device: torch.device) -> Finding:
    """The casts of one step, weight by weight and all at once, beside the step."""
    model = network(job).to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    weights = cast_weights(model)
    lows = [torch.empty_like(weight, dtype=torch.bfloat16) for weight in weights]
    apart_us = _time_us(partial(one_by_one, weights, lows), device)
    together_us = _time_us(partial(at_once, weights, lows), device)
    trainer = Trainer(section(job), made_up(job, device), device=device)
    step_us = 1e6 * trainer.step_s(network(job), RECORDED_STEPS)
    saved_share = max(0.0, apart_us - together_us) / step_us
    values = {
        **job.as_values(),
        "weights": len(weights),
        "apart_us": round(apart_us, 1),
        "together_us": round(together_us, 1),
        "step_us": round(step_us, 1),
        "saved_share": round(saved_share, 4),
    }
    state: State = "note" if saved_share > WORTH else "ok"
    said = (
        f"{len(weights)} weights are cast in {apart_us:.0f} us, at once in {together_us:.0f} us:"
        f" this would save {100 * saved_share:.1f} % of a step of {step_us / 1e3:.2f} ms"
    )
    return Finding(CASTS, job.subject, state, said, values)


def cast_weights(model: nn.Module) -> list[Tensor]:
    """The parameters that autocast casts: of convolutions and linear layers."""
    kinds = (nn.modules.conv._ConvNd, nn.Linear)
    layers = [module for module in model.modules() if isinstance(module, kinds)]
    return [weight.detach() for layer in layers for weight in layer.parameters(recurse=False)]


def one_by_one(weights: Sequence[Tensor], lows: Sequence[Tensor]) -> None:
    """As autocast: each weight to the lower precision, and its gradient back."""
    for weight, low in zip(weights, lows, strict=True):
        low.copy_(weight)
    for weight, low in zip(weights, lows, strict=True):
        weight.copy_(low)


def at_once(weights: Sequence[Tensor], lows: Sequence[Tensor]) -> None:
    """The same by one kernel each way."""
    torch._foreach_copy_(list(lows), list(weights))
    torch._foreach_copy_(list(weights), list(lows))


def _time_us(work: Callable[[], None], device: torch.device) -> float:
    """On CUDA as in a recorded step: the device's time alone."""
    if device.type != "cuda":
        return microseconds(work, device)
    with torch.cuda.stream(side_stream(device)):
        work()
    torch.cuda.synchronize(device)
    graph = torch.cuda.CUDAGraph()
    with capture(graph, device, torch.cuda.graph_pool_handle()):
        work()
    return microseconds(graph.replay, device)
