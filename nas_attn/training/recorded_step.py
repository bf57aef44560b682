"""A step of training that is recorded once as a CUDA graph, and then replayed."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from nas_attn.errors import first_line
from nas_attn.system.cuda_graphs import capture, mend, side_stream, waits
from nas_attn.training.memory import out_of_memory
from nas_attn.training.stepping import Step

log = logging.getLogger("nas_attn.training")

# Ordinary steps before the recording, in which libraries choose kernels and allocate
ORDINARY_STEPS = 3

WITHOUT_GRAPH = "resume the study, which then trains this network without a graph"


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recorded step, and its input tensors."""

    graph: torch.cuda.CUDAGraph
    x: Tensor
    y: Tensor


class RecordedStep:
    """A step that is recorded once per shape of batch as a CUDA graph and then replayed: one launch
    instead of hundreds, which for small networks take the host longer than the device computes. The
    first steps of each shape are ordinary ones. So are all steps of a network that waits for the
    device within a step (`.item()`, a mask as an index), and of an optimizer that counts its steps
    on the host.
    """

    def __init__(
        self, step: Step, device: torch.device, on_recording: Callable[[], None] = lambda: None
    ) -> None:
        """`on_recording`: called when a step has been recorded."""
        self._step = step
        self._on_recording = on_recording
        self._side = side_stream(device)
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._recordings: dict[tuple[object, ...], _Recording] = {}
        # Whether further shapes are recorded
        self.able = True
        if step.optimizer:
            _read_on_device(step.optimizer, device)

    def __call__(self, x: Tensor, y: Tensor, rate: float, parts: int) -> None:
        """Trains on one batch. OutOfMemoryError: it may be tried again in more parts. DeviceLost: a
        recording failed, and the batch is still to be trained on, by another process.
        """
        shapes = (tuple(x.shape), tuple(y.shape), y.dtype, parts)
        if self.able and shapes not in self._recordings and self._seen[shapes] >= ORDINARY_STEPS:
            self._record(shapes, x, y, parts)
        recording = self._recordings.get(shapes)
        if recording is not None:
            recording.x.copy_(x)
            recording.y.copy_(y)
            self._step.set_rate(rate)
            recording.graph.replay()
            return
        self._seen[shapes] += 1
        if not self.able or self._seen[shapes] < ORDINARY_STEPS:
            self._beside(x, y, rate, parts)
            return
        # The last ordinary step before the recording shows whether it can be recorded.
        with waits() as noted:
            self._beside(x, y, rate, parts)
        if noted:
            self._record_no_more(f"the step waits for the device at {noted[0]}")
        elif self._step.optimizer and _counts_on_host(self._step.optimizer):
            self._record_no_more("its optimizer counts the steps on the host")

    def _beside(self, x: Tensor, y: Tensor, rate: float, parts: int) -> None:
        """An ordinary step on the recording's stream, so that gradients and momentum belong to that
        stream.
        """
        current = torch.cuda.current_stream(x.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            self._step(x, y, rate, parts)
        current.wait_stream(self._side)

    def _record(self, shapes: tuple[object, ...], x: Tensor, y: Tensor, parts: int) -> None:
        if self._step.optimizer:
            self._step.optimizer.zero_grad()
        recording = _Recording(torch.cuda.CUDAGraph(), x.clone(), y.clone())
        torch.cuda.synchronize(x.device)
        try:
            with capture(recording.graph, x.device, self._pool):
                self._step.descend(recording.x, recording.y, parts)
        except Exception as error:
            # any error of a network; an ordinary step reports it
            mend(x.device, self._pool, error, way_out=WITHOUT_GRAPH)
            for cause in (error, error.__context__):
                if isinstance(cause, RuntimeError) and out_of_memory(cause):
                    raise cause from None
            self._record_no_more(first_line(error))
            return
        self._recordings[shapes] = recording
        self._on_recording()

    def _record_no_more(self, reason: str) -> None:
        self.able = False
        if not self._recordings and self._step.optimizer:
            _read_on_host(self._step.optimizer)
        log.info("training continues without a CUDA graph: %s", reason)


def _read_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """The optimiser takes its learning rates from the device, so that a recorded step sees them
    change, and counts its steps there if it can.
    """
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
        if "capturable" not in group:
            continue
        # Adam needs it, and would warn about ordinary steps
        group["capturable"] = optimizer._warned_capturable_if_run_uncaptured = True
        for parameter in group["params"]:
            state = optimizer.state.get(parameter, {})
            if isinstance(state.get("step"), Tensor):
                state["step"] = state["step"].to(device)


def _read_on_host(optimizer: torch.optim.Optimizer) -> None:
    """The optimizer takes its learning rates from the host again: an optimizer that is not fused
    would wait for the device to read them.
    """
    for group in optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"] = group["lr"].item()


def _counts_on_host(optimizer: torch.optim.Optimizer) -> bool:
    """Whether an optimizer counts its steps on the host, where a replay does not count on."""
    return any(
        "step" in optimizer.state.get(parameter, {})
        for group in optimizer.param_groups
        if not (group.get("fused") or group.get("capturable"))
        for parameter in group["params"]
    )
