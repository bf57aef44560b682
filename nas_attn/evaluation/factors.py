"""Learning rates of one training, by where it starts from."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from nas_attn import attachment
from nas_attn.recipe import Recipe


@dataclass(frozen=True, slots=True)
class Factors:
    """Learning rates of one training."""

    rate: float
    attention: frozenset[str] = frozenset()
    """Names of the attention modules' parameters."""
    backbone: float = 1.0


def candidate_factors(recipe: Recipe, model: nn.Module) -> Factors:
    """Learning rates of a candidate: those of fine-tuning where it starts from trained weights."""
    section = recipe.training
    modules = attachment.attached_modules(model)
    attention = frozenset(f"{path}.{name}" for path, module in modules.items() for name, _ in module.named_parameters())
    if section.start == "scratch":
        return Factors(section.learning_rate, attention)
    if section.backbone_learning_rate == 0:
        attention |= head_parameters(model)  # frozen, a head for other classes would stay random
    rate = section.finetune_learning_rate or section.learning_rate / 5
    return Factors(rate, attention, section.backbone_learning_rate)


def head_parameters(model: nn.Module) -> frozenset[str]:
    """Names of the last linear layer's parameters: the classifier of all common networks."""
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    last = layers[-1:]
    return frozenset(n for n, _ in model.named_parameters() if any(n.startswith(f"{name}.") for name in last))
