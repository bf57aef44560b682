"""Where the bare backbone's time goes: its stages, timed from inside while it runs as it is."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from itertools import pairwise
from typing import Any

import torch
from torch import nn

from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.nets import clock_name, deployed, example_input
from nas_attn.latency.session import measuring
from nas_attn.recipe import LatencySection

STEM, REST = "stem", "rest"
"""What comes before the first stage, and after the last."""
ROUNDS = 20
WARM = 5
"""Forward passes before those that count."""


def stage_times(
    section: LatencySection,
    model: nn.Module,
    input_shape: tuple[int, ...],
    spans: Mapping[str, tuple[str, str]],
    *,
    lock: DeviceLock | None = None,
) -> dict[str, float] | None:
    """Milliseconds of what comes before the first stage, of each stage, and of the rest, in the order of execution.

    A stage lasts from the end of the one before it: what joins two of them counts to the second. None where the recipe's
    mode executes no modules (compiled, replayed, exported), or the stages do not run one after the other.

    Args:
        model: the bare backbone; a copy is timed.
        input_shape: (C, H, W); the batch comes from the section.
        spans: stage -> paths of its first and of its last module.
        lock: held exclusively while timing.
    """
    if section.mode != "eager" or not spans:
        return None
    x, copied = example_input(section, input_shape, 0), deployed(model, section)
    runs: list[dict[str, float]] = []
    with measuring(section), lock.exclusive() if lock is not None else nullcontext():
        for number in range(WARM + ROUNDS):
            run = _once(copied, x, spans, section)
            if run is None:
                return None
            if number >= WARM:
                runs.append(run)
    return {name: statistics.median(run[name] for run in runs) for name in runs[0]}


def _once(
    model: nn.Module, x: torch.Tensor, spans: Mapping[str, tuple[str, str]], section: LatencySection
) -> dict[str, float] | None:
    """One forward pass; None where a stage did not begin after the one before it had ended."""
    marks: dict[str, Any] = {}
    mark = _clock(section)
    first = next(iter(spans))
    with _hooks(model, spans, lambda name: marks.__setitem__(name, mark())):
        begin = mark()
        model(x)
        end = mark()
    if section.device == "cuda":
        torch.cuda.synchronize()
    order = [f"<{first}", *spans]
    if not all(name in marks for name in order):
        return None
    moments = [begin, *(marks[name] for name in order), end]
    lengths = [_between(a, b) for a, b in pairwise(moments)]
    return None if min(lengths) < 0 else dict(zip((STEM, *spans, REST), lengths, strict=True))


@contextmanager
def _hooks(model: nn.Module, spans: Mapping[str, tuple[str, str]], note: Callable[[str], None]) -> Iterator[None]:
    """Notes when the first stage begins, and when each one ends."""
    first = next(iter(spans))
    handles = [model.get_submodule(spans[first][0]).register_forward_pre_hook(lambda *_: note(f"<{first}"))]
    handles += [
        model.get_submodule(last).register_forward_hook(lambda *_, stage=stage: note(stage))
        for stage, (_, last) in spans.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _clock(section: LatencySection) -> Callable[[], Any]:
    """What is noted at a moment: an event of the GPU, or nanoseconds of the study's clock."""
    if section.device == "cuda":
        return _event
    return time.thread_time_ns if clock_name(section) == "thread" else time.perf_counter_ns


def _event() -> torch.cuda.Event:
    event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    event.record()
    return event


def _between(a: Any, b: Any) -> float:
    """Milliseconds."""
    return float(a.elapsed_time(b)) if isinstance(a, torch.cuda.Event) else (b - a) / 1e6
