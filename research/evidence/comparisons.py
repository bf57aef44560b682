"""The table of published comparisons, `comparisons.csv` beside this file, and its schema.

A row is one score of one pair of networks that differ in attention. CONTRIBUTING.md says how to add
one.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from statistics import fmean

from nas_attn.errors import DataError
from research.evidence.fitted import NOT_SAID, Situation

COMPARISONS_FILE = Path(__file__).with_name("comparisons.csv")
EVIDENCE_TASKS = ("classification", "detection", "segmentation")
PARTS_OF_A_NETWORK = ("backbone", "neck", "head")
STARTS = ("scratch", "pretrained", NOT_SAID)
MODULE_FORMS = ("random", "identity", NOT_SAID)
EVIDENCE_KINDS = ("exact", "near", "authors", "repeated", "fit")
# The test set of ImageNet that counts; others score the same networks again.
COUNTED_TEST = "validation"


@dataclass(frozen=True, slots=True)
class PublishedComparison:
    """A row of the table."""

    source: str
    """Where the figures stand; a version or a date."""
    data: str
    """The data set of the training."""
    test: str
    """What was scored, where several test sets were: `validation 224`; else empty."""
    network: str
    situation: Situation
    recipe: str
    """How it was trained, and whatever else tells rows of one network apart."""
    without: float | None
    """Score without attention; None: the source has the gain alone."""
    with_attention: float | None
    gain: float
    """Percentage points; more is better."""
    error: float | None
    """Standard error of the gain, points; None: one training of each."""
    unit: str
    """`top-1`, `mAP`, `box AP` or `mAP50`, all in points."""
    kind: str
    """`exact`: only attention differs; `near`: the recipe or the stem, too; `authors`: figures of
    those who proposed the module; `repeated`: a mean over seeds; `fit`: an effect of a fit.
    """

    @property
    def group(self) -> tuple[str, str, str]:
        """Source, data set and network: such rows share a network without attention."""
        return self.source, self.data, self.network


TABLE_COLUMNS = (
    "source",
    "task",
    "data",
    "test",
    "network",
    "module",
    "place",
    "begin",
    "end",
    "start",
    "form",
    "recipe",
    "without",
    "with",
    "gain",
    "error",
    "unit",
    "kind",
)
WORDS = {
    "task": EVIDENCE_TASKS,
    "place": PARTS_OF_A_NETWORK,
    "start": STARTS,
    "form": MODULE_FORMS,
    "kind": EVIDENCE_KINDS,
}
NEVER_EMPTY = ("source", "data", "network", "module", "unit")
# Of a gain against the difference of the two scores, which are rounded.
ROUNDED_BY = 0.011


@lru_cache(maxsize=1)
def comparisons() -> tuple[PublishedComparison, ...]:
    """The rows of our table."""
    return read_comparisons(COMPARISONS_FILE)


def read_comparisons(file: Path) -> tuple[PublishedComparison, ...]:
    """The rows of a table in this format. Raises DataError: a row is wrong, with its line."""
    with file.open(encoding="utf-8", newline="") as lines:
        reader = csv.DictReader(lines)
        if tuple(reader.fieldnames or ()) != TABLE_COLUMNS:
            raise DataError(f"the columns of '{file}' must be {', '.join(TABLE_COLUMNS)}")
        rows: list[PublishedComparison] = []
        for row in reader:
            try:
                rows.append(_comparison(row))
            except ValueError as error:
                raise DataError(f"'{file}', line {reader.line_num}: {error}") from None
    return tuple(rows)


def _comparison(row: dict[str, str]) -> PublishedComparison:
    for column, allowed in WORDS.items():
        if row[column] not in allowed:
            raise ValueError(f"{column} must be one of {', '.join(allowed)}, not '{row[column]}'")
    for column in NEVER_EMPTY:
        if not row[column]:
            raise ValueError(f"{column} is empty")
    made = PublishedComparison(
        source=row["source"],
        data=row["data"],
        test=row["test"],
        network=row["network"],
        situation=_situation(row),
        recipe=row["recipe"],
        without=_number(row, "without"),
        with_attention=_number(row, "with"),
        gain=float(row["gain"]),
        error=_number(row, "error"),
        unit=row["unit"],
        kind=row["kind"],
    )
    if (made.without is None) != (made.with_attention is None):
        raise ValueError("without and with belong together: give both or neither")
    if made.without is not None and made.with_attention is not None:
        difference = made.with_attention - made.without
        if abs(difference - made.gain) > ROUNDED_BY:
            raise ValueError(f"gain is {made.gain}, but with - without is {difference:.2f}")
    if (made.error is not None) != (made.kind in ("repeated", "fit")):
        raise ValueError("error is the standard error of 'repeated' and 'fit', and empty else")
    return made


def _situation(row: dict[str, str]) -> Situation:
    begin = _number(row, "begin")
    end = _number(row, "end")
    if (row["place"] == "backbone") != (begin is not None and end is not None):
        raise ValueError("begin and end say where in the backbone, and are empty elsewhere")
    if begin is None or end is None:
        begin = 0.0
        end = 1.0
    if not 0 <= begin < end <= 1:
        raise ValueError(f"begin and end must be shares of the depth, not {begin} and {end}")
    return Situation(
        row["task"], row["place"], row["start"], row["form"], row["module"], begin, end
    )


def _number(row: dict[str, str], column: str) -> float | None:
    return float(row[column]) if row[column] else None


def trained_pairs(rows: Iterable[PublishedComparison]) -> tuple[PublishedComparison, ...]:
    """One row for each pair of trainings, however often it was scored.

    Of ImageNet's test sets, the validation set counts; resolutions are averaged.
    """
    scored: dict[tuple[object, ...], list[PublishedComparison]] = defaultdict(list)
    for row in rows:
        scored[(*row.group, row.situation, row.recipe)].append(row)
    pairs: list[PublishedComparison] = []
    for scores in scored.values():
        chosen = _first_test(scores)
        pairs.append(
            replace(
                chosen[0],
                test="",
                without=None,
                with_attention=None,
                gain=fmean(row.gain for row in chosen),
            )
        )
    return tuple(pairs)


def _first_test(scores: Sequence[PublishedComparison]) -> Sequence[PublishedComparison]:
    """The scores on the validation set if there is one, else all."""
    validated = [row for row in scores if row.test.startswith(COUNTED_TEST)]
    return validated or scores
