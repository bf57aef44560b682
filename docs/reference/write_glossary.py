"""Writes docs/reference/glossary.md from the words that reports explain: `make docs`."""

from __future__ import annotations

from pathlib import Path

from nas_attn.report.terms import TERMS

PAGE = Path(__file__).with_name("glossary.md")
HEAD = """\
# Words

These words have a meaning of their own here; a report explains each at its first use. `make docs`
writes this page from `nas_attn/report/terms.py`.

| word | meaning |
|---|---|
"""
TAIL = """
Words of the code are in the [architecture](../architecture.md#terms).
"""


def page() -> str:
    """The whole page, in Markdown."""
    rows = (f"| **{word}** | {meaning} |\n" for word, meaning in TERMS.items())
    return f"{HEAD}{''.join(rows)}{TAIL}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
