"""Whether attached attention takes part: that it runs, and that the network's output depends on it."""

import copy
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_leaves

from nas_attn.attachment.hosting import CHILD, lost_modules
from nas_attn.attachment.recording import image_for
from nas_attn.backbones.detectors import undecided
from nas_attn.errors import BackboneError
from nas_attn.records import Participation


def check(model: nn.Module, input_shape: tuple[int, int, int]) -> tuple[Participation, ...]:
    """What each attached module does when the model, in evaluation mode, sees an image; nothing in the model changes.

    A copy of it runs on one random image, and once more for each module, whose result is then another.

    Args:
        model: also as wrapped by DistributedDataParallel or torch.compile.
        input_shape: channels, height, width of one image.

    Returns:
        In the order of `named_modules()`, attention that lost its host included; then what was attached and is gone.

    Raises:
        BackboneError: the model cannot be copied, or cannot process such an image.
    """
    model = unwrapped(model)
    name = type(model).__name__
    try:
        with torch.inference_mode(False):
            twin = undecided(copy.deepcopy(model).eval())
            x = image_for(twin, input_shape)
            before = _outputs(twin, x)
            there = [
                Participation(path, type(module).__name__, *_asked(twin, x, module, before))
                for path, module in _attention(twin)
            ]
    except Exception as error:  # whatever a user's own model may raise
        shape = "x".join(map(str, input_shape))
        message = (str(error).strip().splitlines() or [""])[0]
        raise BackboneError(
            f"{name} cannot be checked on a {shape} image ({type(error).__name__}: {message}): give the shape it expects"
        ) from error
    lost = [Participation(path, kind, False, False, lost=True) for path, kind in lost_modules(twin).items()]
    return (*there, *lost)


def tells_images_apart(model: nn.Module, input_shape: tuple[int, int, int]) -> bool:
    """Whether the model's output is another for another image, in evaluation mode."""
    twin = undecided(copy.deepcopy(unwrapped(model)).eval())
    x = image_for(twin, input_shape)
    return _differ(_outputs(twin, x), _outputs(twin, 1 - x))


def unwrapped(model: nn.Module) -> nn.Module:
    """The network inside what torch wraps around one."""
    while True:
        if isinstance(model, nn.parallel.DistributedDataParallel | nn.DataParallel):
            model = model.module
        elif isinstance(getattr(model, "_orig_mod", None), nn.Module):
            model = model._orig_mod  # type: ignore[assignment]
        else:
            return model


def _attention(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """Attached modules, and those that still hang on a module which is no host any more."""
    for path, module in model.named_modules():
        child = module._modules.get(CHILD)
        if isinstance(child, nn.Sequential):
            yield from ((f"{path}.{CHILD}.{name}".lstrip("."), inner) for name, inner in child.named_children())


def _outputs(model: nn.Module, x: Tensor) -> list[Tensor]:
    """All floating-point tensors that come out, the same each time."""
    with torch.random.fork_rng([x.device] if x.device.type == "cuda" else []), torch.no_grad():
        torch.manual_seed(0)
        found = [t for t in tree_leaves(model(x)) if isinstance(t, Tensor) and t.is_floating_point()]
    if not found:
        raise ValueError("no tensors come out of it")
    return found


def _asked(model: nn.Module, x: Tensor, module: nn.Module, before: list[Tensor]) -> tuple[bool, bool]:
    """Whether a module ran, and whether the outputs are others where its result is."""
    ran = False

    def shake(_: nn.Module, args: Any, y: Tensor) -> Tensor:
        nonlocal ran
        ran = True
        noise = torch.rand(y.shape, generator=torch.Generator().manual_seed(2)).to(y)
        return y + noise * (1 + y.abs().amax())

    with module.register_forward_hook(shake):
        depends = _differ(before, _outputs(model, x))
    return ran, depends


def _differ(some: list[Tensor], others: list[Tensor]) -> bool:
    return len(some) != len(others) or any(
        a.shape != b.shape or not torch.equal(a, b) for a, b in zip(some, others, strict=True)
    )
