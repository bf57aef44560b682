"""Row Next of the card: the command that goes on, and what it is for."""

from __future__ import annotations

import math
import shlex

from nas_attn.answer.card import Card, CardVerdict, NextCommand, Purpose
from nas_attn.answer.length import Brief
from nas_attn.answer.snapshot import Snapshot
from nas_attn.errors import several
from nas_attn.recipe import units
from nas_attn.words.card_row import CardRow
from nas_attn.words.commands import command
from nas_attn.words.own_program import in_own_program


def next_row(now: Snapshot, card: Card, at: str, recipe: str | None) -> CardRow | None:
    """The next command, with what it is for; None: nothing is left, or no time is known."""
    if card.early is not None:
        return _longer_search(now, card.early.brief, at, recipe)
    step = card.next
    if step is None:
        return None
    if step.purpose is Purpose.LONGER:
        return _longer_training(now, step, at, recipe)
    time = "" if step.seconds is None else f", about {units.duration(step.seconds)}"
    purpose = _purpose(now, step, kept=card.verdict is CardVerdict.KEEP)
    if now.recipe.needs_program:
        return CardRow("Next", f"{purpose}{time}{in_own_program(step)}")
    return CardRow("Next", f"{purpose}{time}:", f"{command(step.step)}{at}")


def _purpose(now: Snapshot, step: NextCommand, *, kept: bool) -> str:
    """What a command is for; `kept`: the bare backbone is kept."""
    epochs = several(now.recipe.target_training.rungs[-1], "epoch")
    match step.purpose:
        case Purpose.TEST if kept:
            return f"test that one, trained for {epochs}"
        case Purpose.TEST:
            return f"test it, trained for {epochs}"
        case Purpose.DECIDE:
            return f"decide by a test, {several(step.runs, 'training')} of each network"
        case Purpose.MORE_TESTS if step.runs:
            return f"decide by {several(step.runs, 'training')} more of each network"
        case Purpose.MORE_TESTS:
            return "see what a test of it would take"
        case Purpose.TRY_TESTED:
            return "let the search try that one, too"
        case Purpose.RETRAIN:
            return "train it for use"
        case Purpose.CONTINUE:
            return "continue the search"
        case _:
            return _for_more_trials(step)


def _for_more_trials(step: NextCommand) -> str:
    more = several(step.runs, "placement")
    if step.purpose is Purpose.FIRST_TRIALS:
        return f"only baselines were tried so far; to try {more} more"
    if step.purpose is Purpose.LONGER_FIRST:
        return (
            "the bare backbone learns too little here, so train longer first, in a new study; to"
            f" try {more} more as it is"
        )
    if step.purpose is Purpose.OPEN_TRIALS:
        return f"the test leaves open whether that one helps; to try {more} more"
    return f"nothing more is needed; to try {more} more"


def _longer_training(now: Snapshot, step: NextCommand, at: str, recipe: str | None) -> CardRow:
    """The same search with longer trainings."""
    epochs = several(step.runs, "epoch")
    why = f"train longer, for {epochs}, in a new study"
    return _new_study(now, why, f"--target {step.runs}", at, recipe)


def _new_study(now: Snapshot, why: str, length: str, at: str, recipe: str | None) -> CardRow:
    """Another search with the study's recipe in the same database; `length`: its options."""
    if now.recipe.needs_program:
        return CardRow("Next", why)
    options = f"{length} --name {now.study}-long{at}"
    return CardRow("Next", f"{why}:", f"nas-attn search {_searched(now, recipe)} {options}")


def _searched(now: Snapshot, recipe: str | None) -> str:
    """What `nas-attn search` is given, as far as it is known."""
    if recipe is not None:
        return shlex.quote(recipe)
    source, _, place = now.recipe.data.name.partition(":")
    return shlex.quote(place) if source == "folder" else "RECIPE"


def _longer_search(now: Snapshot, brief: Brief, at: str, recipe: str | None) -> CardRow | None:
    """A search that is long enough to train to the end; None: no time is known."""
    if brief.enough_s is None:
        return None
    target = f"--target {brief.target} " if brief.known else ""
    length = f"{target}--minutes {math.ceil(brief.enough_s / 60)}"
    why = f"about {units.duration(brief.enough_s)} would do for runs that train to the end"
    return _new_study(now, why, length, at, recipe)
