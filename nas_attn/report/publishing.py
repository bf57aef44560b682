"""A study's report, and its notes and plots for optuna-dashboard: one worker publishes for all, not
too often.
"""

from __future__ import annotations

import io
import time
import warnings
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from nas_attn._version import __version__
from nas_attn.answer.answer import Answer
from nas_attn.answer.choosing import Chosen
from nas_attn.answer.reading import answer, mistakes
from nas_attn.errors import NasAttnError, NasAttnWarning, StorageAway, first_line
from nas_attn.recipe import tasks
from nas_attn.recipe.task import EXTERNAL
from nas_attn.report import dashboard, write_report
from nas_attn.report.html import Beside, Maps, ShownImage
from nas_attn.report.note import SHEET
from nas_attn.report.tracking import track
from nas_attn.storage.artifacts import only_artifact
from nas_attn.storage.opening import OpenStudy
from nas_attn.system.waiting import ignore, impatient

if TYPE_CHECKING:
    pass

# seconds between refreshes of the dashboard's notes and plots, at least
PUBLISH_S = 10.0
# largest share of one worker's time for refreshing, in the long run
REFRESHING_SHARE = 0.05
# seconds between refreshes, at most
LONGEST_REFRESH_S = 600.0
# so many candidates with the same value of a metric are reported during the search
SUSPICIOUS = 3
# labels of images whose network has one map of scores
MAPPED = ("classes", "tags", "numbers")


class Publisher:
    """Keeps optuna-dashboard's notes and plots current; reports once to `say` each metric or rung
    that separates no candidates.
    """

    def __init__(self, opened: OpenStudy, say: Callable[[str], None] = ignore) -> None:
        self._opened = opened
        self._last = time.monotonic()
        self._say = say
        self._told: set[str] = set()

    def maybe(self) -> None:
        """Publishes if some time has passed since anyone did."""
        if time.monotonic() - self._last > PUBLISH_S:
            self._last = time.monotonic()
            # the next call to the database reports it
            with impatient(), suppress(StorageAway):
                if self._take():
                    self.now()

    def now(self) -> Answer:
        """Publishes the study as of now."""
        began = time.monotonic()
        state = self._state()
        current = answer(self._opened.store)
        book = self._opened.book
        dashboard.publish(book.storage, book.number, book.identity, current)
        track(self._opened)
        self._last = time.monotonic()
        self._opened.store.set(published=state)
        self._postpone((self._last - began) / REFRESHING_SHARE)
        notes = {f"rung {weak.rung}": weak.sentence for weak in current.now.weak_rungs}
        notes |= {
            same.metric: same.sentence
            for same in current.now.constants
            if same.candidates >= SUSPICIOUS
        }
        for about, sentence in notes.items():
            if about not in self._told:
                self._told.add(about)
                self._say(f"note: {sentence}")
        return current

    def current(self) -> Answer:
        """The study as of now, published if necessary, with the answer's table among its
        artifacts.
        """
        current = self.changed() or answer(self._opened.store)
        _keep_sheet(self._opened, current)
        return current

    def changed(self) -> Answer | None:
        """Publishes the study as of now, unless that is published already."""
        if self._opened.store.settings.published == self._state():
            return None
        return self.now()

    def _state(self) -> str:
        return f"{__version__} {self._opened.store.state()}"

    def _take(self) -> bool:
        due = self._opened.store.settings.publish_at
        if due is not None and 0 < due - self._opened.database.now() <= LONGEST_REFRESH_S:
            return False
        self._postpone(PUBLISH_S)
        return self._opened.store.settings.published != self._state()

    def _postpone(self, seconds: float) -> None:
        wait = min(max(seconds, PUBLISH_S), LONGEST_REFRESH_S)
        self._opened.store.set(publish_at=self._opened.database.now() + wait)


def _keep_sheet(opened: OpenStudy, answer: Answer) -> None:
    """Writes the answer's table, which has one name for ever, so that processes that end together
    write one file.
    """
    if not answer.now.counts.get("scored"):
        return
    name = only_artifact(opened.store, "answer")
    text = dashboard.sheet(answer).encode()
    try:
        if _kept_sheet(opened, name) != text:
            opened.artifacts.write(name, io.BytesIO(text))
    except Exception as error:
        # each artifact store has its own exceptions
        why = first_line(error)
        line = f"{SHEET} for optuna-dashboard cannot be written ({why}); nothing else is missing"
        warnings.warn(line, NasAttnWarning, stacklevel=2)
        return
    dashboard.link_sheet(opened.book.storage, opened.book.number, name)


def _kept_sheet(opened: OpenStudy, name: str) -> bytes | None:
    try:
        with opened.artifacts.open_reader(name) as reader:
            return reader.read()
    except Exception:
        # each artifact store has its own for what is missing
        return None


def write_study_report(
    opened: OpenStudy,
    answer: Answer,
    path: Path | None = None,
    choice: Chosen | None = None,
    *,
    images: bool = True,
) -> Path:
    """Writes the report of a study.

    Args:
        opened: the study.
        answer: as of now.
        path: of the page; None: beside the database.
        choice: a candidate that is shown first.
        images: whether validation images are drawn, which loads torch and the data.

    Returns:
        The page's absolute path.

    Raises:
        StudyError: it cannot be written.
    """
    found = mistakes(opened.store, answer)
    errors: list[ShownImage] = []
    if images and found is not None and found.worst:
        from nas_attn.report.largest_errors import largest_errors

        # the data are not on this machine: no images
        with suppress(NasAttnError):
            errors = list(largest_errors(opened, answer, found))
    drawn = _maps(opened, answer) if images else None
    target = path or report_path(opened)
    return write_report(answer, target, choice, Beside(found, errors, drawn))


def _maps(opened: OpenStudy, answer: Answer) -> Maps | None:
    """Where attention is strong; None for networks without it, and for images without one map of
    scores.
    """
    recipe = answer.now.recipe
    taken = answer.now.find(answer.taken_key or "")
    if taken is None or not taken.attends or recipe.data.name == EXTERNAL:
        return None
    if tasks.of(recipe).labels not in MAPPED:
        return None
    from nas_attn.report.maps import maps

    return maps(opened, answer.now, taken)


def report_path(opened: OpenStudy) -> Path:
    """The report's default path, beside the database."""
    base = opened.database.path.parent if opened.database.path else Path.cwd()
    return base / f"{opened.store.name}.html"
