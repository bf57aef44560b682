"""What is used of a file with weights, where it is not all; why published ones are not used."""

from __future__ import annotations

from nas_attn.errors import few, shorten
from nas_attn.system.notes import NoWeights, WeightsNote


def weights_note_text(file: str, note: WeightsNote) -> str:
    """A note about a file as a sentence."""
    match note.kind:
        case "several_states":
            states = note.names
            return f"weights '{shorten(file)}': it has {few(states)}; {states[0]} is used"
        case "ignored":
            return (
                f"weights '{file}': names that begin with '{note.prefix}' are used,"
                f" {len(note.names)} others are ignored: {few(note.names, letters=80)}"
            )
        case "other_classes":
            return (
                f"weights '{file}': they are for other classes: {few(note.names, letters=80)} start"
                " at random"
            )
        case "no_head":
            return (
                f"weights '{file}': they have no '{note.names[0]}': this last layer starts at"
                " random"
            )


def no_weights_text(why: NoWeights, *, short: bool = False) -> str:
    """Why a network does not start from published weights; `short`: without the cause of an error
    and the way out.
    """
    match why.kind:
        case "not_asked_for":
            return "published weights are used only if you ask for them"
        case "not_published":
            return f"{why.backbone} has no published weights"
        case "not_loaded":
            return why.reason if short else why.error
