"""Writes docs/reference/glossary.md: `make docs`."""

from __future__ import annotations

from pathlib import Path

PAGE = Path(__file__).with_name("glossary.md")
HEAD = """\
# Words

These words have a meaning of their own here.

| word | meaning |
|---|---|
"""
WORDS = {
    "site": ("a place in your network where an attention module can go: stage2, stage2.block1"),
    "placement": "which module stands at which site: stage2=eca stage3=se(reduction=8)",
    "backbone": (
        "your network. The bare backbone has no attention; everything is compared with it"
    ),
    "study": "one search with all its results, kept in a database under a name",
    "candidate": "a network that a study trains, bare or with attention; its number: trial 7",
    "front": "the candidates that no other beats in every objective at once",
    "baseline": (
        "a candidate that needs no search: the bare backbone, or one module at every stage"
        " (uniform)"
    ),
    "control": (
        "a candidate that the answer may take instead of attention: a larger or smaller"
        " network, or plain convolutions in the modules' place"
    ),
    "gain": "how much better a candidate is than the bare backbone, with a 95 % interval",
    "rung": "a number of epochs at which a candidate is scored, and may be stopped (pruned)",
    "target": "how you will train the network in the end",
    "seed": "what decides the luck of a run. Candidates are compared over equal seeds",
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
    rows = (f"| **{word}** | {meaning} |\n" for word, meaning in WORDS.items())
    return f"{HEAD}{''.join(rows)}{TAIL}"


if __name__ == "__main__":
    PAGE.write_text(page(), "utf-8")
