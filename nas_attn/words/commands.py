"""A next command as it is typed."""

from __future__ import annotations

from nas_attn.answer.decision import NextStep


def command(step: NextStep) -> str:
    """A next command as it is typed, without the database."""
    options = [f"--seeds {step.seeds}"] if step.seeds else []
    if step.placement:
        option = "--try" if step.command == "resume" else "--also"
        options.append(f'{option} "{step.placement}"')
    if step.trials:
        options.append(f"--trials {step.trials}")
    if step.again:
        options.append("--another")
    if step.look:
        options.append("--dry-run")
    if step.why:
        options.append("--why")
    return " ".join(["nas-attn", step.command, step.study, *options])
