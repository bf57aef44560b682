"""Sizes that were fixed before the first run; README.md says how they were found."""

from __future__ import annotations

from research.trial.cells import Problem, everywhere

PRETRAINING = Problem("pretraining", 20)
PROBLEMS = {
    problem.name: problem
    for problem in (
        Problem("cifar", 40),
        Problem("fashion", 40),
        Problem("digits", 40),
        Problem("transfer", 20, pretrained=True),
    )
}
DEAR = frozenset(everywhere(module) for module in ("ema", "cpca", "sdpa", "lsk", "mhsa"))
"""Networks that are left out: a step takes more than 3 times the bare backbone's (costs.csv)."""
