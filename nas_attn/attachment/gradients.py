"""Where gradients arrive: one training step of a copy of a network, forward and backward."""

from collections.abc import Iterable
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from nas_attn.attachment.recording import floating_tensors, run_copy
from nas_attn.errors import BackboneError


def without_gradient(
    model: nn.Module, input_shape: tuple[int, int, int], paths: Iterable[str], *, bare: bool
) -> frozenset[str]:
    """Finds modules whose results no gradient reaches in training, since the network runs them
    under `torch.no_grad`, or detaches what they make: attention there would never learn.

    Args:
        model: the network, which does not change.
        input_shape: (channels, height, width) of one image.
        paths: of the modules.
        bare: without attention.

    Returns:
        Those of `paths`; none if the outputs have no gradient at all, as those of a network for
        inference, or if it cannot be run.
    """
    with suppress(BackboneError):
        return run_copy(model, input_shape, partial(unreached, paths=paths), bare=bare)
    return frozenset()


def unreached(twin: nn.Module, x: Tensor, paths: Iterable[str]) -> frozenset[str]:
    """Those of `paths` whose results no gradient reaches in a training step of a copy, on two
    images. A detector that takes its targets in training raises.
    """
    probes: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.enable_grad():
        for path in paths:
            probe = torch.zeros((), device=x.device, dtype=x.dtype, requires_grad=True)
            hook = partial(_add, probes, path, probe)
            hooks.enter_context(twin.get_submodule(path).register_forward_hook(hook))
        made = floating_tensors(twin.train()(torch.cat((x, x.flip(3)))))
        sums = [output.sum().float() for output in made if output.requires_grad]
        # the outputs of a network for inference have no gradient at all
        if not (sums and probes):
            return frozenset()
        total = torch.stack(sums).sum()
        gradients = torch.autograd.grad(total, list(probes.values()), allow_unused=True)
    return frozenset(
        path for path, gradient in zip(probes, gradients, strict=True) if gradient is None
    )


def _add(
    probes: dict[str, Tensor], path: str, probe: Tensor, _module: nn.Module, _args: Any, y: Any
) -> Any:
    """Adds a zero to a module's map, which shows whether a gradient arrives there."""
    if not isinstance(y, Tensor):
        return y
    probes[path] = probe
    return y + probe
