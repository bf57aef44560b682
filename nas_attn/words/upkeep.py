"""What the commands say that list, copy, clean and delete studies."""

from __future__ import annotations

from collections.abc import Mapping

from nas_attn.errors import several

TRIALS_LOST = "its trials were deleted from Optuna's tables"
FREED: Mapping[str, str] = {
    "weights": "weights",
    "checkpoints": "checkpoints of finished runs",
    "strays": "unused files",
    "prepared": "files of decoded images",
}
"""What can be deleted of a study, by its name in `searching.keeping.Freed`."""


def megabytes(size: int) -> str:
    """`3.1 MB`, from bytes."""
    return f"{size / 1e6:,.1f} MB"


def candidates_text(candidates: Mapping[str, int], *, workers: int, lost: bool) -> str:
    """`3 scored, 1 running`; a candidate runs only while there are workers. `lost`: the study's
    trials were deleted from Optuna's tables.
    """
    at_work = workers > 0 and not lost
    counts = []
    for state, count in candidates.items():
        shown = "begun" if state == "running" and not at_work else state
        counts.append(f"{count} {shown}")
    counted = ", ".join(counts) or "none yet"
    return f"{counted}; {TRIALS_LOST}" if lost else counted


def studies_title(storage: str) -> str:
    """Of a table of all studies."""
    return f"Studies in {storage}"


def study_text(name: str, candidates: int, storage: str) -> str:
    """What is to be deleted."""
    return f"study '{name}' with {several(candidates, 'candidate')} in {storage}"


def deletion_question(what: str) -> str:
    """Whether a study, as `study_text` says, is to be deleted."""
    return f"Delete {what}, for good?"


def deleted_line(what: str, files: int, size: int) -> str:
    """That a study was deleted, with so many files of so many bytes."""
    kept = f"{several(files, 'file')} of weights and logs ({megabytes(size)})"
    return f"deleted {what}, and {kept}"


def freed_line(freed: Mapping[str, int], *, dry_run: bool) -> str:
    """What was deleted of a study, or would be: the fields of `searching.keeping.Freed`."""
    parts = [f"{freed[name]:,} {what}" for name, what in FREED.items() if freed[name]]
    verb = "would free" if dry_run else "freed"
    listed = ", ".join(parts) or "nothing"
    stay = f"the weights of {freed['kept']} networks stay"
    return f"{verb} {megabytes(freed['size'])}: {listed}; {stay}"


def copied_files(folder: str, files: int, size: int) -> str:
    """The folder that a backup's artifacts were copied to."""
    return f"{folder} ({files:,} files, {megabytes(size)})"


def staying_line(bucket: str) -> str:
    """That artifacts in a bucket were not copied."""
    return f"the artifacts stay in {bucket}; the copy refers to them"


def no_images_line(error: Exception) -> str:
    """That a report has no example images, and why."""
    return f"note: the report has no example images: {error}"
