"""Facts below, words above: what computes builds no sentence, and nothing reads one back."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentences import sentences

PACKAGE = Path(__file__).parents[2] / "nas_attn"
FACTS = (
    "advice",
    "analysis",
    "attachment",
    "backbones",
    "checkup",
    "data/copies.py",
    "data/image_names.py",
    "evaluation",
    "evidence",
    "latency/locks.py",
    "model",
    "notation.py",
    "notes.py",
    "report",
    "space.py",
    "storage/outages.py",
    "training",
    "waiting.py",
)
"""Packages and files that return data, or draw it."""
SAYING = (
    "attachment/participation.py",
    "attachment/operations.py",
    "attachment/pickling.py",
    "attachment/recording.py",
    "backbones/larger.py",
    "backbones/weights.py",
    "evaluation/evaluators.py",
    "evaluation/programs.py",
    "evaluation/workbench.py",
    "training/memory.py",
    "training/recorded_step.py",
)
"""Files of these packages with other texts: parts of errors from functions of their own, lists of
operations.
"""


@pytest.mark.parametrize("place", FACTS)
def test_what_computes_builds_no_sentence(place: str) -> None:
    path = PACKAGE / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files
    saying = {PACKAGE / name for name in SAYING}
    found = {
        file.name: said
        for file in files
        if file not in saying and (said := sentences(file.read_text("utf-8")))
    }
    assert found == {}, "render it in nas_attn.words, from data"


def test_no_file_is_excepted_in_vain() -> None:
    assert [name for name in SAYING if not sentences((PACKAGE / name).read_text("utf-8"))] == []


def test_sentences_are_found_and_errors_are_none() -> None:
    source = """
\"\"\"A file that says a lot of things.\"\"\"
def f(x):
    if x:
        raise ValueError(f"{x} is not what was expected here")
    error = StudyError("nothing of the kind is there")
    why = "a reason that is said"
    what = "one thing too many"
    if x > 1:
        what += f", as is said: {why}"
    raise_later(why)
    raise ValueError(f"{what}: it is explained here")
    key = "max_latency_ratio"
    code = "import nas_attn as na"
    return f"{x} is better than {key}", "the bare backbone"
"""
    assert sentences(source) == [
        "a reason that is said",
        "… is better than …",
        "the bare backbone",
    ]
