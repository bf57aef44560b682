"""One batch of training, as it is, through torch.compile, or replayed as a CUDA graph; and the threads that it pays to use.

Threads wait for each other at the end of every operation: beside two busy processes on 2 cores, a step of a small network took 1.1 s
with two threads, 20 ms with one. The number is fixed for a run, in its checkpoint, because it changes the order of sums.
"""

from __future__ import annotations

import logging
import os
import time
import warnings
from collections import Counter, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from nas_attn.errors import NasAttnWarning, RecipeError, TrainingError, first_line
from nas_attn.processes import cores
from nas_attn.recipe import TrainingSection
from nas_attn.training.parameters import FUSED

GAIN = 0.9  # more threads are taken where steps take less than this share of the time with fewer, and each of them less
ROUNDS = 3  # steps timed with more and with fewer threads, in turns, after one each to warm up
FAR = 5.0  # so many times the time of fewer threads, and the first step with more is the last
LONG_S = 0.5  # where a step takes this long, one round is enough
LATEST_S = 900.0  # seconds after which the number is chosen anew


class Threads:
    """The intra-op threads of one worker's trainings on a CPU: `fixed` by the user, else measured, `most` of the cores."""

    def __init__(self, fixed: int | None = None, *, most: int | None = None) -> None:
        self.fixed, self.most = fixed, most or cores()
        self._latest = fixed or 1
        self._chosen: tuple[int, float] | None = None

    @property
    def usual(self) -> int:
        """For what cannot be timed, like a user's evaluator."""
        return self.fixed or self.most

    @contextmanager
    def latest(self) -> Iterator[None]:
        """In here, torch has as many as the last run had, one where there was none."""
        with intra_op_threads(self._latest):
            yield

    def number(self, recorded: int | None, step: Callable[[], object]) -> int:
        """Threads of a run: those that are `recorded` of its beginning, or found by steps of a copy, whatever these raise."""
        self._latest = self._number(recorded, step)
        return self._latest

    def _number(self, recorded: int | None, step: Callable[[], object]) -> int:
        if self.fixed is not None:
            if recorded not in (None, self.fixed):
                said = f"a run that began with {recorded} threads continues with {self.fixed}, as you asked"
                warnings.warn(f"{said}: its result will differ in the last digits", NasAttnWarning, stacklevel=2)
            return self.fixed
        if recorded is not None:
            return recorded
        if self._chosen is None or time.monotonic() - self._chosen[1] > LATEST_S:
            self._chosen = quickest(step, self.most), time.monotonic()
        return self._chosen[0]


@contextmanager
def intra_op_threads(threads: int | None) -> Iterator[None]:
    """Torch with so many threads inside; None: as it is. Inside, the number may be set anew."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def quickest(step: Callable[[], object], most: int) -> int:
    """The number of threads (1, 2, 4, …, most) with which a step is quickest: it goes up as long as that pays."""
    best, numbers = 1, [2**power for power in range(1, 32) if 2**power < most]
    with intra_op_threads(None):
        for number in (*numbers, most) if most > 1 else ():
            try:
                if not _pays(step, number, best):
                    break
            except Exception:  # the training itself will say what is wrong
                break
            best = number
    return best


def _pays(step: Callable[[], object], number: int, fewer: int) -> bool:
    """Whether steps are quicker with a number of threads than with fewer, tried in turns, each time."""
    fewer_s, more_s = _time(step, fewer), _time(step, number)
    if more_s > FAR * fewer_s:
        return False
    times_s = []
    for _ in range(1 if fewer_s > LONG_S else ROUNDS):
        fewer_s, more_s = _time(step, fewer), _time(step, number)
        if more_s >= fewer_s:
            return False
        times_s.append((fewer_s, more_s))
    return sum(more for _, more in times_s) < GAIN * sum(few for few, _ in times_s)


def _time(step: Callable[[], object], threads: int) -> float:
    torch.set_num_threads(threads)
    began = time.perf_counter()
    step()
    return time.perf_counter() - began


def cores_for(workers: int = 1) -> int:
    """Cores for each of several workers of this machine: those that this process may use, or `$OMP_NUM_THREADS` of them."""
    here = cores()
    said = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    return max(1, min(here // workers, int(said) if said.isdigit() and int(said) else here))


log = logging.getLogger("nas_attn.training")

WARM_UP = 3  # Ordinary steps before one is recorded: in the first ones libraries choose kernels and allocate
LONG = 100  # Steps from which on a CUDA graph is recorded: that takes as long as some tens of them
AHEAD = 8  # batches that the host may be in front of a CUDA device

Forward = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
Stepper = Callable[[Tensor, Tensor, float, int], None]  # x, y, learning rate, parts of the batch


def execution_on(section: TrainingSection, device: torch.device, steps: int = LONG) -> str:
    """`eager`, `compile` or `cuda-graph` for a training of so many steps. `auto` is `cuda-graph` on CUDA, but for a few steps, else
    `eager`: compiling takes longer than a brief training (docs/benchmarks/evaluation.md). RecipeError: a CUDA graph elsewhere."""
    if section.execution == "auto":
        recorded = device.type == "cuda" and steps >= LONG and section.optimizer in FUSED
        return "cuda-graph" if recorded else "eager"
    if section.execution == "cuda-graph" and device.type != "cuda":
        raise RecipeError(
            f"training.execution = 'cuda-graph' needs a GPU, and this worker trains on '{device}': "
            "take the device cuda, or set training.execution = 'auto'"
        )
    return section.execution


def compiled(model: nn.Module) -> Callable[[Tensor], object]:
    """The network through torch.compile, which compiles it at the first call, or raises TrainingError there."""

    def forward(x: Tensor) -> object:
        return model(x)

    # The compiler keeps what it compiled by code object, a few a piece, and then runs the rest as it is without a word.
    forward.__code__ = forward.__code__.replace()
    quick: Callable[[Tensor], object] = torch.compile(forward)

    def call(x: Tensor) -> object:
        try:
            return quick(x)
        except torch._dynamo.exc.TorchDynamoException as error:
            said = first_line(error)
            raise TrainingError(f"the network cannot be compiled: {said}; set training.execution = 'eager'") from error

    return call


class Step:
    """Forward, loss, backward, clipping and the optimiser's step, one operation after the other."""

    def __init__(
        self,
        forward: Forward,
        loss: Loss,
        optimizer: torch.optim.Optimizer | None,
        section: TrainingSection,
        loss_sum: Tensor,
    ) -> None:
        """`forward`: x, y -> float32 logits; `loss`: logits, y -> sum over the images, which is added to `loss_sum` (float64)."""
        self.forward, self.loss = forward, loss
        self.optimizer, self.section, self.loss_sum = optimizer, section, loss_sum

    def __call__(self, x: Tensor, y: Tensor, rate: float, parts: int) -> None:
        self.set_rate(rate)
        self.descend(x, y, parts)

    def set_rate(self, rate: float) -> None:
        """Sets each group's learning rate, in place where it lies on the device."""
        for group in self.optimizer.param_groups if self.optimizer else ():
            if isinstance(group["lr"], Tensor):
                group["lr"].fill_(rate * group["factor"])
            else:
                group["lr"] = rate * group["factor"]

    def descend(self, x: Tensor, y: Tensor, parts: int) -> None:
        """The step at the learning rate that is set."""
        section, optimizer = self.section, self.optimizer
        if optimizer:
            optimizer.zero_grad()
        sums = []
        for part_x, part_y in zip(x.tensor_split(parts), y.tensor_split(parts), strict=True):
            logits = self.forward(part_x, part_y)
            loss = self.loss(logits, part_y)
            if loss.requires_grad:
                torch.autograd.backward(loss / len(x))
            sums.append(loss.detach())
        if optimizer:
            if section.clip_norm is not None:
                nn.utils.clip_grad_norm_([p for g in optimizer.param_groups for p in g["params"]], section.clip_norm)
            optimizer.step()
        for loss in sums:  # not before the step is through: memory may run out in its second part
            self.loss_sum += loss


@dataclass(frozen=True, slots=True)
class _Recording:
    """A recorded step, and the tensors that it reads its batch from."""

    graph: torch.cuda.CUDAGraph
    x: Tensor
    y: Tensor


class RecordedStep:
    """A step that is recorded once per shape of batch as a CUDA graph and then replayed: one launch in place of hundreds, which take the
    host longer than the device computes on small networks. The first steps of each shape are ordinary ones, and so are all of a network
    that waits for the device within a step (`.item()`, a mask as an index)."""

    def __init__(self, step: Step, device: torch.device) -> None:
        self._step = step
        self._side = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        self._pool = torch.cuda.graph_pool_handle()
        self._seen: Counter[tuple[object, ...]] = Counter()
        self._recordings: dict[tuple[object, ...], _Recording] = {}
        self.able = True  # false once a recording has failed

    def __call__(self, x: Tensor, y: Tensor, rate: float, parts: int) -> None:
        shapes = (tuple(x.shape), tuple(y.shape), y.dtype, parts)
        if self.able and shapes not in self._recordings and self._seen[shapes] >= WARM_UP:
            self._record(shapes, x, y, parts)
        recording = self._recordings.get(shapes)
        if recording is None:
            self._seen[shapes] += 1
            self._beside(x, y, rate, parts)
            return
        recording.x.copy_(x)
        recording.y.copy_(y)
        self._step.set_rate(rate)
        recording.graph.replay()

    def _beside(self, x: Tensor, y: Tensor, rate: float, parts: int) -> None:
        """An ordinary step on the stream that recording uses, so that gradients and momentum belong to it."""
        current = torch.cuda.current_stream(x.device)
        self._side.wait_stream(current)
        with torch.cuda.stream(self._side):
            self._step(x, y, rate, parts)
        current.wait_stream(self._side)

    def _record(self, shapes: tuple[object, ...], x: Tensor, y: Tensor, parts: int) -> None:
        optimizer = self._step.optimizer
        if optimizer:
            optimizer.zero_grad()
            _read_on_device(optimizer, x.device)
        recording = _Recording(torch.cuda.CUDAGraph(), x.clone(), y.clone())
        torch.cuda.synchronize(x.device)
        # A recording that fails may leave its own stream the current one.
        here = torch.cuda.stream(torch.cuda.current_stream(x.device))
        try:
            with here, torch.cuda.graph(recording.graph, pool=self._pool, stream=self._side):
                self._step.descend(recording.x, recording.y, parts)
        except torch.OutOfMemoryError:
            raise
        except Exception as error:  # whatever a network does; an ordinary step says what is wrong
            self.able = False
            torch.cuda.synchronize(x.device)
            log.info("training continues without a CUDA graph, which could not be recorded: %s", first_line(error))
            return
        self._recordings[shapes] = recording


def _read_on_device(optimizer: torch.optim.Optimizer, device: torch.device) -> None:
    """The optimiser takes its learning rates from the device, so that a recorded step sees them change."""
    for group in optimizer.param_groups:
        if not isinstance(group["lr"], Tensor):
            group["lr"] = torch.tensor(group["lr"], dtype=torch.float32, device=device)
        if "capturable" in group:  # Adam asks for it, and warns of the ordinary steps that other shapes begin with
            group["capturable"] = optimizer._warned_capturable_if_run_uncaptured = True


class Pace:
    """Keeps the host at most `AHEAD` batches in front of a CUDA device, which does not wait: else it would be through an epoch in no time,
    and could neither stop nor give way in the middle of it."""

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


def out_of_memory(error: RuntimeError) -> bool:
    """Whether a device or the host says that memory did not suffice."""
    return isinstance(error, torch.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
