"""A study's report with the images that its networks classify differently."""

from __future__ import annotations

from pathlib import Path

from nas_attn.analysis.choosing import Chosen
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.errors import NasAttnError
from nas_attn.evaluation.pictures import pictures
from nas_attn.report import write_report
from nas_attn.study.opening import OpenStudy


def write_study_report(
    opened: OpenStudy, now: Snapshot, path: Path | None = None, choice: Chosen | None = None
) -> Path:
    """Writes the report, with example images where the data can be loaded; returns its absolute path.

    Args:
        path: None: `report_path`.

    Raises:
        StudyError: the file cannot be written there.
    """
    found = now.examples
    try:
        shown = {} if found is None else pictures(now.recipe, [one.image for one in (*found.gained, *found.lost)])
    except NasAttnError:  # the data are not on this machine: the report goes without images
        shown = {}
    return write_report(now, path or report_path(opened), choice, pictures=shown)


def report_path(opened: OpenStudy) -> Path:
    """Where a study's report goes unless told otherwise: beside the database."""
    base = opened.database.path.parent if opened.database.path else Path.cwd()
    return base / f"{opened.store.name}.html"
