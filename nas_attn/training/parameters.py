"""Parameter groups, the optimizer, schedules of the learning rate by torch's names, and averaged
weights.
"""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from operator import itemgetter
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim import lr_scheduler

from nas_attn.errors import NasAttnWarning, RecipeError, did_you_mean, first_line, several
from nas_attn.recipe.recipe import Schedule, TrainingSection
from nas_attn.system.importing import load_object

# schedules that count steps; all others count epochs
BY_STEP = ("OneCycleLR", "CyclicLR")
# the recipe's `ema` is the decay per so many parts of an epoch
KEPT_PER = 100
# Updates of the average: each one costs as much as a layer
AVERAGES_PER_EPOCH = 25
# a larger share of untrained weights in a scored average gives a warning
MOST_KEPT = 0.5
# numbers that a CPU's vector register holds, at most
LANES = 16
# arguments that are lengths of time
LENGTHS = ("T_max", "total_iters", "step_size", "milestones")


def schedule_factors(
    schedule: Sequence[Schedule], epochs: int, steps: int, peak: float
) -> list[float]:
    """Gives the factor on the learning rate at each step.

    Args:
        schedule: the parts of the recipe's schedule, one after the other.
        epochs: length of the training.
        steps: of one epoch.
        peak: the learning rate that the factors are of.

    Raises:
        RecipeError: a wrong name or argument, or longer than the training.
    """
    factors: list[float] = []
    for number, part in enumerate(schedule):
        left = epochs - len(factors) // steps
        last = number == len(schedule) - 1
        if part.epochs is None and not last:
            raise RecipeError(
                f"training.schedule: '{part.name}' needs epochs, since another part follows it"
            )
        if part.epochs is not None and part.epochs < 1:
            length = min(max(1, round(part.epochs * epochs)), left - 1)
        else:
            length = int(part.epochs or left)
        if length != left if last else length >= left:
            taken = several(epochs - left + length, "epoch")
            raise RecipeError(
                f"training.schedule: its parts up to '{part.name}' take {taken}, but a training has"
                f" {epochs}"
            )
        factors += _factors(part, length, steps, peak)
    return factors


def _factors(part: Schedule, epochs: int, steps: int, peak: float) -> Iterator[float]:
    if part.name not in lr_scheduler.__all__:
        meant = did_you_mean(part.name, lr_scheduler.__all__)
        raise RecipeError(f"training.schedule: torch has no '{part.name}': {meant}")
    kind = getattr(lr_scheduler, part.name)
    by_step = part.name in BY_STEP
    usual = {
        "T_max": epochs,
        "total_iters": epochs,
        "total_steps": epochs * steps,
        "max_lr": peak,
        "base_lr": 0.0,
    }
    taken = inspect.signature(kind).parameters
    arguments = {name: value for name, value in usual.items() if name in taken} | part.arguments
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], lr=peak, momentum=0.9)
    try:
        for name in part.arguments.keys() & LENGTHS if not by_step else ():
            arguments[name] = _in_epochs(arguments[name], epochs, name)
        scheduler = kind(optimizer, **arguments)
        for step in range(1, epochs * steps + 1):
            yield float(optimizer.param_groups[0]["lr"]) / peak
            optimizer.step()
            if (by_step or step % steps == 0) and step < epochs * steps:
                scheduler.step()
    except (TypeError, ValueError, AttributeError) as error:
        raise RecipeError(
            f"training.schedule: '{part.name}' cannot be made: {first_line(error)}"
        ) from None


def _in_epochs(length: Any, epochs: int, name: str) -> Any:
    """A length as a recipe gives it: epochs, or below 1 a share of all of them; or a list of
    such. Raises RecipeError: more than there are.
    """
    if isinstance(length, list):
        return [_in_epochs(milestone, epochs, name) for milestone in length]
    if length > epochs:
        raise RecipeError(
            f"training.schedule: {name} = {length} exceeds its part's {several(epochs, 'epoch')}"
        )
    if isinstance(length, float) and 0 < length < 1:
        return max(1, round(length * epochs))
    return length


Rate = float | Mapping[str, float]
"""Factor on the learning rate of all parameters except attention's, or of each by its name (1 if it
is missing).
"""


@dataclass(frozen=True, slots=True)
class LearningRates:
    """The learning rates of one network's parameters."""

    # of each rung's cycle
    peak: float
    # names of parameters with the factor `training.attention_learning_rate`
    attention: frozenset[str] = frozenset()
    # of all others; 0 freezes, norms' statistics included
    backbone: Rate = 1.0

    def factor(self, name: str) -> float:
        """Factor on the learning rate of a parameter that is not attention's."""
        shared = self.backbone
        return shared.get(name, 1.0) if isinstance(shared, Mapping) else shared

    def held(self, model: nn.Module) -> list[str]:
        """The names of the parameters that are frozen."""
        others = dict(model.named_parameters()).keys() - self.attention
        return [name for name in others if self.factor(name) == 0]


# BatchNorm's least momentum: some networks' (MnasNet: 0.0003) need hundreds of epochs
NORM_MOMENTUM = 0.1


def make_optimizer(
    model: nn.Module,
    section: TrainingSection,
    rates: LearningRates,
    *,
    fused: bool | None = None,
) -> torch.optim.Optimizer | None:
    """Makes the recipe's optimizer; None if nothing is trained. Groups: backbone, by its factors,
    and attention, each with and without weight decay (biases, norms, scalars: without). A group's
    `factor` multiplies the scheduled rate.

    Args:
        model: the network, whose frozen parameters are left out.
        section: the recipe's `[training]`.
        rates: which parameters are attention's, and the factors of the others.
        fused: whether one kernel steps all parameters; None: if possible.

    Raises:
        RecipeError: the optimizer is unknown, or does not take its arguments.
    """
    # by: whether attention's, its factor, whether it is spared weight decay
    members: dict[tuple[bool, float, bool], list[nn.Parameter]] = {}
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        ours = name in rates.attention
        factor = section.attention_learning_rate if ours else rates.factor(name)
        members.setdefault((ours, factor, parameter.ndim < 2), []).append(parameter)
    groups = [
        {
            "params": parameters,
            "factor": factor,
            "weight_decay": 0.0 if spared else section.weight_decay,
        }
        for (_, factor, spared), parameters in sorted(members.items(), key=itemgetter(0))
    ]
    if not groups:
        return None
    if fused is None:
        fused = fused_in(section)
    return _optimizer(groups, section, fused=fused)


def check_training(section: TrainingSection) -> None:
    """Makes optimizer and schedule before anything is trained. RecipeError: unknown, wrong
    arguments, or too long. Warns of an average with mostly untrained weights.
    """
    kept = section.ema ** (KEPT_PER * section.rungs[0])
    if kept > MOST_KEPT:
        warnings.warn(
            f"training.ema = {section.ema:g} keeps {100 * kept:.0f} % of the untrained weights"
            f" after {several(section.rungs[0], 'epoch')}, and the averaged weights are scored:"
            " give less",
            NasAttnWarning,
            stacklevel=2,
        )
    # of a network that draws no random weights
    make_optimizer(nn.LayerNorm(1), section, LearningRates(section.learning_rate))
    lengths = {section.rungs[-1]}
    if section.start == "backbone":
        lengths.add(section.backbone_epochs)
    for epochs in lengths:
        schedule_factors(section.schedule, epochs, 1, section.learning_rate)


def _optimizer(
    groups: list[dict[str, Any]], section: TrainingSection, *, fused: bool
) -> torch.optim.Optimizer:
    name = section.optimizer
    make = torchs_or_own(name, torch.optim, "training.optimizer")
    # each step sets the rate
    arguments = {"lr": 0.0, **_arguments(section)}
    if fused and "foreach" not in arguments:
        arguments.setdefault("fused", True)
    try:
        optimizer = make(groups, **arguments)
    except (TypeError, ValueError, RuntimeError) as error:
        raise RecipeError(
            f"training.optimizer = '{name}' cannot be made: {first_line(error)}"
        ) from None
    assert isinstance(optimizer, torch.optim.Optimizer)
    return optimizer


def torchs_or_own(name: str, module: ModuleType, setting: str) -> Any:
    """The class of this name in a module of torch, or a user's object, `package.module:object`.
    Raises RecipeError: there is none; `setting` is the key in the recipe.
    """
    if ":" in name:
        return load_object(name, what=setting, error=RecipeError)
    kinds = {key: kind for key, kind in vars(module).items() if isinstance(kind, type)}
    if name not in kinds:
        meant = did_you_mean(name, kinds)
        raise RecipeError(f"{setting}: {module.__name__} has no '{name}': {meant}")
    return kinds[name]


USUAL_OPTIONS: Mapping[str, Mapping[str, Any]] = {
    "SGD": {"momentum": 0.9, "nesterov": True},
    "AdamW": {"betas": (0.9, 0.99)},
}
# Of torch, with one kernel for all parameters
FUSED = ("SGD", "AdamW", "Adam")


def _arguments(section: TrainingSection) -> Mapping[str, Any]:
    """The optimizer's arguments, the recipe's or the usual ones."""
    given = section.optimizer_arguments
    return USUAL_OPTIONS.get(section.optimizer, {}) if given is None else given


def fused_in(section: TrainingSection) -> bool:
    """Whether one kernel steps all parameters, unless a run says otherwise."""
    arguments = _arguments(section)
    usual = section.optimizer in FUSED and "foreach" not in arguments
    return bool(arguments.get("fused", usual))


@contextmanager
def frozen(model: nn.Module, names: Collection[str]) -> Iterator[None]:
    """Inside, these parameters get no gradients; afterwards each is as before."""
    held = [p for name, p in model.named_parameters() if name in names and p.requires_grad]
    for parameter in held:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


@contextmanager
def prompt_norms(model: nn.Module) -> Iterator[None]:
    """Inside, BatchNorm's statistics adapt within some tens of steps; see NORM_MOMENTUM."""
    slow = {
        module: module.momentum
        for module in model.modules()
        if isinstance(module, _BatchNorm) and 0 < (module.momentum or 0) < NORM_MOMENTUM
    }
    for module in slow:
        module.momentum = NORM_MOMENTUM
    try:
        yield
    finally:
        for module, momentum in slow.items():
            module.momentum = momentum


@contextmanager
def plain_order(model: nn.Module) -> Iterator[None]:
    """Inside, convolutions that oneDNN cannot train in channels-last order get their images in the
    usual one.

    With a kernel of 1, a stride, and fewer input channels than a vector register holds, their
    gradient is written past its memory (github.com/uxlfoundation/oneDNN/issues/6035). RepVGG and
    MobileOne have one: the process died in training.
    """
    convolutions = [m for m in model.modules() if isinstance(m, nn.Conv2d)]
    narrow = [
        m for m in convolutions if max(m.kernel_size) == 1 < max(m.stride) and m.in_channels < LANES
    ]
    for module in narrow:
        module.weight.data = module.weight.data.clone(memory_format=torch.contiguous_format)
    hooks = [
        m.register_forward_pre_hook(lambda _, given: (given[0].contiguous(), *given[1:]))
        for m in narrow
    ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()


def set_training_mode(model: nn.Module) -> None:
    """Sets training mode, except for layers whose own parameters are all frozen: a frozen BatchNorm
    keeps its statistics, but attention behind it trains. The network itself is in training mode,
    too, since its forward may ask for it.
    """
    model.train()
    for module in model.modules():
        own = list(module.parameters(recurse=False))
        if module is not model and own and not any(p.requires_grad for p in own):
            # not `eval()`, which would reach what trains inside
            module.training = False


class WeightAverage:
    """Exponential moving average of all parameters and floating-point buffers (Polyak
    averaging).
    """

    def __init__(self, model: nn.Module) -> None:
        tensors = dict(model.named_parameters()) | dict(model.named_buffers())
        self._live = {name: t for name, t in tensors.items() if t.is_floating_point()}
        self._average = {name: t.detach().clone() for name, t in self._live.items()}

    def follow(self, batch: int, steps: int, ema: float) -> None:
        """Updates the average after a batch of an epoch of so many steps, if it is due."""
        interval = max(1, steps // AVERAGES_PER_EPOCH)
        since = batch % interval
        if since == 0 or batch == steps:
            self.update(ema ** (KEPT_PER / steps * (since or interval)))

    @torch.no_grad()
    def update(self, keep: float) -> None:
        """One step: average = keep * average + (1 - keep) * weights."""
        torch._foreach_lerp_([*self._average.values()], [*self._live.values()], 1.0 - keep)

    def state(self) -> dict[str, Tensor]:
        return self._average

    @torch.no_grad()
    def load(self, state: dict[str, Tensor]) -> None:
        for name, tensor in self._average.items():
            tensor.copy_(state[name])

    @torch.no_grad()
    def keep(self) -> None:
        """Leaves the averaged weights in the network."""
        for name, live in self._live.items():
            live.copy_(self._average[name])

    @contextmanager
    def installed(self) -> Iterator[None]:
        """Inside, the model has the averaged weights; afterwards its own again."""
        self._swap()
        try:
            yield
        finally:
            self._swap()

    def _swap(self) -> None:
        for name, live in self._live.items():
            live.data, self._average[name].data = self._average[name].data, live.data
