from __future__ import annotations

import numpy as np
from made_study import recipe
from runs_made import additive, placements, runs

from nas_attn.analysis.weak_rungs import WeakRung, weak_rungs
from nas_attn.model import fit


def found(size: float, count: int = 24, **search: object) -> list[WeakRung]:
    """What is noticed of a first rung where placements differ by `size`, and runs by .01."""
    rng = np.random.default_rng(0)
    texts = placements(count, rng)
    brief = runs(additive(texts, rng, size), rng, noise=0.01, seeds=2, level=0.01)
    model = fit(brief, texts, metric="accuracy", rung=0)
    made = recipe(search=search)
    return weak_rungs(made, "accuracy", [(("accuracy", 0), model), (("loss", 0), model), (("accuracy", 1), model)])


def test_a_rung_that_says_nothing_is_noticed_with_what_to_change() -> None:
    (weak,) = found(0.0)
    assert (weak.rung, weak.epochs, weak.candidates) == (0, 1, 24)
    assert weak.reliability < 0.1
    assert "training.rungs" in weak.sentence
    (unpruned,) = found(0.0, pruner="none")
    assert "training.rungs" not in unpruned.sentence


def test_a_rung_that_tells_placements_apart_is_not_nor_one_that_few_have_reached() -> None:
    assert found(0.03) == []
    assert found(0.0, count=8) == []
