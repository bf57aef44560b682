"""What one's own training loop needs of a network with attention: parameter groups, and a network
frozen but for its attention.
"""

from typing import Any

from torch import nn
from torch.nn.modules.batchnorm import _NormBase

from nas_attn.attachment.attaching import attached_modules
from nas_attn.attachment.hosting import NORMS
from nas_attn.attachment.pickling import NamedFunction
from nas_attn.errors import BackboneError


def attention_parameters(model: nn.Module) -> frozenset[str]:
    """Returns the names of the parameters of all attached modules."""
    return frozenset(
        f"{path}.{name}"
        for path, module in attached_modules(model).items()
        for name, _ in module.named_parameters()
    )


def parameter_groups(
    model: nn.Module,
    lr: float,
    attention_lr: float | None = None,
    weight_decay: float = 0.0,
) -> list[dict[str, Any]]:
    """Makes the groups of an optimizer: attention with a rate of its own, and no weight decay on
    norms, biases and single numbers. What is frozen is left out.

        torch.optim.AdamW(na.parameter_groups(model, 1e-4, attention_lr=1e-3, weight_decay=0.05))

    Args:
        model: the network, on which attention is already attached.
        lr: learning rate of all but attention.
        attention_lr: learning rate of attention; None: `lr`.
        weight_decay: of all that is decayed.

    Returns:
        Up to four groups, each with `params`, `lr` and `weight_decay`: the network, then attention.

    Raises:
        BackboneError: there is a rate for attention, but no attention.
    """
    attention = attention_parameters(model)
    if attention_lr is not None and not attention:
        raise BackboneError(
            f"{type(model).__name__} has no attention for attention_lr = {attention_lr:g}: attach"
            " it before you make the optimizer"
        )
    spared = {
        id(parameter)
        for module in model.modules()
        for name, parameter in module.named_parameters(recurse=False)
        if isinstance(module, NORMS)
        or "bias" in name
        or parameter.dim() < 2
        or parameter.numel() == 1
    }
    groups: list[dict[str, Any]] = []
    for ours, rate in ((False, lr), (True, lr if attention_lr is None else attention_lr)):
        for spares, decay in ((False, weight_decay), (True, 0.0)):
            chosen = [
                parameter
                for name, parameter in model.named_parameters()
                if parameter.requires_grad
                and (name in attention) == ours
                and (id(parameter) in spared) == spares
            ]
            if chosen:
                groups.append({"params": chosen, "lr": rate, "weight_decay": decay})
    return groups


def freeze_all_but_attention(model: nn.Module) -> nn.Module:
    """Freezes a network in place, except for its attention, and returns it.

    Batch norms keep their statistics, also after `model.train()`; those inside attention learn
    theirs. To train another part as well, a new classifier for example, call
    `model.fc.requires_grad_(True)` behind it; norms in that part learn again.

        na.freeze_all_but_attention(model)
        model.fc.requires_grad_(True)

    Args:
        model: a network with attention.

    Returns:
        The same model.

    Raises:
        BackboneError: there is no attention.
    """
    modules = attached_modules(model).values()
    if not modules:
        raise BackboneError(
            f"{type(model).__name__} has no attention that would be left to train: attach it first"
        )
    attention = attention_parameters(model)
    for name, parameter in model.named_parameters():
        if name not in attention:
            parameter.requires_grad_(False)
    inside = {id(part) for module in modules for part in module.modules()}
    for module in model.modules():
        if isinstance(module, _NormBase) and id(module) not in inside:
            module.training = False
            hooks = module._forward_pre_hooks.values()
            if not any(hook in (stay_frozen, STAY_FROZEN) for hook in hooks):
                module.register_forward_pre_hook(STAY_FROZEN)
    return model


def stay_frozen(norm: nn.Module, _args: Any) -> None:
    """Before a norm runs: takes back what `model.train()` did, while its weights are frozen."""
    if not any(parameter.requires_grad for parameter in norm.parameters(recurse=False)):
        norm.training = False


STAY_FROZEN = NamedFunction(stay_frozen)
"""The hook, whose name a pickle looks up when it is read: then it is the function itself."""
