"""How waits are said, in one language: floors that build no sentence tell facts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Wording:
    """How waits are said, in one language."""

    name: str
    wait: Callable[[], Callable[..., str]]
    """Loads what takes a `waiting.WaitFact` and returns a sentence."""


WORDINGS: dict[str, Wording] = {}


def wording() -> Wording:
    """The language in which waits are said."""
    return WORDINGS["english"]
