"""What a user is warned of, each note in a sentence."""

from __future__ import annotations

from nas_attn.errors import several
from nas_attn.system.notes import (
    BeginsAnew,
    ContradictoryImages,
    Failure,
    NotCompared,
    Note,
    OtherArithmetic,
    OtherThreads,
    UntrainedAverage,
)


def note_text(note: Note) -> str:
    """A note as a sentence that begins in lower case."""
    match note:
        case NotCompared():
            return _not_compared_text(note)
        case ContradictoryImages(study, contradiction):
            return (
                f"{contradiction}; study '{study}' began before this was checked and goes on, but"
                " its scores are of images read so: begin another when they are mended"
            )
        case UntrainedAverage() | OtherThreads() | BeginsAnew() | OtherArithmetic():
            return _training_text(note)
        case Failure():
            return _failure_text(note)


def _not_compared_text(note: NotCompared) -> str:
    why = note.error
    if note.why == "no_numbers":
        why = "its weights are on the device meta, which has no numbers"
    elif note.why == "two_runs_differ":
        why = "two runs of one image differ"
    return f"{note.model} is not compared before and after attaching: {why}"


def _training_text(note: UntrainedAverage | OtherThreads | BeginsAnew | OtherArithmetic) -> str:
    match note:
        case UntrainedAverage(ema, kept, epochs):
            return (
                f"training.ema = {ema:g} keeps {100 * kept:.0f} % of the untrained weights after"
                f" {several(epochs, 'epoch')}, and the averaged weights are scored: give less"
            )
        case OtherThreads(before, now):
            return (
                f"a run that began with {before} threads continues with {now}, as you asked: its"
                " result will differ in the last digits"
            )
        case BeginsAnew(before, now, lacks_bfloat16):
            lacking = "bfloat16" if lacks_bfloat16 else "its arithmetic"
            return (
                f"a run that was begun in {before} cannot go on here, since this machine lacks"
                f" {lacking}: it begins anew in {now}"
            )
        case OtherArithmetic(agreed, here):
            if here != agreed:
                return (
                    f"this machine lacks {agreed}, in which the study computes: its runs are"
                    f" computed in {here}, marked, and compared only with each other"
                )
            return (
                "this machine cannot compute as the study does (TF32, or the optimizer's kernels):"
                " its runs are marked, and compared only with each other"
            )


def _failure_text(note: Failure) -> str:
    match note.kind:
        case "checkpoint_not_read":
            return f"{note.why}; continuing from the previous one or the start"
        case "checkpoint_not_saved":
            return f"{note.why}; training continues without this checkpoint"
        case "weights_lost":
            return f"trained weights are lost: {note.why}"
        case "not_measured":
            return f"left out of the latency sessions: {note.why}"
