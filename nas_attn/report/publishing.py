"""A study's report, and what optuna-dashboard and trackers show of it, which is published when a
worker ends.
"""

from __future__ import annotations

import io
import warnings
from contextlib import suppress
from pathlib import Path

from nas_attn._version import __version__
from nas_attn.answer.answer import Answer
from nas_attn.answer.choosing import Chosen
from nas_attn.answer.reading import answer, mistakes
from nas_attn.errors import NasAttnError, NasAttnWarning, first_line
from nas_attn.recipe import tasks
from nas_attn.recipe.task import EXTERNAL
from nas_attn.report import dashboard, write_report
from nas_attn.report.html import Beside, Maps, ShownImage
from nas_attn.report.note import SHEET
from nas_attn.report.tracking import track
from nas_attn.storage.artifacts import only_artifact
from nas_attn.storage.opening import OpenStudy

# labels of images whose network has one map of scores
MAPPED = ("classes", "tags", "numbers")


def publish(opened: OpenStudy) -> Answer:
    """Publishes a study as of now, for optuna-dashboard and the trackers."""
    state = _state(opened)
    current = answer(opened.store)
    dashboard.publish(opened.book.study, current)
    track(opened)
    opened.store.set(published=state)
    return current


def publish_changes(opened: OpenStudy) -> Answer | None:
    """Publishes a study as of now, unless another process has done it already."""
    return None if opened.store.settings.published == _state(opened) else publish(opened)


def published(opened: OpenStudy) -> Answer:
    """The study as of now, published if necessary, with the answer's table among its artifacts."""
    current = publish_changes(opened) or answer(opened.store)
    _keep_sheet(opened, current)
    return current


def _state(opened: OpenStudy) -> str:
    return f"{__version__} {opened.store.state()}"


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
