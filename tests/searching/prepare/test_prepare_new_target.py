"""A study whose target gets another length after its search."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from command_line import Nas, nas  # noqa: F401

import nas_attn as na
from nas_attn.answer.reading import snapshot
from nas_attn.recipe.purposes import SEARCH
from nas_attn.searching.phases.length import length_run
from nas_attn.searching.prepare.beginning import take_up
from nas_attn.searching.prepare.extending import alone
from nas_attn.searching.prepare.length_protocols import keep_length_protocol
from nas_attn.searching.prepare.new_target import NewTarget, set_target
from nas_attn.storage.opening import OpenStudy, open_study
from nas_attn.storage.rows import Run
from nas_attn.storage.trial_book import TRIED

if os.name != "nt":
    import pty

SHORT = """
name = "short"
objectives = ["accuracy", "latency"]
space = { name = "short", choices = { se = { reduction = [4] }, simam = {} } }
backbone = { name = "resnet8", width = 4 }
data = { name = "digits-8x8" }
target = { epochs = 1 }
search = { trials = 6, confirm_seeds = 0 }
training = { batch_size = 128, seeds = 2 }
latency = { session_seconds = 0.1, tolerance = 0.9 }
"""


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("short")
    (folder / "short.toml").write_text(SHORT)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.setenv("OMP_NUM_THREADS", "1")
        na.search("short.toml", say=lambda line: None, device="cpu", threads=1)
    return folder


@pytest.fixture
def searched(short: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(short, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*-shm"))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path


def add_longer_training(opened: OpenStudy, seed: int) -> Run:
    """Adds a training of the bare backbone for two epochs to a study, as a search of more
    candidates makes it.
    """
    store = opened.store
    keep_length_protocol(store, opened.recipe, 2)
    bare = next(row for row in store.candidates() if row.is_bare)
    run = length_run(bare.key, 2, seed)
    (like,) = store.scores(bare.key, protocol=SEARCH, with_correct=True)[:1]
    metrics = {"accuracy": 0.4321, "loss": 1.5}
    lease = store.acquire("run", owner="test", ttl_s=600)
    assert lease is not None
    score = replace(like.score, seed=seed, epochs=2, metrics=metrics)
    store.add_score(run, score, lease=lease)
    store.release(lease)
    return run


def test_candidates_are_trained_anew_and_former_runs_stay_apart(searched: Path, nas: Nas) -> None:  # noqa: F811
    before = snapshot(open_study("short").store)
    sessions = len(open_study("short").store.sessions())
    longer = add_longer_training(open_study("short"), seed=1)
    ended = nas("resume", "--set", "target.epochs=2", "--workers", "1", "--device", "cpu")
    assert ended.status == 0, ended
    store = open_study("short").store
    now = snapshot(store)
    assert now.recipe.target_training.rungs == now.recipe.training.rungs == [2]
    assert {stored.score.epochs for stored in store.scores(protocol=SEARCH)} == {2}
    former = store.scores(protocol="search-for-1")
    assert {s.key for s in former} >= {view.key for view in before.finished}
    assert all(point.epochs == 2 for view in now.candidates for point in view.scores)
    assert len(now.candidates) == len(before.candidates)
    again = {view.key for view in now.finished} & {view.key for view in before.finished}
    assert len(again) > len(before.finished) / 2
    # of which the estimate may drop one that other work disturbed
    measured = {sample.key for session in store.sessions() for sample in session.samples}
    assert measured >= {view.key for view in now.finished if not view.is_bare}
    assert len(store.sessions()) < 2 * sessions, "all latencies were measured anew"
    of_bare = {s.score.seed: s.score.metrics for s in store.scores(longer.key, protocol=SEARCH)}
    assert of_bare.keys() == {0, 1}
    assert of_bare[1] == {"accuracy": 0.4321, "loss": 1.5}, "trained again"
    assert "trains 2 epochs instead of 1" in ended.err
    assert "kept: 1 training of the bare backbone for 2 epochs" in ended.err
    assert nas("show").status == 0
    assert nas("report").status == 0


def test_what_the_user_has_named_is_trained_anew_and_keeps_its_place(searched: Path) -> None:
    opened = open_study("short")
    taken = {str(row.placement) for row in opened.store.candidates()}
    named = [words for words in ("stage2=simam", "stage1=eca", "stage3=eca") if words not in taken]
    take_up(opened, tried=named)
    waiting = {
        trial.user_attrs[TRIED] for trial in opened.book.all() if not trial.state.is_finished()
    }
    assert waiting == set(named)
    agreed: list[NewTarget] = []
    longer = set_target(opened, 2, agree=agreed.append)
    (changed,) = agreed
    queued = longer.book.all()
    assert {trial.user_attrs.get(TRIED) for trial in queued} >= waiting
    assert changed.again == len(queued)
    assert changed.trials >= changed.again
    assert not longer.store.candidates()


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal")
def test_at_a_terminal_nothing_changes_without_a_yes(searched: Path) -> None:
    stored = {artifact.name for artifact in open_study("short").artifacts.stored()}
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "nas_attn.cli.main", "resume", "--set", "target.epochs=2"]
    process = subprocess.Popen(command, stdin=slave, stderr=subprocess.PIPE, text=True)
    os.write(master, b"n\n")
    err = process.communicate(timeout=120)[1]
    os.close(master)
    os.close(slave)
    assert process.returncode != 0
    assert "trains 2 epochs instead of 1" in err
    opened = open_study("short")
    assert opened.recipe.target_training.rungs == [1]
    assert {artifact.name for artifact in opened.artifacts.stored()} == stored
    with alone(opened):
        assert snapshot(opened.store).finished


def test_other_settings_and_the_same_length_are_refused(searched: Path, nas: Nas) -> None:  # noqa: F811
    for setting in ("search.trials=9", "target.epochs=1", "target.epochs=x", "target.epochs=0"):
        ended = nas("resume", "--set", setting)
        assert ended.status == 2, setting
        assert setting.partition("=")[0] in ended.err
    assert snapshot(open_study("short").store).recipe.target_training.rungs == [1]


# two searches with further seeds
@pytest.mark.slow
def test_the_longer_training_of_the_bare_backbone_is_that_of_the_longer_search(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    nas: Nas,  # noqa: F811
) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    Path("short.toml").write_text(SHORT)
    changes = {"search.confirm_seeds": 1, "objectives": ["accuracy", "params"]}
    na.search("short.toml", overrides=changes, say=lambda line: None, device="cpu", threads=1)
    assert (
        nas("resume", "--set", "target.epochs=2", "--workers", "1", "--device", "cpu").status == 0
    )
    scores = open_study("short").store.scores
    bare = next(view.key for view in snapshot(open_study("short").store).finished if view.is_bare)
    again = {s.score.seed: s.score for s in scores(bare, protocol=SEARCH)}
    for stored in scores(bare, protocol="length-2"):
        before = stored.score
        after = again[before.seed]
        assert [after.metrics[name] for name in ("accuracy", "loss")] == [
            before.metrics[name] for name in ("accuracy", "loss")
        ]
        assert (after.wall_s == before.wall_s) == (before.seed > 0), "only the first is repeated"


# retrains and tests on both sides of the change; that former runs stay is asked above
@pytest.mark.slow
def test_tests_and_weights_of_the_former_target_stay(searched: Path, nas: Nas) -> None:  # noqa: F811
    common = ("--workers", "1", "--device", "cpu")
    assert nas("retrain", "--placement", "stage1=simam", *common).status == 0
    assert nas("test", "--seeds", "2", "--placement", "stage1=simam", *common).status == 0
    before = open_study("short")
    checkpoints = before.store.all_checkpoints()
    weights = set(checkpoints)
    of_search = {r.artifact for n, rows in checkpoints.items() if "target" not in n for r in rows}
    assert of_search
    assert nas("resume", "--set", "target.epochs=2", *common).status == 0
    store = open_study("short").store
    assert not of_search & {artifact.name for artifact in before.artifacts.stored()}
    now = snapshot(store)
    assert now.validations == ()
    assert len(now.retrained) == 1
    kept = {name.replace("target-for-1", "target") for name in store.all_checkpoints()}
    assert {name for name in weights if "target" in name} <= kept
    assert nas("clean").status == 0
    assert nas("export", "-o", "x.py", "--placement", "stage1=simam").status == 0
    assert nas("test", "--seeds", "2", *common).status == 0
    assert len(snapshot(open_study("short").store).validations) == 1
