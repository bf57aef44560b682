"""What is published about attention: comparisons of a network with and without it, as a table, and
what they say together. NumPy only; facts, no sentences.

`comparisons()` reads the table, `pooled()` fits it, and the fit predicts a gain for a situation:

    from nas_attn.model.published import Situation, pooled
    gain = pooled().gain(Situation("detection", "neck", "pretrained", "random", "se"))
    gain.mean, gain.low, gain.high, gain.probability, gain.sources
"""

from nas_attn.model.published.pooling import COVERAGE, ExpectedGain, PooledFit, fit, pooled
from nas_attn.model.published.seen import SeenGain, seen_gains
from nas_attn.model.published.table import (
    NOT_SAID,
    PublishedComparison,
    Situation,
    comparisons,
    read_comparisons,
    trained_pairs,
)

__all__ = [
    "COVERAGE",
    "NOT_SAID",
    "ExpectedGain",
    "PooledFit",
    "PublishedComparison",
    "SeenGain",
    "Situation",
    "comparisons",
    "fit",
    "pooled",
    "read_comparisons",
    "seen_gains",
    "trained_pairs",
]
