"""What a worker says of the run that it has taken."""

from __future__ import annotations

import pytest

from nas_attn.answer.progress import WorkersRun
from nas_attn.words.running import run_name, under_way


@pytest.mark.parametrize(
    ("taken", "name", "at"),
    [
        (
            WorkersRun("search", "k", "stage1=se", 3, "search", 0, trial=4),
            "trial 4",
            "trial 4, seed 3: stage1=se",
        ),
        (
            WorkersRun("confirm", "k", "stage1=se", 3, "search", 0),
            "confirm, seed 3: stage1=se",
            "confirm, seed 3: stage1=se",
        ),
        (
            WorkersRun("backbone", "backbone", "none", 0, "search", 0, backbones=2),
            "backbone 1 of 2",
            "backbone 1 of 2, seed 0: none",
        ),
    ],
)
def test_a_worker_names_a_run_with_its_seed_and_placement(
    taken: WorkersRun, name: str, at: str
) -> None:
    assert run_name(taken) == name
    assert under_way(taken) == at
