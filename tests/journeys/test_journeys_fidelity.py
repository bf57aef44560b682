"""How far brief training can be trusted: asked, stopped, asked again, and its setting searched with."""

from __future__ import annotations

import pytest
from answers import finished
from shell import Shell

pytestmark = pytest.mark.slow

RECIPE = """\
name = "trust"
space = "small"
[backbone]
name = "resnet8"
width = 4
[data]
name = "digits"
options = { train = 80, validation = 60, test = 20, size = 12 }
[training]
backbone_epochs = 1
rungs = [1, 2]
batch_size = 16
[latency]
session_seconds = 0.1
max_sessions = 1
[search]
trials = 8
confirm_seeds = 1
"""
SMALL = "--placements 5 --seeds 2 --epochs 1,2 --subsets 1 --reference-epochs 3"


@pytest.mark.parametrize("workers", [1, 2])
def test_fidelity_of_a_recipe_stopped_and_written(shell: Shell, workers: int) -> None:
    (shell.folder / "trust.toml").write_text(RECIPE)
    before = shell.files()
    plan = shell.types(f"fidelity trust.toml --dry-run --json {SMALL}").json
    assert (plan["placements"], plan["seeds"]) == (5, 2)
    assert shell.files() == before
    run = f"fidelity trust.toml {SMALL} --workers {workers} --threads 1"
    stopped = shell.begins(run).until(r"\[run \d+/").ctrl_c().ends(130)
    assert "the same command goes on" in stopped.err
    found = shell.types(f"{run} --write better.toml --json").json
    assert found["study"] == "trust"
    again = shell.types(f"{run} --json").json
    assert again["advice"] == found["advice"], "nothing is trained anew"
    assert (shell.folder / "trust.fidelity.html").stat().st_size > 10_000
    assert (shell.folder / "better.toml").exists() == bool(found["changes"])
    assert shell.types("status --json").json == [], "its parts are no studies"
    recipe = "better.toml" if found["changes"] else "trust.toml"
    shell.types(f"search {recipe} --workers {workers} --threads 1")
    finished(shell, "trust", trials=8)
    shell.types(f"fidelity trust {SMALL} --workers 1 --threads 1 --dry-run")
