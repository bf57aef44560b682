"""Every exception that nas_attn raises on purpose, and texts for their sentences: the place, the
wrong value, the way out.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Sequence
from enum import IntEnum
from typing import ClassVar


class ExitStatus(IntEnum):
    """How a command ends, a worker's process included."""

    DONE = 0
    """In order. A worker that was stopped, or whose time was over, ends in order, too."""
    FAILED = 1
    """Something outside the user's input failed."""
    USER_ERROR = 2
    """What the user asked for cannot be done as written."""
    DEVICE_LOST = 75
    """A worker cannot use its GPU any more; another process can (EX_TEMPFAIL)."""
    INTERRUPTED = 130
    """After Ctrl-C, or a request to stop before the end."""


class NasAttnError(Exception):
    """Base of all errors raised on purpose."""

    exit_status = ExitStatus.FAILED


class UserError(NasAttnError, ValueError):
    """What the user asked for cannot be done as written; also a ValueError."""

    exit_status = ExitStatus.USER_ERROR


class RecipeError(UserError):
    """A recipe or a search-space file is wrong."""


class PlacementError(UserError):
    """A placement in notation is wrong, or does not fit the backbone."""


class KnobError(UserError):
    """A knob of an attention module is unknown, of the wrong type or out of range."""


class BackboneError(UserError):
    """A backbone cannot be built, or offers no site for attention."""


class DataError(UserError):
    """A data set is missing or unusable."""


class StudyError(UserError):
    """A study does not exist, exists with another recipe, or its storage URL is unusable."""


class OperationError(NasAttnError):
    """Something outside the user's input failed."""


class StorageError(OperationError):
    """The study database cannot be opened, read or written."""


class StorageAway(StorageError):
    """The study database does not answer, is full, locked or overrun: this may pass."""


class CheckpointError(OperationError):
    """A checkpoint is damaged or cannot be written."""


class BackboneLost(CheckpointError):
    """A backbone that candidates start from is missing or damaged, and is to be trained again."""


class TrainingError(OperationError):
    """A candidate could not be built, measured or trained (its loss diverged, its module raised
    something).
    """


class OutOfMemory(TrainingError):
    """There was not enough memory for a candidate."""


class DeviceLost(OperationError):
    """This process cannot use its GPU any more; another process can."""

    exit_status = ExitStatus.DEVICE_LOST


class MeasurementError(OperationError):
    """A latency could not be measured."""


class Unmeasurable(MeasurementError):
    """One network of a latency session does not run, or the user's command fails for it alone."""

    def __init__(self, network: str, shown: str, reason: str) -> None:
        """`shown`: how the message names the network."""
        super().__init__(f"{shown}: {reason}")
        # The candidate's key, or `reference`
        self.network = network
        self.reason = reason


class LeaseLost(OperationError):
    """The lease on a piece of work has passed to another worker: stop, write nothing more."""


class NasAttnWarning(UserWarning):
    """The program did something differently from what was asked; the message says what."""

    # Warnings that this process gave; its workers do not repeat them
    said: ClassVar[set[str]] = set()

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.said.add(message)


# The beginning of a command's warning
WARNING = "warning: "


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error sentence for an unknown name: the nearest known one, or some of them."""
    options = sorted(known)
    close = difflib.get_close_matches(name[:NAME_LETTERS], options, n=5, cutoff=0.5)
    if close:
        return (
            "did you mean"
            f" '{min(close, key=lambda option: (_letters_apart(name, option), len(option)))}'?"
        )
    return f"choose from: {few(options, quote='')}" if options else "there are none"


# Most letters of a list in a sentence
LIST_LETTERS = 240
# A longer text is no name, and comparing it with thousands of names is slow
NAME_LETTERS = 200


def few(names: Sequence[str], *, quote: str = "'", letters: int = LIST_LETTERS) -> str:
    """Names for a sentence: all of them, or as many as fit and how many there are in all."""
    shown: list[str] = []
    for name in names:
        shown.append(f"{quote}{shorten(name, NAME_LETTERS // 2)}{quote}")
        if sum(map(len, shown)) > letters and len(shown) < len(names):
            return f"{', '.join(shown[:-1] or shown)}, … ({len(names):,} in all)"
    return ", ".join(shown)


def listed(names: Sequence[str]) -> str:
    """`stage1, stage2 and stage3`; empty for none."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def several(number: int, noun: str) -> str:
    """`1 epoch`, `3 epochs`."""
    return f"{number} {noun}{'' if number == 1 else 's'}"


def shown_s(seconds: float) -> str:
    """`40 s`, `30 min`."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min"


def sentence(text: str, letters: int) -> str:
    """A message as one line of at most `letters`, control characters as escapes: nothing in it
    moves a terminal's cursor.
    """
    line = "".join(
        letter if letter.isprintable() else repr(letter)[1:-1] for letter in " ".join(text.split())
    )
    return line if len(line) <= letters else shorten(line, letters - len(" … "))


def printable(text: str) -> str:
    """A text of several lines, control characters as escapes."""
    if text.isprintable():
        return text
    return "".join(
        letter if letter.isprintable() or letter in "\n\t" else repr(letter)[1:-1]
        for letter in text
    )


def first_line(error: BaseException) -> str:
    """The first line of an error's message, or its type if the message is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0]


def shorten(text: str, letters: int = LIST_LETTERS) -> str:
    """A text for a sentence: as it is, or its beginning and its end."""
    text = " ".join(text.split())
    half = letters // 2
    return text if len(text) <= letters else f"{text[:half]} … {text[-half:]}"


_SECRET = r"(?:^|[?&;\s'\"]|%3B)\w*(?:password|passwd|pwd|passphrase|secret|token|key)(?:=|%3D)"
_PASSWORD = re.compile(rf"(://[^:/@\s]*:)\S*(?=@)|({_SECRET})(?:'[^']*'|[^&\s]*)", re.IGNORECASE)


def without_passwords(text: str) -> str:
    """A text with `***` in place of the passwords in its URLs, before the host or in the query."""
    return _PASSWORD.sub(lambda match: f"{match[1] or match[2]}***", text)


def _letters_apart(a: str, b: str) -> int:
    """Number of letters to add or drop to turn one name into the other."""
    same = sum(block.size for block in difflib.SequenceMatcher(None, a, b).get_matching_blocks())
    return len(a) + len(b) - 2 * same
