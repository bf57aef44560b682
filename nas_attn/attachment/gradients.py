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
        return run_copy(model, input_shape, partial(_unreached, paths=paths), bare=bare)
    return frozenset()


def _unreached(twin: nn.Module, x: Tensor, *, paths: Iterable[str]) -> frozenset[str]:
    probes: dict[str, Tensor] = {}
    with ExitStack() as hooks, torch.enable_grad():
        for path in paths:
            probe = torch.zeros((), device=x.device, dtype=x.dtype, requires_grad=True)
            hook = partial(_add, probes, path, probe)
            hooks.enter_context(twin.get_submodule(path).register_forward_hook(hook))
        outputs = step(twin, x)
        if _leaves(outputs).issuperset(map(id, probes.values())):
            return frozenset()
        # a checkpoint hides what is in it
        step_back(outputs)
    reached = {path for path, probe in probes.items() if probe.grad is not None}
    return frozenset(probes.keys() - reached) if reached or _trains(twin) else frozenset()


def _add(
    probes: dict[str, Tensor], path: str, probe: Tensor, _module: nn.Module, _args: Any, y: Any
) -> Any:
    """Adds a zero to a module's map, which shows whether a gradient arrives there."""
    if not isinstance(y, Tensor):
        return y
    probes[path] = probe
    return y + probe


def _leaves(outputs: list[Tensor]) -> set[int]:
    """`id` of each tensor to which the graph behind the outputs leads. A walk takes a millisecond,
    and saves the step backward.
    """
    leaves = set[int]()
    seen = set[Any]()
    waiting = [output.grad_fn for output in outputs]
    while waiting:
        node = waiting.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        leaves.add(id(getattr(node, "variable", None)))
        waiting += [before for before, _ in node.next_functions]
    return leaves


def step(twin: nn.Module, x: Tensor) -> list[Tensor]:
    """Runs two images forward in training mode, and gives those outputs that have a gradient.

    A detector that takes its targets in training raises: its outputs in evaluation say nothing of
    the gradients of its losses.
    """
    made = twin.train()(torch.cat((x, x.flip(3))))
    return [output for output in floating_tensors(made) if output.requires_grad]


def step_back(outputs: list[Tensor]) -> None:
    """Runs the sum of the outputs backward."""
    if outputs:
        torch.stack([output.sum().float() for output in outputs]).sum().backward()  # type: ignore[no-untyped-call]


def _trains(twin: nn.Module) -> bool:
    """Whether the step gave any parameter a gradient."""
    return any(parameter.grad is not None for parameter in twin.parameters())
