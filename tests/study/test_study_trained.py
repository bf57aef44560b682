"""Trained weights that could not be kept: what is said of them, and how they are made again."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

import nas_attn as na
from nas_attn.analysis.criteria import Criteria
from nas_attn.errors import CheckpointError, NasAttnWarning
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.exporting import AGAIN, chosen, train_again, trained_model
from nas_attn.study.opening import OpenStudy, open_study
from nas_attn.study.reading import snapshot

LIMIT = 8_000_000
"""Bytes that a file may have: the weights do not fit, the database does."""
SEARCH = f"""
import resource, sys
from nas_attn.cli.main import main
resource.setrlimit(resource.RLIMIT_FSIZE, ({LIMIT}, resource.RLIM_INFINITY))
sys.argv = ["nas-attn", *sys.argv[1:]]
main()
"""
RECIPE = """
name = "heavy"
objectives = ["accuracy", "params"]
space = { name = "heavy", sites = { include = ["stage3"] }, choices = { eca = {} } }
[backbone]
name = "resnet8"
width = 96
[data]
name = "digits"
options = { train = 60, validation = 40, test = 20 }
[training]
start = "scratch"
rungs = [1]
[search]
trials = 2
confirm_seeds = 0
"""


def nas(*arguments: str, limited: bool = False) -> subprocess.CompletedProcess[str]:
    how = ["-c", SEARCH] if limited else ["-m", "nas_attn.cli.main"]
    return subprocess.run([sys.executable, *how, *arguments], capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_weights_that_do_not_fit_on_the_disk_are_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("heavy.toml").write_text(RECIPE)
    done = nas("search", "heavy.toml", "--workers", "1", "--threads", "1", limited=True)
    assert done.returncode == 0, done.stderr
    assert "trained weights are lost: a checkpoint of" in done.stderr
    assert "File too large" in done.stderr
    before = na.open_study().snapshot()
    assert before.counts["scored"] == 2
    study = open_study("heavy", "sqlite:///nas_attn.db")
    plan, view = searching.plan_recipe(study.recipe), before.candidates[1]
    with pytest.raises(
        CheckpointError, match=r"of uniform eca are not there \(a checkpoint of .*File too large"
    ) as error:
        trained_model(study, plan, view)
    assert "trains it once more" in str(error.value)
    again = nas("export", "--trial", "1", "--again", "--threads", "1", "--output", "eca.pt")
    assert again.returncode == 0, again.stderr
    found = before.candidates[1].scores[0].metrics["accuracy"]
    assert f"trained again, after 1 epochs: accuracy {found:.4g}" in again.stderr, "to the same bits"
    assert Path("eca.pt").stat().st_size > LIMIT
    assert na.open_study().snapshot().as_dict() == before.as_dict(), "what the study knows stays as it is"
    trained_model(study, plan, view)
    assert not [name for name in study.store.all_checkpoints() if name.startswith(AGAIN)]
    (study.folder / study.store.checkpoints(f"weights:{view.key}")[0].artifact).unlink()
    with pytest.raises(CheckpointError, match=r"the weights of uniform eca are lost \(checkpoint .*again"):
        trained_model(study, plan, view)


DIES = """
import os
from nas_attn.evaluation.workbench import Workbench
from nas_attn.study import searching
from nas_attn.study.opening import open_study

Workbench.keep_weights = lambda *arguments: os._exit(9)
searching.work(open_study("table", "sqlite:///nas_attn.db"), searching.Options(say=lambda line: None))
"""


def opened(folder: Path) -> OpenStudy:
    changes = {"search.trials": 1, "search.confirm_seeds": 0}
    return searching.begin(load_recipe("table.toml", overrides=changes), "sqlite:///nas_attn.db")


def test_an_evaluators_network_is_not_mistaken_for_a_fresh_one(table: Path) -> None:
    """Killed after its last rung, what it trained is gone: the network at hand afterwards has random weights."""
    (table / "table_evaluator.py").write_text(
        "import torch\n\n"
        "def evaluate(model, run):\n"
        "    torch.nn.init.constant_(next(model.parameters()), 7.0)\n"
        "    return {'score': 1.0, 'effort': 1.0}\n"
    )
    study = opened(table)
    assert subprocess.run([sys.executable, "-c", DIES], check=False).returncode == 9
    with pytest.warns(NasAttnWarning, match="trained weights are lost: the process .* was stopped"):
        searching.work(study, searching.Options(say=lambda line: None))
    plan, now = searching.plan_recipe(study.recipe), snapshot(study.store)
    view = chosen(study, now, Criteria(trial=0)).view
    with pytest.raises(CheckpointError, match=r"the process that trained it was stopped .*again"):
        trained_model(study, plan, view)
    assert train_again(study, view, searching.Options(say=lambda line: None)).metrics["score"] == 1.0
    assert torch.all(next(trained_model(study, plan, view).parameters()) == 7.0)
    assert snapshot(study.store).as_dict() == now.as_dict()


def test_only_what_was_scored_is_trained_again(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE_FAIL", "fail")
    study = searching.begin(load_recipe("table.toml", overrides={"search.trials": 5}), "sqlite:///nas_attn.db")
    searching.work(study, searching.Options(say=lambda line: None))
    now = snapshot(study.store)
    failed = next(view for view in now.candidates if view.state == "failed")
    with pytest.raises(CheckpointError, match="has not been scored"):
        train_again(study, failed, searching.Options(say=lambda line: None))
    with pytest.raises(CheckpointError, match=r"of uniform simam \(failed\) were not kept"):
        trained_model(study, searching.plan_recipe(study.recipe), failed)
