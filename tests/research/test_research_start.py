"""The experiment on starts: what its analysis makes of rows whose truth is known."""

from __future__ import annotations

import numpy as np

from research.start import analysis
from research.start.analysis import Cell, cells, placement

PENALTY = {"paper": 2.0, "identity": 0.0, "": 0.0}


def made(penalty: dict[str, float], seeds: int) -> analysis.Scores:
    """Accuracies with noise, where random gates cost a known number of points."""
    rng = np.random.default_rng(0)
    known = {cell: 70 - penalty[cell.form] + 0.7 * float(rng.standard_normal()) for cell in cells()}
    return {cell: value for cell, value in known.items() if cell.seed < seeds}


def test_a_known_difference_is_found_within_its_interval() -> None:
    _, main = analysis.overall(made(PENALTY, 8), ("identity", "paper"), "everywhere", "short")
    assert main is not None
    assert main.seeds == 8
    assert abs(main.mean - 2.0) < 2 * main.half
    assert main.shown
    helped, hurt, tested = analysis.discovery_counts(made(PENALTY, 8), "paper")
    assert (helped, tested) == (0, 36)
    assert hurt > 20


def test_no_difference_is_not_shown() -> None:
    none = dict.fromkeys(PENALTY, 0.0)
    _, main = analysis.overall(made(none, 8), ("identity", "paper"), "everywhere", "short")
    assert main is not None
    assert not main.shown
    helped, hurt, _ = analysis.discovery_counts(made(none, 8), "paper")
    assert helped + hurt <= 2


def test_a_seed_counts_only_if_all_its_cells_are_there() -> None:
    known = made(PENALTY, 4)
    missing = Cell("digits", "mobile", placement("eca", "everywhere"), "paper", "short", 3)
    del known[missing]
    by_seed, _ = analysis.overall(known, ("identity", "paper"), "everywhere", "short")
    assert set(by_seed) == {0, 1, 2}
    text = analysis.page(known)
    assert text is not None
    assert f"{len(known):,} of {len(list(cells())):,}" in text
    assert analysis.page(made(PENALTY, 1)) is None
    assert analysis.figure(known).count("<circle") == 2 + 12
