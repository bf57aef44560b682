"""Facts below, words above: what computes builds no sentence, and nothing reads one back."""

from __future__ import annotations

from pathlib import Path

import pytest
from sentences import sentences

PACKAGE = Path(__file__).parents[2] / "nas_attn"
FACTS = (
    "analysis",
    "attachment/site_notes.py",
    "checkup",
    "data/copies.py",
    "data/image_names.py",
    "evaluation/arithmetic.py",
    "evaluation/artifacts.py",
    "evaluation/images.py",
    "evaluation/output.py",
    "evaluation/starts.py",
    "model",
    "notes.py",
    "report",
    "training/parameters.py",
    "training/trainer.py",
)
"""Packages and files that return data, or draw it."""


@pytest.mark.parametrize("place", FACTS)
def test_what_computes_builds_no_sentence(place: str) -> None:
    path = PACKAGE / place
    files = [path] if path.is_file() else sorted(path.rglob("*.py"))
    assert files
    found = {file.name: said for file in files if (said := sentences(file.read_text("utf-8")))}
    assert found == {}, "render it in nas_attn.words, from data"


def test_sentences_are_found_and_errors_are_none() -> None:
    source = """
\"\"\"A file that says a lot of things.\"\"\"
def f(x):
    if x:
        raise ValueError(f"{x} is not what was expected here")
    error = StudyError("nothing of the kind is there")
    key = "max_latency_ratio"
    code = "import nas_attn as na"
    return f"{x} is better than {key}", "the bare backbone"
"""
    assert sentences(source) == ["… is better than …", "the bare backbone"]
