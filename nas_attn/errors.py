"""Every exception that nas_attn raises on purpose, drawn once.

    NasAttnError
    ├── UserError (also a ValueError)        what was asked cannot be: the command line exits with 2
    │   ├── RecipeError                      a recipe or search-space file
    │   ├── PlacementError                   a placement in notation
    │   ├── KnobError                        a setting of an attention module
    │   ├── BackboneError                    a backbone's name, or a model without usable sites
    │   ├── DataError                        a data set, a folder, an image
    │   └── StudyError                       a study's name, its recipe, a wrong storage URL
    └── OperationError                       the machine or the store failed: the command line exits with 1
        ├── StorageError                     the database
        ├── CheckpointError                  a stored checkpoint is damaged or cannot be written
        ├── TrainingError                    a candidate could not be trained
        ├── MeasurementError                 a latency could not be measured
        └── LeaseLost                        another worker has taken this work over

A message is one sentence: the place, the wrong value, the way out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class NasAttnError(Exception):
    """Base of all errors raised on purpose."""

    exit_status = 1


class UserError(NasAttnError, ValueError):
    """What the user asked for cannot be done as written."""

    exit_status = 2


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


class CheckpointError(OperationError):
    """A checkpoint is damaged or cannot be written."""


class TrainingError(OperationError):
    """A candidate could not be trained (its loss diverged, the memory did not suffice)."""


class MeasurementError(OperationError):
    """A latency could not be measured."""


class LeaseLost(OperationError):
    """The lease on a piece of work has passed to another worker: stop, write nothing more."""


class NasAttnWarning(UserWarning):
    """Something was done differently from what was asked, and this says what."""


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """The tail of an error sentence for an unknown name: the nearest known one, or all of them."""
    options = sorted(known)
    close = difflib.get_close_matches(name, options, n=5, cutoff=0.5)
    if close:
        return f"did you mean '{min(close, key=lambda option: (_letters_apart(name, option), len(option)))}'?"
    return f"known are: {', '.join(options)}" if options else "none is known"


def _letters_apart(a: str, b: str) -> int:
    """Letters to add or drop on the way from one name to the other: of equally near ones the short is meant."""
    same = sum(block.size for block in difflib.SequenceMatcher(None, a, b).get_matching_blocks())
    return len(a) + len(b) - 2 * same
