"""A score is a candidate's only if its attention took part in the network that was scored."""

from __future__ import annotations

from torch import nn

from nas_attn import attachment
from nas_attn.errors import BackboneError, TrainingError
from nas_attn.records import Participation, ResolvedPlacement

WAY_OUT = "score the network that the evaluator was given, or name the one that you score with run.scored(network)"


def require_participation(network: nn.Module, resolved: ResolvedPlacement, input_shape: tuple[int, int, int]) -> None:
    """Checks that each module of a placement ran in the scored network and affected its output.

    A network that gives the same answer for any image passes: its score tells.

    Raises:
        TrainingError: one did not; names it.
    """
    if not any(choices for _, choices in resolved.modules):
        return
    try:
        found = attachment.check(network, input_shape)
        idle = _idle(found, resolved)
        if not idle or ("no effect" in idle and not attachment.tells_images_apart(network, input_shape)):
            return
    except BackboneError as error:
        raise TrainingError(
            f"it cannot be checked whether attention took part in the scored network: {error}"
        ) from error
    raise TrainingError(f"attention took no part in the scored network: {idle}; {WAY_OUT}")


def _idle(found: tuple[Participation, ...], resolved: ResolvedPlacement) -> str:
    """The first module that took no part, and how; empty where all did."""
    for path, choice in attachment.expected_modules(resolved).items():
        same = [one for one in found if one.path == path or one.path.endswith(f".{path}")]  # it may have been wrapped
        there = [one for one in same if not one.lost]
        if not there:
            return f"{choice} at '{path}' is not in it"
        if not any(one.ran for one in there):
            return f"{choice} at '{path}' did not run"
        if not any(one.depends for one in there):
            return f"{choice} at '{path}' has no effect on its output"
    return ""
