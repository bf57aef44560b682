"""One batch of training: its operations in their order, eager or through torch.compile, and the
pace of the host beside a CUDA device.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

import torch
from torch import Tensor, nn

from nas_attn.errors import TrainingError, first_line
from nas_attn.recipe.recipe import TrainingSection

# batches that the host may queue on a CUDA device
AHEAD = 8

Forward = Callable[[Tensor, Tensor], Tensor]
Loss = Callable[[Tensor, Tensor], Tensor]
# x, y, learning rate, parts of the batch
Stepper = Callable[[Tensor, Tensor, float, int], None]


def compiled(model: nn.Module) -> Callable[[Tensor], object]:
    """The network through torch.compile. The first call compiles it, and raises TrainingError if
    that fails.
    """

    def forward(x: Tensor) -> object:
        return model(x)

    # The compiler keeps a few results per code object, and then silently runs everything else
    # uncompiled.
    forward.__code__ = forward.__code__.replace()
    on_cpu = all(parameter.device.type == "cpu" for parameter in model.parameters())
    # see `plain_order`
    own_order: dict[str, str | int | bool | Callable[..., object]] = {"layout_optimization": False}
    quick: Callable[[Tensor], object] = torch.compile(
        forward, options=own_order if on_cpu else None
    )

    def call(x: Tensor) -> object:
        try:
            return quick(x)
        except torch._dynamo.exc.TorchDynamoException as error:
            reason = first_line(error)
            raise TrainingError(
                f"the network cannot be compiled: {reason}; set training.execution = 'eager'"
            ) from error

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
        """`forward`: x, y -> float32 logits; `loss`: logits, y -> sum over the images, which is
        added to `loss_sum` (float64).
        """
        self.forward = forward
        self.loss = loss
        self.optimizer = optimizer
        self.section = section
        self.loss_sum = loss_sum

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
