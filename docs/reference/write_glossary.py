"""Writes docs/reference/glossary.md from the words that reports explain: `make docs`."""

from __future__ import annotations

from pathlib import Path

from nas_attn.report.terms import TERMS

PAGE = Path(__file__).with_name("glossary.md")
HEAD = """\
# Words

These words have a meaning of their own here. A report explains each word at its first use.

| word | meaning |
|---|---|
"""
MORE = {
    "recipe": "the TOML file that says what a search does: backbone, images, target, limits",
    "search space": "which modules with which settings may stand at which sites",
    "stage, block": "a block repeats in a network, such as a residual block; a stage is all blocks"
    " whose maps have the same size",
    "position": "where in a block a module stands: residual, block, or behind the whole stage",
    "identity, paper": "how attention modules begin: changing nothing, or as published",
    "start": "the weights a training begins with: random, published, yours, a trained backbone's",
    "uniform": "one module at every stage",
    "relative": "a larger or smaller network of the backbone's family",
    "round": "one more seed for the best candidate, two rivals and the bare backbone",
    "worker": "a process that trains and measures for a study",
    "session": "some seconds in which networks are timed in random turns",
    "arithmetic": "precision, order in memory and execution of a study's trainings",
}
"""Words of the pages that reports do not use."""
TAIL = """
Words of the code are in the [architecture](../architecture.md#terms).
"""


def page() -> str:
    """The whole page, in Markdown."""
    rows = (f"| **{word}** | {meaning} |\n" for word, meaning in {**TERMS, **MORE}.items())
    return f"{HEAD}{''.join(rows)}{TAIL}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
