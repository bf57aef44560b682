"""Fidelity from end to end on tiny runs: a plan's parts, killing and going on, the command and what it writes."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import pytest

from nas_attn.cli.recipe_lines import as_lines, changed
from nas_attn.errors import NasAttnWarning, OperationError, RecipeError
from nas_attn.evaluation.names import BACKBONE
from nas_attn.recipe import Recipe
from nas_attn.recipe_reading import load_recipe
from nas_attn.storage import Database, RunRow
from nas_attn.study import searching
from nas_attn.study.fidelity import FidelityStudy
from nas_attn.study.fidelity_plan import REFERENCE_SEEDS, FidelityPlan, arms, epochs_in_all, make_fidelity_plan, spread
from nas_attn.study.opening import create_study
from nas_attn.study.searching import Options

URL = "sqlite:///nas_attn.db"
TINY = """
# A tiny recipe, to be changed in place.
name = "tiny"
space = { name = "tiny", choices = { se = { reduction = [4] }, eca = {}, simam = {} } }
objectives = ["accuracy", "macs"]

[backbone]
name = "resnet8"
width = 8

[data]
name = "digits-8x8"

[training]
start = "scratch"   # from nothing
rungs = [
  1,
  2,
]
backbone_epochs = 1
batch_size = 64
"""
SHORT = (
    "--placements",
    "4",
    "--seeds",
    "2",
    "--epochs",
    "1,2",
    "--reference-epochs",
    "2",
    "--subsets",
    "1",
    "--starts",
    "backbone",
)


@pytest.fixture
def tiny(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `tiny.toml`, made the working folder."""
    (tmp_path / "tiny.toml").write_text(TINY)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def start(*arguments: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "nas_attn.cli.main", "fidelity", "--workers", "1", *arguments, "--threads", "1"]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)


def run(*arguments: str) -> tuple[int, str, str]:
    process = start(*arguments)
    out, err = process.communicate(timeout=240)
    return process.returncode, out, err


def lines(process: subprocess.Popen[str], number: int) -> list[str]:
    """The first lines of progress."""
    assert process.stderr is not None
    return [process.stderr.readline() for _ in range(number)]


def short_plan(recipe: Recipe, **changes: object) -> FidelityPlan:
    asked: dict[str, object] = {"placements": 4, "seeds": 2, "epochs": (1, 2), "reference_epochs": 2, "subsets": (1.0,)}
    asked["starts"] = ["backbone"]
    return make_fidelity_plan(recipe, **(asked | changes))  # type: ignore[arg-type]


def quiet(stop: threading.Event | None = None) -> Options:
    return Options(device="cpu", threads=1, say=lambda line: None, stop=stop or threading.Event())


# ------------------------------------------------------------------------------------------- the plan


def test_what_is_left_open_follows_the_recipe(tiny: Path) -> None:
    plan = make_fidelity_plan(load_recipe("tiny.toml"))
    assert (plan.placements, plan.seeds, plan.reference_start, plan.reference_epochs) == (12, 4, "scratch", 6)
    assert (plan.starts, plan.subsets, plan.epochs) == (("backbone", "scratch"), (1.0, 0.5), (1, 2, 4))
    reference, cheap = arms(plan)
    assert len(cheap) == 4
    assert not set(reference.seeds) & {seed for arm in cheap for seed in arm.seeds}
    assert epochs_in_all(plan) == 12 * 4 * (6 + 2 * 4 + 2 * 2) + 3 * 1.5


def test_a_larger_spread_begins_with_the_smaller_and_every_third_is_a_baseline(tiny: Path) -> None:
    space = searching.plan_recipe(load_recipe("tiny.toml")).space
    small, large = spread(space, 5, 0), spread(space, 12, 0)
    assert large[:5] == small
    assert small[0].text == "none"
    assert len({placement.key for placement in large}) == 12
    assert small[3].text == "stage1=se(reduction=4) stage2=se(reduction=4) stage3=se(reduction=4)"
    assert len(spread(space, 1000, 0)) == space.count() == 64


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"starts": ["pretrained"]},
            "start 'pretrained' is not to be had with this recipe: it allows scratch, backbone",
        ),
        ({"subsets": (0.5, 1.5)}, "subset 1.5 of the training images is not possible"),
        ({"epochs": (1, 9)}, r"epochs \[1, 9\] must lie between 1 and the reference's 2"),
        ({"seeds": 1}, "4 placements with 1 seeds"),
    ],
)
def test_impossible_plans_are_refused(tiny: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message):
        short_plan(load_recipe("tiny.toml"), **changes)


# ------------------------------------------------------------------------------------------- runs


def test_killed_and_interrupted_it_goes_on_and_comes_to_the_same_result(tiny: Path) -> None:
    process = start("tiny.toml", *SHORT)
    assert "[run 3/16" in lines(process, 3)[-1]
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    process = start("tiny.toml", *SHORT)
    before = lines(process, 2)
    os.kill(process.pid, signal.SIGINT)
    _, err = process.communicate(timeout=120)
    assert process.returncode == 130
    assert "the same command goes on" in err
    code, out, err = run("tiny.toml", *SHORT, "--json")
    assert code == 0, err
    resumed = json.loads(out)
    assert not any("[run 1/" in line or "[run 2/" in line for line in before), "runs were repeated"
    Path("nas_attn.db").rename("first.db")
    for rest in Path().glob("nas_attn.db-*"):
        rest.unlink()
    whole = FidelityStudy(short_plan(load_recipe("tiny.toml")), URL, quiet())
    assert whole.work() == "complete"
    rows = whole.result().rows
    assert [row["tau"] for row in resumed["rows"]] == [row.tau for row in rows]
    assert [row["reliability"] for row in resumed["rows"]] == [row.reliability for row in rows]
    assert len(rows) == 2 * 3 * 2  # epochs, metrics, numbers of seeds
    assert Path(resumed["report"]).read_text("utf-8").count("noise floor") >= 2
    assert Database(URL).studies() == []  # no study has come of it: its recipe may still be changed
    before_more = whole.progress()
    assert before_more == (16, 16)
    more = FidelityStudy(short_plan(load_recipe("tiny.toml"), seeds=3), URL, quiet())
    assert more.progress() == (16, 24), "more seeds add to the runs that are there"


@pytest.mark.slow
def test_several_processes_share_the_runs_and_come_to_the_same_result(tiny: Path) -> None:
    process = start("tiny.toml", *SHORT, "--workers", "2")
    assert any("worker 2: [run" in line for line in lines(process, 6))
    os.kill(process.pid, signal.SIGKILL)  # the processes that it started notice, and stop
    process.communicate(timeout=120)
    code, out, err = run("tiny.toml", *SHORT, "--workers", "2", "--json")
    assert code == 0, err
    alone = FidelityStudy(short_plan(load_recipe("tiny.toml")), "sqlite:///alone.db", quiet())
    assert alone.work() == "complete"
    assert [row["tau"] for row in json.loads(out)["rows"]] == [row.tau for row in alone.result().rows]


def test_a_study_lends_its_trained_backbone(tiny: Path) -> None:
    changes = {
        "training.start": "backbone",
        "search.trials": 1,
        "training.backbones": 2,
        "search.confirm_seeds": 0,
        "training.rungs": [1],
    }
    opened = create_study(load_recipe("tiny.toml", overrides=changes), URL)
    searching.work(opened, quiet())
    trials = len(opened.optuna_study.trials)
    study = FidelityStudy(short_plan(opened.recipe, reference_start="backbone"), URL, quiet())
    assert study.work() == "complete"
    assert study.store.name == "tiny", "its runs stand in the study's own queue"
    trained = {row.run.backbone for row in study.store.queue.rows(key=BACKBONE)}
    assert trained == {0, 1, REFERENCE_SEEDS, REFERENCE_SEEDS + 1}, (
        "the cheap runs take the search's, the reference has its own"
    )
    assert [s.name for s in Database(URL).studies()] == ["tiny"]
    assert len(opened.optuna_study.trials) == trials


def test_a_placement_that_cannot_be_trained_is_left_out_and_too_few_are_an_error(tiny: Path) -> None:
    plan = short_plan(load_recipe("tiny.toml"), placements=5, starts=["scratch"], epochs=(1,), reference_epochs=1)
    study = FidelityStudy(plan, URL, quiet())
    with pytest.raises(OperationError, match="the runs are not finished"):
        study.result()
    study.work()
    _forget(study.store.queue.rows(purposes=["fidelity"])[0])
    with pytest.warns(NasAttnWarning, match="is left out: a run of it failed"):
        assert len(study.result().placements) == 4
    assert study.progress()[0] == study.progress()[1], "what failed is not tried again"


def _forget(row: RunRow) -> None:
    """As if this placement's run had failed."""
    with sqlite3.connect("nas_attn.db") as connection:
        run = (row.run.key, row.run.way, row.run.seed)
        connection.execute("DELETE FROM nas_score WHERE key = ? AND way = ? AND seed = ?", run)
        connection.execute("UPDATE nas_run SET state = 'failed', reason = 'loss nan' WHERE id = ?", (row.id,))


@pytest.mark.slow
def test_two_processes_share_the_runs(tiny: Path) -> None:
    first, second = start("tiny.toml", *SHORT, "--json"), start("tiny.toml", *SHORT)
    out = first.communicate(timeout=240)[0]
    _, err = second.communicate(timeout=240)
    assert first.returncode == second.returncode == 0, err
    assert json.loads(out)["reference_seeds"] == 2
    mine = [line for line in err.splitlines() if line.startswith("[run")]
    assert len(mine) < 16, "the second has done some of them only"


def test_an_evaluator_is_held_against_itself(table: Path) -> None:
    recipe = load_recipe("table.toml")
    plan = make_fidelity_plan(recipe, placements=8, seeds=2, reference_epochs=6)
    assert (plan.starts, plan.subsets) == (("scratch",), (1.0,))
    study = FidelityStudy(plan, URL, quiet())
    assert study.work() == "complete"
    found = study.result()
    assert {row.setting.metric for row in found.rows} == {"score", "effort"}
    assert found.floor.tau > 0.8
    assert found.advice.setting is not None
    rungs = {} if found.advice.setting.rungs == (1, 2) else {"training.rungs": list(found.advice.setting.rungs)}
    seeds = {"training.seeds": 2} if found.advice.setting.seeds == 2 else {}
    assert study.changes(found.advice.setting) == rungs | seeds, "only what differs from the recipe"


# ------------------------------------------------------------------------------------------- the command


def test_dry_run_writes_nothing(tiny: Path) -> None:
    code, out, err = run("tiny.toml", *SHORT, "--dry-run")
    assert code == 0, err
    assert "16 runs" in out
    assert sorted(path.name for path in tiny.iterdir()) == ["tiny.toml"]


def test_dry_run_counts_the_networks_that_there_are(table: Path) -> None:
    text = (table / "table.toml").read_text()
    (table / "table.toml").write_text(text.replace("choices =", 'sites = { include = ["stage3"] }, choices ='))
    code, out, err = run("table.toml", "--placements", "12", "--seeds", "2", "--dry-run")
    assert code == 0, err
    assert out.startswith("5 placements, 2 seeds each: ")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["tiny.toml", "--epochs", "1,x"], "--epochs '1,x' is no list like 1,2,4"),
        (["tiny.toml", "--write", "tiny.db"], "--write 'tiny.db' exists already"),
        (["tiny.toml", "--write", "nowhere/new.toml"], "there is no folder"),
        (["tinny.toml"], "recipe file 'tinny.toml' does not exist"),
        (["digitss"], "did you mean 'digits'?"),
        (["tiny.toml", *SHORT, "--subsets", "1,0.005"], "--subsets 0.005: cannot split "),
    ],
)
def test_wrong_input_is_one_sentence_before_any_training(tiny: Path, arguments: list[str], message: str) -> None:
    (tiny / "tiny.db").touch()
    code, _, err = run(*arguments)
    assert code == 2
    assert message in err
    assert len(err.splitlines()) == 1
    assert not (tiny / "nas_attn.db").exists()


def test_the_recommended_setting_is_written_into_a_copy_of_the_recipe(table: Path) -> None:
    arguments = ("table.toml", "--placements", "8", "--seeds", "2", "--reference-epochs", "6", "--epochs", "1,3")
    code, out, err = run(*arguments, "--write", "new.toml")
    assert code == 0, err
    assert "Recommended: start scratch, all images, 1 epoch" in out
    assert "+0." in out
    old, new = load_recipe("table.toml"), load_recipe("new.toml")
    assert new.training.rungs == [1]
    changed_keys = {"rungs", "seeds"}
    assert new.training.model_dump(exclude=changed_keys) == old.training.model_dump(exclude=changed_keys)
    assert not list(table.glob(".*-draft.toml"))
    code, out, err = run("table.toml", *arguments[1:])
    assert code == 0, err
    assert "For the recipe (or --write FILE):\n[training]" in out


def test_a_study_has_no_file_to_write(tiny: Path) -> None:
    create_study(load_recipe("tiny.toml"), URL)
    code, _, err = run("tiny", "--write", "new.toml")
    assert code == 2
    assert "'tiny' is a study, which has no file to change" in err


# ------------------------------------------------------------------------------------------- the recipe's lines


def test_lines_change_in_place_and_comments_stay() -> None:
    changes = {"training.start": "backbone", "training.rungs": [1], "training.seeds": 2, "data.train_subset": 500}
    text = changed(TINY, changes)
    table = tomllib.loads(text)
    assert table["training"] == {"start": "backbone", "rungs": [1], "seeds": 2, "backbone_epochs": 1, "batch_size": 64}
    assert table["data"] == {"name": "digits-8x8", "train_subset": 500}
    assert 'start = "backbone"  # was "scratch": from nothing' in text
    assert "# A tiny recipe, to be changed in place." in text
    assert tomllib.loads(as_lines(changes))["training"]["rungs"] == [1]
    assert changed(text, changes) == text


def test_keys_go_and_sections_come() -> None:
    text = 'name = "x"\n[training]  # how\nstart = "pretrained"\nweights = "a#b.pt"  # own\n'
    table = tomllib.loads(changed(text, {"training.start": "scratch", "training.weights": None}))
    assert table["training"] == {"start": "scratch"}
    assert tomllib.loads(changed('name = "x"\n', {"training.seeds": 2})) == {"name": "x", "training": {"seeds": 2}}


def test_what_cannot_be_changed_by_lines_is_said_and_not_half_done() -> None:
    with pytest.raises(RecipeError, match=r"put these into it yourself: \[training\]; seeds = 2$"):
        changed('training = { start = "scratch" }\n', {"training.seeds": 2})
