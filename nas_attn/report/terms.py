"""The words that pages use in a sense of their own, each with its meaning: for tooltips at
the first use on a page, and for docs/reference/glossary.md, which is written from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TERMS: Mapping[str, str] = MappingProxyType(
    {
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
    }
)
"""Word -> meaning."""
