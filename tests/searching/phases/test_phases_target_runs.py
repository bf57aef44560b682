"""Validation and retraining from the command to the exported file, on 8x8 digits and with an
evaluator that looks its answers up.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from command_line import Nas
from PIL import Image
from plans_made import plan_recipe

import nas_attn as na
from nas_attn.answer.answer import REQUIRED, Answer, Lacking, Option, answer_of
from nas_attn.answer.reading import answer, snapshot
from nas_attn.answer.snapshot import Means
from nas_attn.errors import StudyError
from nas_attn.model.evidence import Gain
from nas_attn.recipe.purposes import TEST_PROTOCOL
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.phases import testing
from nas_attn.searching.phases.retraining import FIRST_RETRAINING
from nas_attn.searching.phases.testing import FIRST_SEED
from nas_attn.searching.run import taking_part
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage.opening import open_study

TINY = """
name = "tiny"
objectives = ["accuracy", "params"]
space = { name = "tiny", choices = { se = { reduction = [4] }, simam = {} } }
backbone = { name = "resnet8", width = 4 }
data = { name = "digits-8x8" }
target = { epochs = 2, seeds = 3 }
search = { trials = 3, confirm_seeds = 0 }
[training]
start = "backbone"
backbone_epochs = 1
backbones = 2
rungs = [1]
batch_size = 128
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that is searched."""
    folder = tmp_path_factory.mktemp("tiny")
    (folder / "tiny.toml").write_text(TINY)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        na.search("tiny.toml", say=lambda line: None, device="cpu")
    return folder


@pytest.fixture
def searched(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it, made the working folder."""
    shutil.copytree(tiny, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*-shm"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


@pytest.mark.slow
def test_validations_have_fresh_runs_and_retraining_counts_them(searched: Path, nas: Nas) -> None:
    command = ("test", "--workers", "1", "--seeds", "2", "--placement", "stage1=simam")
    assert nas(*command).status == 0
    store = open_study("tiny").store
    runs = [row.run for row in store.queue.rows(protocol="target")]
    (result,) = na.open_study().snapshot().validations
    assert len(runs) == 2 * len(result.family.networks)
    assert Counter(reading.reason for reading in store.test_readings()) == Counter(
        f"validate {r.files}" for r in runs
    )
    assert all(
        point.purpose != "validate" for view in snapshot(store).candidates for point in view.scores
    )
    out = nas("show").out
    tested, table = out.index("2 trainings each"), out.index("the front (*)")
    assert tested < table < out.index("Test 1: ")
    found = nas("retrain", "--placement", "stage1=simam", "--seeds", "2", "--json").json["runs"]
    assert {run["purpose"] for run in found} == {"validate"}
    assert len(store.queue.rows(protocol="target")) == len(runs)
    assert nas(*command, "--another").status == 0
    seeds = {row.run.seed for row in store.queue.rows(protocol="target")}
    assert seeds == {FIRST_SEED, FIRST_SEED + 1, 2 * FIRST_SEED, 2 * FIRST_SEED + 1}
    shown = nas("test")
    assert (shown.status, "Test 2" in shown.out) == (
        0,
        True,
    ), "asked again, it shows what there is"
    assert [result.family.number for result in na.open_study().snapshot().validations] == [1, 2]


def test_beforehand_it_says_what_it_compares_can_show_and_costs_and_writes_nothing(
    searched: Path, nas: Nas
) -> None:
    done = nas("test", "--dry-run", "--difference", "0.02", "--placement", "stage2=simam")
    assert done.status == 0, done.err
    assert all(word in done.out for word in ("against ", "3 seeds", "80 %", "2.0 points"))
    store = open_study("tiny").store
    assert (store.validations.all(), store.queue.rows(protocol="target")) == ({}, [])


def test_a_named_placement_is_tested_where_nothing_is_recommended(searched: Path) -> None:
    opened = open_study("tiny")
    plan = plan_recipe(opened.recipe)
    nothing = Answer(now=snapshot(opened.store), lacking=Lacking.NOTHING_SCORED)
    named = testing.ValidationRequest(placements=("stage1=simam",))
    family = testing.family_of(opened, nothing, plan, named)
    simam, bare = (plan.resolved(parse(text)).key for text in ("stage1=simam", "none"))
    assert family.comparisons == ((simam, bare),)
    with pytest.raises(StudyError, match="--placement"):
        testing.family_of(opened, nothing, plan, testing.ValidationRequest())


@pytest.mark.parametrize(
    ("limit", "chance", "tested"), [(None, 0.6, True), (0.01, 0.3, True), (None, 0.3, False)]
)
def test_a_best_bet_is_tested_if_promising_or_without_a_uniform_rival(
    searched: Path, limit: float | None, chance: float, tested: bool
) -> None:
    opened = open_study("tiny")
    now, plan = snapshot(opened.store), plan_recipe(opened.recipe)
    bare = plan.resolved(BARE).key
    bet = next(view for view in reversed(now.ordered(now.baselines)) if view.placement != BARE)
    likely = Option(Means.ATTENTION, bet, Gain(0.01, probability=chance), REQUIRED)
    kept = replace(answer_of(now), taken=None, chosen=None, bet=likely)
    limits = now.recipe.limits.model_copy(update={"max_latency_ratio": limit})
    limited = replace(now, recipe=now.recipe.model_copy(update={"limits": limits}))

    def compared(answer: Answer) -> set[tuple[str, str]]:
        family = testing.family_of(opened, answer, plan, testing.ValidationRequest())
        return {*family.comparisons}

    assert ((bet.key, bare) in compared(replace(kept, now=limited))) is tested
    larger = replace(likely, means=Means.LARGER)
    assert (bet.key, bare) in compared(replace(kept, now=limited, taken=larger))
    other = next(view for view in now.candidates if view.key not in (bet.key, bare))
    both = replace(kept, now=limited, taken=larger, chosen=replace(likely, view=other))
    wanted = {(bet.key, bare), (other.key, bare), (bet.key, other.key)}
    assert wanted <= compared(both), "the best placement, too"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["test", "--margin", "-1"], "--margin -1.0"),
        (["test", "--placement", "stage9=se"], "unknown site 'stage9'"),
        (["retrain", "--placement", "77"], "has no trial 77"),
        (["retrain", "--placement", "stage9=se"], "unknown site 'stage9'"),
    ],
)
def test_wrong_wishes_are_one_sentence_and_write_nothing(
    searched: Path, nas: Nas, arguments: list[str], message: str
) -> None:
    done = nas(*arguments)
    assert done.status == 2
    assert message in done.error
    assert {row.run.purpose for row in open_study("tiny").store.queue.rows()} <= {
        "search",
        "backbone",
    }


def test_a_folder_without_a_test_split_is_refused_before_any_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas: Nas
) -> None:
    for split in ("train", "val"):
        for label, grey in (("dark", 40), ("light", 200)):
            folder = tmp_path / "photos" / split / label
            folder.mkdir(parents=True)
            for number in range(6):
                Image.new("L", (16, 16), grey + number).save(folder / f"{number}.png")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "tiny.toml").write_text(TINY.replace('"digits-8x8"', '"folder:photos", size = 16'))
    na.search("tiny.toml", trials=2, say=lambda line: None, device="cpu")
    done = nas("test", "--dry-run")
    assert done.status == 2
    assert "test'" in done.err
    shutil.copytree(tmp_path / "photos" / "val" / "dark", tmp_path / "photos" / "test" / "dark")
    done = nas("test", "--dry-run")
    assert done.status == 2, "half a test split is none"
    assert "'light'" in done.err


def test_an_evaluator_is_asked_for_its_test_split(table: Path, nas: Nas) -> None:
    evaluator = (table / "table_evaluator.py").read_text()
    asked = (
        "    if run.split == 'test': open('test.txt',"
        " 'a').write(f'{run.placement}|{run.seed}|{run.new_epochs}\\n')\n"
    )
    (table / "table_evaluator.py").write_text(
        evaluator.replace("    with open", asked + "    with open", 1)
    )
    changes = {"target.epochs": 3, "target.seeds": 2, "search.confirm_seeds": 0}
    na.search("table.toml", trials=4, say=lambda line: None, overrides=changes)
    (result,) = nas("test", "--workers", "1", "--json").json["validations"]
    lines = (table / "test.txt").read_text().splitlines()
    assert len(lines) == len(set(lines)) == 2 * len(result["family"]["networks"])
    assert all(line.endswith("|0") for line in lines)
    assert result["family"]["metric"] == "score"
    assert result["verdicts"][0]["new_low"] is None, (
        "without results per image, nothing is said about new ones"
    )


def weights(path: str) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(path, weights_only=True)["state_dict"]
    return found


def test_the_chosen_network_is_trained_as_the_target_says_and_exported(
    searched: Path, nas: Nas
) -> None:
    network = ("--placement", "stage1=simam stage2=simam stage3=simam")
    assert nas("export", *network, "-o", "before.pt").status == 0
    command = ("retrain", *network, "--placement", "none", "--json", "--workers", "1")
    runs = nas(*command).json["runs"]
    assert [found["placement"] == "none" for found in runs] == [False, True]
    assert {found["seed"] for found in runs} == {FIRST_RETRAINING}
    assert all(0 <= found["metrics"]["accuracy"] <= 1 for found in runs)
    store = open_study("tiny").store
    assert [s.score.epochs for s in store.scores(runs[0]["key"], protocol="target")] == [2]
    assert store.test_readings() == [], "the test split is validate's to read"
    curves = na.open_study().snapshot().retrained
    assert [[point.epochs for point in found.curve] for found in curves] == [[1, 2], [1, 2]]
    assert curves[0].curve[0].train_loss > curves[0].curve[1].train_loss > 0
    assert curves[0].curve[1].metrics["accuracy"] == runs[0]["metrics"]["accuracy"]
    assert "Trained for use" in na.open_study().report().read_text()
    assert nas(*command).json["runs"] == runs, "nothing is trained twice"
    assert (
        f"retrain, target, seed {FIRST_RETRAINING}" in nas("export", *network, "-o", "after.pt").out
    )
    assert f"retrain, target, seed {FIRST_RETRAINING}" in Path("after.pt.md").read_text()
    before, after = weights("before.pt"), weights("after.pt")
    assert before.keys() == after.keys()
    assert any(not torch.equal(before[key], after[key]) for key in before)
    nas("export", *network, "-o", "searched.pt", "--as-searched")
    assert all(torch.equal(before[key], value) for key, value in weights("searched.pt").items())
    (found,) = nas(
        "retrain", "--placement", "stage1=simam", "--epochs", "1", "--workers", "1", "--json"
    ).json["runs"]
    assert found["protocol"].startswith("own-"), "other epochs are another protocol"
    assert [s.score.epochs for s in store.scores(found["key"], protocol=found["protocol"])] == [1]


PHASES = (
    "nas_attn.searching.phases.testing:Validation.want",
    "nas_attn.training.workbench:Workbench.start",
    "nas_attn.training.evaluators:EvaluatorTrainer.fit",
    "nas_attn.training.workbench:Workbench.test",
    "nas_attn.storage.store:StudyStore.log_test_reading",
    "nas_attn.training.evaluators:EvaluatorTrainer.test",
    "nas_attn.training.workbench:Workbench.keep_weights",
    "nas_attn.storage.work:RunQueue.finish",
    "nas_attn.storage.artifacts:RunFiles.clear",
    "nas_attn.searching.phases.testing:Validation.ended",
)
"""Before and after each of these a worker is killed, in its second run: each has to take up what
the one before left.
"""
WORKER = """
import importlib, os, signal, sys
from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import open_study

url, phase, after = sys.argv[1], sys.argv[2], sys.argv[3] == "after"
module, _, path = phase.partition(":")
kind, _, name = path.partition(".")
owner = getattr(importlib.import_module(module), kind)
whole, left = getattr(owner, name), 1 if name == "want" else 2  # all runs are wanted at once

def dying(*arguments, **named):
    global left
    left -= 1
    if not after and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    result = whole(*arguments, **named)
    if after and left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
    return result

setattr(owner, name, dying)
opened = open_study("killed", url)
taking_part.work(opened, taking_part.Options(device="cpu", say=lambda line: None, only="validate"))
"""


@pytest.mark.slow
@pytest.mark.timeout(36_000)
@pytest.mark.parametrize("server", [False, True], ids=["sqlite", "postgresql"])
def test_killed_in_every_phase_by_several_workers(
    table: Path, server: bool, request: pytest.FixtureRequest
) -> None:
    url = request.getfixturevalue("postgres_url") if server else "sqlite:///nas_attn.db"
    blocks = len(PHASES) + 4
    recipe = load_recipe(
        "table.toml",
        overrides={
            "name": "killed",
            "search.trials": 6,
            "target.epochs": 4,
            "target.seeds": blocks,
        },
    )
    na.search(recipe, storage=url, say=lambda line: None)
    opened = open_study("killed", url)
    plan = plan_recipe(opened.recipe)
    family = testing.family_of(opened, answer(opened.store), plan, testing.ValidationRequest())
    testing.begin(opened, family)
    killed = 0
    for phase in PHASES:
        pair = []
        for when in ("before", "after"):
            command = [sys.executable, "-c", WORKER, url, phase, when]
            pair.append(subprocess.Popen(command, stderr=subprocess.PIPE, text=True))
            if (
                phase == PHASES[0]
            ):  # together, one may find all wanted by the other, and carry all out before it wants
                pair[-1].wait(3000)
        for worker in pair:
            _, said = worker.communicate(timeout=3000)
            assert worker.returncode in (0, -signal.SIGKILL), said
            killed += worker.returncode == -signal.SIGKILL
    assert killed >= len(PHASES), "there was work left to be killed at"
    assert (
        taking_part.work(
            opened, taking_part.Options(device="cpu", say=lambda line: None, only="validate")
        )
        == "complete"
    )
    rows = opened.store.queue.rows(protocol="target")
    assert {row.run.identity for row in rows} == {
        run.identity for run in testing.family_runs(family)
    }
    assert {row.state for row in rows} == {"done"}
    readings = Counter(reading.reason for reading in opened.store.test_readings())
    assert readings == Counter(f"validate {row.run.files}" for row in rows), (
        "each run's reading is logged, once"
    )
    assert len(opened.store.scores(protocol=TEST_PROTOCOL)) == len(rows)
    (result,) = snapshot(opened.store).validations
    assert result.complete
    assert result.blocks == blocks
    assert not result.diverged
