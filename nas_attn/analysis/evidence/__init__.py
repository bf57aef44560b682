"""One model of all evidence: what the runs of a study say of its placements, and how sure that is. numpy only."""

from nas_attn.analysis.evidence.facts import Estimate, Gain, Noise, Run, digest
from nas_attn.analysis.evidence.kernels import Sum
from nas_attn.analysis.evidence.model import Evidence, fit

__all__ = ["Estimate", "Evidence", "Gain", "Noise", "Run", "Sum", "digest", "fit"]
