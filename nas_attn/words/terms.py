"""The twelve words that pages use in a sense of their own, each with its meaning."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

TERMS: Mapping[str, str] = MappingProxyType(
    {
        "attention module": "layers that weigh a feature map by its own content: se, eca, cbam …",
        "site": "a place in the network where a module can go: stage2, stage2.block1",
        "placement": "which module stands at which site",
        "backbone": (
            "your network. The bare backbone has no attention; everything is compared with it"
        ),
        "study": "one search with all its results, kept in a database under a name",
        "candidate": "a backbone with a placement that a study trains",
        "front": "the candidates that no other beats in every objective at once",
        "gain": "how much better a candidate is than the bare backbone, with a 95 % interval",
        "× latency": "latency in times of the bare backbone's, measured beside it",
        "target": "how the network will be trained in the end",
        "seed": "what decides the luck of a run. Candidates are compared over equal seeds",
        "test": "new runs, scored on test images that no search reads",
    }
)
"""Word -> meaning; docs/glossary.md has them, too."""
