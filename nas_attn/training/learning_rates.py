"""The learning rates of a candidate's parameters: attention, classifier and backbone, which may be
frozen.
"""

from __future__ import annotations

from contextlib import suppress

import torch
from torch import nn

from nas_attn import backbones
from nas_attn.attachment.own_loop import attention_parameters
from nas_attn.backbones.weight_files import new_for_other_classes
from nas_attn.errors import BackboneError
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.training.parameters import LearningRates
from nas_attn.training.plan import Plan

# One step of AdamW moves each weight of the head by about the rate, so an answer by the rate times
# the number of inputs: their product is what is alike in all networks (research/notes/training.md)
FACTOR_TIMES_INPUTS = 8000.0
# of the heads that this was measured on
FEWEST_INPUTS = 64


def candidate_rates(plan: Plan, model: nn.Module) -> LearningRates:
    """Learning rates of a candidate of this plan."""
    section = plan.recipe.training
    rate = section.peak_rate
    attention = attention_parameters(model)
    if section.start == "scratch":
        return LearningRates(rate, attention)
    factor = section.backbone_learning_rate
    if factor == section.head_learning_rate:
        return LearningRates(rate, attention, factor)
    head = _classifier(plan)
    shapes = _shapes(model)
    factors = {
        name: _head_factor(section, shapes, name) if name in head else factor
        for name in shapes
        if name not in attention
    }
    # a checkpoint behind frozen layers, from before the head had a factor, says nothing of it
    changed = {name: own for name, own in factors.items() if own != 1}
    return LearningRates(rate, attention, changed)


def _head_factor(section: TrainingSection, shapes: dict[str, torch.Size], name: str) -> float:
    """Factor on the learning rate of one of the head's parameters."""
    given = section.head_learning_rate
    if not isinstance(given, str):
        return given
    # a bias is as fast as the weights beside it
    weight = shapes.get(f"{name.rpartition('.')[0]}.weight", shapes[name])
    inputs = weight[1:].numel()
    return FACTOR_TIMES_INPUTS / max(inputs, FEWEST_INPUTS)


def _classifier(plan: Plan) -> frozenset[str]:
    """The names of the bare backbone's parameters whose shape depends on the number of classes.

    If none does, or it cannot be built for another number: those that weights for other classes
    leave random.
    """
    model = plan.bare(0)
    shapes = _shapes(model)
    others = shapes
    if plan.own_build is None:
        section = plan.recipe.network
        more = plan.classes + 1
        with suppress(BackboneError), torch.random.fork_rng(devices=[]):
            others = _shapes(backbones.build(section, input_shape=plan.input_shape, classes=more))
    sized = frozenset(name for name, shape in shapes.items() if others.get(name, shape) != shape)
    head = new_for_other_classes(model)
    return sized or frozenset(name for name in shapes if name.startswith(head))


def _shapes(model: nn.Module) -> dict[str, torch.Size]:
    """Name of each parameter -> its shape."""
    return {name: parameter.shape for name, parameter in model.named_parameters()}
