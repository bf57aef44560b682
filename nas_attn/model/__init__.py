"""The one model of placements: what runs say about them, how sure that is, and what untried ones
may be worth. NumPy only.

value = mean of the rung + effect of the placement + placement x backbone + level of the seed and of
the backbone + noise
"""

from nas_attn.model.evidence import Estimate, Evidence, Gain, Noise, fit
from nas_attn.model.priors import Beforehand
from nas_attn.model.runs import TARGET_RUNG, TESTED, WITNESS, Contributions, Results, ScoredRun

__all__ = [
    "TARGET_RUNG",
    "TESTED",
    "WITNESS",
    "Beforehand",
    "Contributions",
    "Estimate",
    "Evidence",
    "Gain",
    "Noise",
    "Results",
    "ScoredRun",
    "fit",
]
