"""Schedules of the learning rate by torch's names, over a whole training."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch.optim import lr_scheduler

from nas_attn.errors import RecipeError, did_you_mean, first_line
from nas_attn.recipe import Schedule

BY_STEP = ("OneCycleLR", "CyclicLR")
"""Schedules that count steps; all others count epochs."""
LENGTHS = ("T_max", "total_iters", "step_size", "milestones")
"""Arguments that say how long something takes."""


def schedule_factors(schedule: Sequence[Schedule], epochs: int, steps: int) -> list[float]:
    """Factor on the peak learning rate at each step of a training.

    Args:
        epochs: of the whole training.
        steps: per epoch.

    Raises:
        RecipeError: a name or an argument is wrong, or a schedule is longer than the training.
    """
    factors: list[float] = []
    for number, part in enumerate(schedule):
        left, last = epochs - len(factors) // steps, number == len(schedule) - 1
        if part.epochs is None and not last:
            raise RecipeError(f"training.schedule: '{part.name}' needs epochs, since another part follows it")
        if part.epochs is not None and part.epochs < 1:
            length = min(max(1, round(part.epochs * epochs)), left - 1)
        else:
            length = int(part.epochs or left)
        if length > left or (length == left and not last) or (last and length < left):
            raise RecipeError(
                f"training.schedule: its parts up to '{part.name}' take {epochs - left + length} epochs, but a training has {epochs}"
            )
        factors += _factors(part, length, steps)
    return factors


def _factors(part: Schedule, epochs: int, steps: int) -> Iterator[float]:
    kinds, arguments = vars(lr_scheduler), part.arguments
    if not isinstance(kinds.get(part.name), type):
        known = [name for name, kind in kinds.items() if isinstance(kind, type) and name[:1].isupper()]
        raise RecipeError(
            f"training.schedule: torch.optim.lr_scheduler has no '{part.name}': {did_you_mean(part.name, known)}"
        )
    by_step = part.name in BY_STEP
    for name in LENGTHS if not by_step else ():
        longest = max(arguments[name]) if isinstance(arguments.get(name), list) else arguments.get(name, 0)
        if isinstance(longest, int | float) and longest > epochs:
            raise RecipeError(
                f"training.schedule: {name} = {longest} of '{part.name}' is longer than its {epochs} epochs"
            )
    parameters = inspect.signature(kinds[part.name]).parameters
    usual: dict[str, Any] = {
        "T_max": epochs,
        "total_iters": epochs,
        "total_steps": epochs * steps,
        "max_lr": 1.0,
        "base_lr": 0.0,
    }
    usual = {name: value for name, value in usual.items() if name in parameters}
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=1.0, momentum=0.9)
    try:
        scheduler = kinds[part.name](optimizer, **{**usual, **arguments})
        for step in range(epochs * steps):
            yield float(optimizer.param_groups[0]["lr"])
            optimizer.step()
            if (by_step or (step + 1) % steps == 0) and step + 1 < epochs * steps:
                scheduler.step()
    except (TypeError, ValueError, AttributeError) as error:
        raise RecipeError(f"training.schedule: '{part.name}' cannot be made: {first_line(error)}") from None
