"""What `export` and `check-export` say of a network's file."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from nas_attn.errors import several
from nas_attn.recipe import units

STOPPED = "stopped; run the same command again to continue"
AS_SEARCHED = "after the search's training"
"""How a network was trained that was not trained again."""
AS_TARGET = "trained as the target says, in the search"
"""That no training is left for a network that was not trained again."""


def retrained_text(purpose: str, protocol: str, seed: int) -> str:
    """How a network was trained after the search."""
    return f"{purpose}, {protocol}, seed {seed}"


def worse_note(metric: str, retrained: float, searched: float) -> str:
    """Why the search's weights are taken, though the network was trained again."""
    after = units.value(metric, retrained)
    before = units.value(metric, searched)
    shown = f"{metric}: {after} after retraining, {before} {AS_SEARCHED}"
    return f"the retrained network is worse ({shown}), so these are the search's weights"


def exported_line(file: object, who: str | None, label: str, trained: str) -> str:
    """What was written. `who`: the placement; None: the bare backbone."""
    network = "the bare backbone ("
    if who is not None:
        network = f"{who} ({label}; "
    return f"{file}: {network}{trained})"


def card_line(card: object) -> str:
    """Where the file is described."""
    return f"described in: {card}"


def other_retrained_line(placement: object) -> str:
    """That another network was retrained than the one that was exported; a command follows."""
    return (
        f"'{placement}' was retrained last, but another placement is recommended now; to export it:"
    )


def retrain_first_line(command: str) -> str:
    """That the network was not trained as the target says."""
    return f"to train it as the target says first: {command}"


def scored_here_line(here: Mapping[str, Any], training: Mapping[str, Any]) -> str:
    """What the file scores here, and what the network scored when it was trained. `here`,
    `training`: of the card.
    """
    images = f"{here['images']} validation images"
    if "right" in here:
        before = training["right"]
        scored = f"{here['right']} of {images} right"
    else:
        metric = here["metric"]
        before = training["metrics"].get(metric)
        if before is not None:
            before = units.value(metric, before)
        scored = f"{units.title(metric)} {units.value(metric, here['value'])} on {images}"
    then = "" if before is None else f"; {before} when it was trained"
    return f"in float32: {scored}{then}"


def against_torch_line(difference: str) -> str:
    """How the file's outputs compare with torch's."""
    return f"against torch: {difference}"


def training_again_line(label: str, placement: object) -> str:
    """That a network is trained again for its weights."""
    return f"training {label} again: {placement}"


def trained_again_line(epochs: int, metrics: Mapping[str, float]) -> str:
    """What it scores now."""
    scores = ", ".join(units.named(name, value) for name, value in metrics.items())
    return f"trained again, after {several(epochs, 'epoch')}: {scores}"


def scored_text(metric: str, value: float, right: int | None, images: int) -> str:
    """What a file scores on the validation images."""
    shown = units.value(metric, value)
    if right is None:
        return f"{units.title(metric)} {shown} on {images} validation images"
    return f"{right} of {images} validation images right ({shown})"


def checked_line(file: str, format_: str, scored: str, expected: str, *, elsewhere: bool) -> str:
    """That a file was checked. `elsewhere`: in a process without nas_attn; `expected`: what its
    card says.
    """
    where = "in this process, since weights need nas_attn"
    if elsewhere:
        where = "in a process without nas_attn"
    return f"{file} ({format_}), {where}: {scored}; {expected}"
