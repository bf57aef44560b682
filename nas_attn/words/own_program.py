"""What comes next for a study that only a program of the user's can go on with."""

from __future__ import annotations

from nas_attn.answer.card import NextCommand, Purpose

CONTINUED_BY_PROGRAM = "no worker is running; to continue, start your program again"
RETRAINED_BY_PROGRAM = (
    "to train it as the target says, use your own code: nas-attn retrain cannot call it"
)
TRAINED = (Purpose.TEST, Purpose.DECIDE, Purpose.MORE_TESTS, Purpose.RETRAIN)
"""What the user's own code does."""


def in_own_program(step: NextCommand) -> str:
    """How a step is done there, after what it is for."""
    if step.purpose in TRAINED:
        return f", with your own code: nas-attn {step.step.command} cannot call it"
    if step.purpose is Purpose.CONTINUE:
        return ": start your program again"
    if step.purpose is Purpose.TRY_TESTED:
        return ": give it to na.begin or na.search as one of try_placements"
    return f": begin a new study with search.trials = {step.step.trials}"
