"""One batch of training: its operations in their order, eager, through torch.compile, or recorded
as a CUDA graph; and the pace of the host beside a CUDA device.
"""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_attn.errors import TrainingError, first_line
from nas_attn.latency.nets import compiled_alone
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.system.cuda_graphs import capture, mend, side_stream, waits
from nas_attn.training.faults import out_of_memory

# Ordinary steps before the recording, in which libraries choose kernels and allocate
ORDINARY_STEPS = 3

WITHOUT_GRAPH = "resume the study, which then trains this network without a graph"
# batches that the host may queue on a CUDA device
AHEAD = 8

log = logging.getLogger("nas_attn.training")

Forward = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
# x, y, learning rate, parts of the batch
Stepper = Callable[[Tensor, Tensor, float, int], None]


def compiled(model: nn.Module) -> Callable[[Tensor], object]:
    """The network through torch.compile. The first call compiles it, and raises TrainingError if
    that fails.
    """
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    # see `plain_order`
    own_order: dict[str, str | int | bool | Callable[..., object]] = {"layout_optimization": False}
    quick = compiled_alone(model, options=own_order if on_cpu else None)

    def call(x: Tensor) -> object:
        try:
            return quick(x)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = first_line(error)
            raise TrainingError(
                f"the network cannot be compiled: {reason}; set training.execution = 'eager'"
            ) from error

    return call


@dataclass
class Step:
    """Forward, loss, backward, clipping and the optimiser's step, one operation after the other."""

    # x, y -> float32 logits
    forward: Forward
    # logits, y -> sum over the images
    loss: Loss
    optimizer: torch.optim.Optimizer | None
    section: TrainingSection
    # float64, to which losses are added
    loss_sum: Tensor

    def __call__(self, x: Tensor, y: Tensor, rate: float, parts: int) -> None:
        self.set_rate(rate)
        self.descend(x, y, parts)

    def set_rate(self, rate: float) -> None:
        """Sets each group's learning rate, in place if it is on the device."""
        for group in self.optimizer.param_groups if self.optimizer else ():
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group["factor"])
            else:
                group["lr"] = rate * group["factor"]

    def descend(self, x: Tensor, y: Tensor, parts: int) -> None:
        """The step at the learning rate that is set."""
        section = self.section
        optimizer = self.optimizer
        if optimizer:
            optimizer.zero_grad()
        sums = []
        # no part is without images
        parts = min(parts, len(x))
        for part_x, part_y in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            logits = self.forward(part_x, part_y)
            loss = self.loss(logits, part_y)
            if loss.requires_grad:
                torch.autograd.backward(loss / len(x))
            sums.append(loss.detach())
        if optimizer:
            if section.clip_norm is not None:
                nn.utils.clip_grad_norm_(
                    [p for g in optimizer.param_groups for p in g["params"]], section.clip_norm
                )
            optimizer.step()
        # only after the whole step: memory may run out in its second part
        for loss in sums:
            self.loss_sum += loss


class HostPace:
    """Keeps the host at most `AHEAD` batches ahead of a CUDA device. Otherwise the host would queue
    a whole epoch at once, and could neither stop nor give way in the middle of it.
    """

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._under_way: deque[torch.cuda.Event] = deque()

    def __call__(self) -> None:
        if not self._cuda:
            return
        event = torch.cuda.Event(blocking=True)  # type: ignore[no-untyped-call]
        event.record()
        self._under_way.append(event)
        if len(self._under_way) > AHEAD:
            self._under_way.popleft().synchronize()


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
    device within a step (`.item()`, a mask as an index).
    """

    def __init__(
        self, step: Step, device: torch.device, on_recording: Callable[[], None] = lambda: None
    ) -> None:
        """`step`: with one kernel for all parameters, which counts the steps on the device;
        `on_recording`: called when a step has been recorded.
        """
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
        log.info("training continues without a CUDA graph: %s", reason)


def _read_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """The optimiser takes its learning rates from the device, so that a recorded step sees them
    change.
    """
    for group in optimizer.param_groups:
        group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
        if "capturable" in group:
            # Adam needs it, and would warn about ordinary steps
            group["capturable"] = optimizer._warned_capturable_if_run_uncaptured = True
