"""What `--target` says of the training in the end. Loads no pydantic, for the sake of `--help`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from nas_attn.errors import RecipeError, shorten
from nas_attn.system.paths import user_path

AUTO: Final = "auto"
"""Of `target.epochs`: as long as the bare backbone needs, which the study finds."""


class TargetWords(NamedTuple):
    """What a command says about the target: how it starts, and for how many epochs it trains."""

    # `scratch`, `weights`, or a file of weights; None: not said
    start: str | None
    # None: not said
    epochs: int | None

    def settings(self) -> dict[str, Any]:
        """The same by dotted keys of a recipe."""
        table: dict[str, Any] = {} if self.start is None else dict(target_table(self.start))
        if self.epochs is not None:
            table["epochs"] = self.epochs
        return {f"target.{key}": value for key, value in table.items()}


def target_words(words: Sequence[str]) -> TargetWords:
    """What `--target` says, given once or twice: `scratch`, `weights` or a file, and a number of
    epochs.

    Raises RecipeError: two starts, two numbers, or a number below 1.
    """
    numbers = [word for word in words if re.fullmatch(r"[+-]?\d+", word)]
    starts = [word for word in words if word not in numbers]
    for kind, given in (("number of epochs", numbers), ("start", starts)):
        if len(given) > 1:
            raise RecipeError(
                f"--target names two values for the {kind}, '{shorten(given[0])}' and"
                f" '{shorten(given[1])}': leave one out"
            )
    if numbers and int(numbers[0]) < 1:
        raise RecipeError(f"--target {numbers[0]}: a number of epochs must be at least 1")
    epochs = int(numbers[0]) if numbers else None
    return TargetWords(starts[0] if starts else None, epochs)


def target_table(target: str) -> dict[str, str | None]:
    """The start of `[target]` that a command names: `scratch`, `weights` for published ones, or a
    file of weights.

    Raises RecipeError: it is none of these.
    """
    if target == "scratch":
        return {"start": "scratch", "weights": None}
    if target != "weights" and not user_path(target, what="target", error=RecipeError).is_file():
        raise RecipeError(
            f"target '{shorten(target)}' does not exist: give 'scratch', 'weights', a file of"
            " weights or a number of epochs"
        )
    return {"start": "pretrained", "weights": "default" if target == "weights" else target}


def refuse_unpublished(backbone: str, start: str | None) -> None:
    """Raises RecipeError: a network of this package is to start from published weights."""
    if start == "weights" and ":" not in backbone:
        raise RecipeError(
            f"--target weights: {backbone} has no published weights; give 'scratch' or a file of"
            " weights"
        )
