"""A study's report, and what optuna-dashboard and trackers show of it, which is published when a
worker ends.
"""

from __future__ import annotations

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
from nas_attn.report.html import Beside, ShownImage
from nas_attn.report.tracking import track
from nas_attn.storage.artifacts import answer_artifact
from nas_attn.storage.opening import OpenStudy

# labels of images whose network has one map of scores
MAPPED = ("classes", "tags", "numbers")


def publish(opened: OpenStudy) -> Answer | None:
    """Publishes a study as of now, for optuna-dashboard and the trackers; None if a process has
    done it already.
    """
    state = f"{__version__} {opened.store.state()}"
    if opened.store.settings.published == state:
        return None
    current = answer(opened.store)
    dashboard.publish(opened.book.study, current)
    if current.now.counts["scored"]:
        _keep_sheet(opened, current)
    track(opened, current)
    opened.store.set(published=state)
    return current


def _keep_sheet(opened: OpenStudy, answer: Answer) -> None:
    """Writes the answer's table, which has one name for ever, so that processes that end together
    write one file.
    """
    name = answer_artifact(opened.store)
    try:
        opened.artifacts.write(name, dashboard.sheet(answer).encode())
    except Exception as error:
        # each artifact store has its own exceptions
        why = first_line(error)
        what = f"{dashboard.SHEET} for optuna-dashboard cannot be written ({why})"
        line = f"{what}; nothing else is missing"
        warnings.warn(line, NasAttnWarning, stacklevel=2)
        return
    dashboard.link_sheet(opened.book.storage, opened.book.number, name)


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
    drawn = None
    taken = answer.now.find(answer.taken_key or "")
    if images and answer.now.recipe.data.name != EXTERNAL:
        from nas_attn.report.pictures import largest_errors, maps

        if found is not None and found.worst:
            # the data are not on this machine: no images
            with suppress(NasAttnError):
                errors = list(largest_errors(opened, answer, found))
        if taken is not None and taken.attends and tasks.of(answer.now.recipe).labels in MAPPED:
            drawn = maps(opened, taken)
    return write_report(answer, path or report_path(opened), choice, Beside(found, errors, drawn))


def report_path(opened: OpenStudy) -> Path:
    """The report's default path, beside the database."""
    base = opened.database.path.parent if opened.database.path else Path.cwd()
    return base / f"{opened.store.name}.html"
