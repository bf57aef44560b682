"""The learning rates of a candidate's parameters: attention, classifier and backbone, which may be
frozen.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import torch
from torch import nn

from nas_attn import attachment, backbones
from nas_attn.attachment.own_loop import attention_parameters
from nas_attn.backbones.weight_files import new_for_other_classes
from nas_attn.errors import BackboneError, RecipeError
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.training.parameters import LearningRates
from nas_attn.training.plan import Plan


def peak_rate(section: TrainingSection) -> float:
    """The peak of a candidate's learning rate, which depends on its start."""
    if section.start == "scratch":
        return section.learning_rate
    return section.finetune_learning_rate or section.learning_rate / 5


def candidate_rates(plan: Plan, model: nn.Module) -> LearningRates:
    """Learning rates of a candidate of this plan. Raises RecipeError: there are rates for another
    number of stages. Raises BackboneError: so it is for a backbone that is not the study's, or that
    one has no stages.
    """
    section = plan.recipe.training
    rate = peak_rate(section)
    attention = attention_parameters(model)
    if section.start == "scratch":
        return LearningRates(rate, attention)
    factor = section.backbone_learning_rate
    names = [name for name, _ in model.named_parameters() if name not in attention]
    if factor == 0:
        # frozen, it would stay untrained behind weights for other classes
        trained = _classifier(plan)
        return LearningRates(rate, attention, {name: 0.0 for name in names if name not in trained})
    if isinstance(factor, list) or section.layer_decay != 1:
        return LearningRates(rate, attention, _by_depth(plan, names))
    return LearningRates(rate, attention, factor)


def check_rates(plan: Plan) -> None:
    """Raises as `candidate_rates` does for the candidates of this plan."""
    section = plan.recipe.training
    if isinstance(section.backbone_learning_rate, list) or section.layer_decay != 1:
        candidate_rates(plan, plan.bare(0))


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


def _by_depth(plan: Plan, names: Sequence[str]) -> dict[str, float]:
    """Factor of each parameter by its block. Layers between two blocks belong to the second one,
    layers after the last block to the head.
    """
    section = plan.recipe.training
    blocks = _blocks(plan)
    factor = section.backbone_learning_rate
    stages = max((stage for _, stage in blocks), default=0)
    if isinstance(factor, list) and len(factor) != stages + 1:
        raise _other_stages(plan, len(factor), stages)

    def block_of(name: str) -> int:
        """The number of a parameter's block, from 1; 0 outside of all."""
        for number, (path, _) in enumerate(blocks, 1):
            if name.startswith(path):
                return number
        return 0

    inside = list(map(block_of, names))
    last = max((place for place, number in enumerate(inside) if number), default=-1)
    factors = {}
    at = 0
    for place, (name, number) in enumerate(zip(names, inside, strict=True)):
        at = max(at, number)
        depth = number or (len(blocks) + 1 if place > last else at and at + 1)
        own = factor
        if isinstance(own, list):
            if depth > len(blocks):
                own = 1.0
            else:
                of_stage = blocks[depth - 1][1] if depth else 0
                own = own[of_stage]
        factors[name] = own * section.layer_decay ** (len(blocks) + 1 - depth)
    return factors


def _blocks(plan: Plan) -> list[tuple[str, int]]:
    """Path and stage of each block of the plan's backbone. Raises BackboneError: it has none."""
    # a backbone that is not the study's has no sites in its plan
    sites = plan.sites or attachment.find_sites(plan.bare(0), plan.input_shape, granularity="block")
    blocks = []
    for site in sites:
        stage, _, block = site.name.removeprefix("stage").partition(".block")
        if (
            site.role == "backbone"
            and stage.isdigit()
            and block
            and (points := dict(site.points).get("block"))
        ):
            blocks.append((f"{points[0].path}.", int(stage)))
    return blocks


def _other_stages(plan: Plan, factors: int, stages: int) -> RecipeError | BackboneError:
    """That a list of factors is for another number of stages."""
    if not plan.sites:
        return BackboneError(
            f"'{plan.recipe.backbone.name}' has {stages} stages, but"
            f" training.backbone_learning_rate has {factors} factors, for {factors - 1} stages:"
            " leave this backbone out, or give one number"
        )
    return RecipeError(
        f"training.backbone_learning_rate has {factors} factors, but the backbone has"
        f" {stages} stages: give {stages + 1}, the first for the layers before stage 1"
    )
