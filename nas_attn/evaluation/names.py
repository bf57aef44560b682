"""Names under which a study keeps what was trained."""

from __future__ import annotations

BACKBONE = "backbone"
"""Key and purpose of the runs that train the study's own backbones."""


def backbone_name(way: str, number: int) -> str:
    """Name of a trained backbone."""
    return f"{way}/{number}"


def weights_run(name: str) -> str:
    """Where trained weights are kept: of a candidate's key as searched, or of another run's files."""
    return f"weights:{name}"


def test_way(way: str) -> str:
    """The way under which scores on the test split stand, of runs trained in another."""
    return f"{way}/test"
