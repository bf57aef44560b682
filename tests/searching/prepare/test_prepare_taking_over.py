"""A new study takes over what another one has: `search --from OLD`."""

from __future__ import annotations

import shutil
import sqlite3
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from command_line import Nas, nas  # noqa: F401
from told_values import told

import nas_attn as na
from nas_attn.errors import StudyError
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.phases.length import length_run
from nas_attn.searching.prepare import beginning, taking_over
from nas_attn.searching.prepare.length_protocols import keep_length_protocol
from nas_attn.searching.run import taking_part
from nas_attn.storage import heartbeat, work
from nas_attn.storage.artifacts import read_artifact, weights_run
from nas_attn.storage.opening import OpenStudy, open_study

URL = "sqlite:///nas_attn.db"
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
WIDER = 'name = "wider"\n[choices]\nse = { reduction = [4] }\nsimam = {}\neca = {}\n'
HERE = ("--workers", "1", "--device", "cpu")


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
    (tmp_path / "wider.toml").write_text(WIDER)
    return tmp_path


def rows_of(name: str) -> dict[str, list[Any]]:
    """All rows of a study, by table, but for its leases."""
    found = {}
    with closing(sqlite3.connect("nas_attn.db")) as database:
        query = "SELECT name FROM sqlite_master WHERE type = 'table' AND name LIKE 'nas_%'"
        for (table,) in database.execute(query).fetchall():
            columns = [row[1] for row in database.execute(f"PRAGMA table_info({table})")]
            if table == "nas_study":
                where = "name = ?"
            elif "study_id" in columns and table != "nas_lease":
                where = "study_id = (SELECT id FROM nas_study WHERE name = ?)"
            else:
                continue
            found[table] = database.execute(
                f"SELECT * FROM {table} WHERE {where}", [name]
            ).fetchall()
    return found


def trained(opened: OpenStudy) -> set[tuple[str, str, int, int]]:
    return {row.run.identity for row in opened.store.queue.rows() if row.state != "waiting"}


def test_a_wider_space_goes_on_with_all_that_was_trained(searched: Path, nas: Nas) -> None:  # noqa: F811
    old = open_study("short")
    before = rows_of("short")
    ended = nas("search", "--from", "short", "--set", "space=wider.toml", "--trials", "2", *HERE)
    assert ended.status == 0, ended
    assert "taken over from study short: 6 candidates" in ended.err
    assert rows_of("short") == before, "the old study stays as it was"

    new = open_study("short-2")
    candidates = {row.trial: row for row in new.store.candidates()}
    assert len(candidates) == 8
    for row in old.store.candidates():
        assert replace(candidates[row.trial], created_at=0, finished_at=0) == replace(
            row, created_at=0, finished_at=0
        )
    assert trained(new) >= trained(old)
    scores = [stored.score for stored in new.store.scores()]
    assert all(stored.score in scores for stored in old.store.scores())
    # Latencies may differ: they are estimated with the new study's sessions beside the old ones
    values = told(new.book)
    for trial, (accuracy, _) in told(old.book).items():
        assert values[trial][0] == pytest.approx(accuracy)
    sessions = list(new.store.sessions())
    assert all(session in sessions for session in old.store.sessions())
    for row in old.store.candidates():
        for kept in old.store.checkpoints(weights_run(row.key)):
            (copy,) = new.store.checkpoints(weights_run(row.key))
            assert copy.artifact != kept.artifact
            assert read_artifact(new.artifacts, copy.artifact, kept.sha256)
    assert nas("delete", "short", "--yes").status == 0
    for command in (("show", "short-2"), ("report", "short-2"), ("status", "short-2")):
        assert nas(*command).status == 0, command
    assert nas("export", "short-2", "--placement", "0", "-o", "net.pt").status == 0


def test_a_longer_training_takes_over_latencies_and_trainings_of_that_length(
    searched: Path,
    nas: Nas,  # noqa: F811
) -> None:
    old = open_study("short")
    keep_length_protocol(old.store, old.recipe, 2)
    bare = next(row for row in old.store.candidates() if row.is_bare)
    run = length_run(bare.key, 2, 1)
    (like,) = old.store.scores(bare.key, protocol=SEARCH, with_correct=True)[:1]
    lease = old.store.acquire("run", owner="test")
    assert lease is not None
    metrics = {"accuracy": 0.4321, "loss": 1.5}
    old.store.add_score(run, replace(like.score, seed=1, epochs=2, metrics=metrics), lease=lease)
    old.store.release(lease)

    ended = nas("search", "--from", "short", "--set", "target.epochs=2", *HERE)
    assert ended.status == 0, ended
    assert "taken over from study short: 0 candidates" in ended.err
    new = open_study("short-2")
    assert new.recipe.target_training.rungs == new.recipe.training.rungs == [2]
    assert {s.score.epochs for s in new.store.scores(protocol=SEARCH)} == {2}
    measured = {sample.key for session in new.store.sessions() for sample in session.samples}
    assert measured >= {row.key for row in old.store.candidates() if not row.is_bare}
    of_bare = {s.score.seed: s.score.metrics for s in new.store.scores(bare.key, protocol=SEARCH)}
    assert of_bare[1] == metrics, "it was trained again"
    again = nas("search", "--from", "short", "--set", "target.epochs=2", *HERE)
    assert again.status == 0, "the same command goes on"
    assert "taken over" not in again.err


def changed(opened: OpenStudy, **changes: object) -> beginning.SearchPlan:
    recipe = taking_over.recipe_like(opened, changes)
    return beginning.SearchPlan(recipe, URL, source=opened)


def test_a_stopped_study_is_taken_over_as_far_as_it_came(table: Path) -> None:
    old = beginning.begin(load_recipe("table.toml", overrides={"search.confirm_seeds": 0}), URL)
    said: list[str] = []

    def say(line: str) -> None:
        said.append(line)
        if line.startswith("trial 4"):
            options.stop.set()

    options = taking_part.Options(say=say)
    assert taking_part.work(old, options) == "stopped"
    begun = {row.key for row in old.store.candidates()}
    before = (table / "calls.txt").read_text().splitlines()
    new = beginning.create(changed(old, name="next"))
    assert taking_part.work(new, taking_part.Options(say=lambda line: None)) == "complete"
    after = (table / "calls.txt").read_text().splitlines()[len(before) :]
    trained_before = {tuple(line.split("|")[:3]) for line in before}
    assert not trained_before & {tuple(line.split("|")[:3]) for line in after}
    assert {row.key for row in new.store.candidates()} >= begun
    assert len(new.store.candidates()) == len(begun) + new.recipe.search.trials


def test_killed_half_way_it_goes_on(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    old = beginning.begin(load_recipe("table.toml", overrides={"search.trials": 4}), URL)
    taking_part.work(old, taking_part.Options(say=lambda line: None))
    plan = changed(old, name="next")

    def killed(*given: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(taking_over, "copy_results", killed)
        with pytest.raises(KeyboardInterrupt):
            beginning.create(plan)
    half = open_study("next", URL)
    with pytest.raises(StudyError, match="nas-attn resume next"):
        taking_part.work(half, taking_part.Options(say=lambda line: None))
    beginning.take_up(half)
    keys = {row.key for row in old.store.candidates()}
    assert {row.key for row in half.store.candidates()} == keys
    assert half.trials == len(keys) + half.recipe.search.trials
    assert taking_part.work(half, taking_part.Options(say=lambda line: None)) == "complete"
    states = [trial.state.is_finished() for trial in half.book.all()]
    assert all(states[: half.trials])


def test_who_takes_over_for_long_keeps_the_lock(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else a worker would begin runs that are being copied."""
    silent_s = 0.5
    monkeypatch.setattr(work, "SILENT_S", silent_s)
    monkeypatch.setattr(heartbeat, "BEAT_S", silent_s / 4)
    monkeypatch.setattr(heartbeat, "LISTEN_S", silent_s / 10)
    old = beginning.begin(load_recipe("table.toml", overrides={"search.trials": 4}), URL)
    taken: list[object] = []
    seen: list[str] = []

    def slowly(*given: Any) -> None:
        other = open_study("next", URL).store
        end = time.monotonic() + 3 * silent_s
        while time.monotonic() < end:
            taken.append(other.acquire("scheduling", owner="another"))
            time.sleep(silent_s / 10)
        seen.extend(row.doing for row in other.workers.rows())

    monkeypatch.setattr(taking_over, "copy_files", slowly)
    new = beginning.create(changed(old, name="next"))
    assert seen == ["taking over from study table"]
    assert not any(taken), "the lock was taken from a process that works"
    assert not new.store.workers.rows()


def test_other_networks_and_the_same_name_are_refused(table: Path, nas: Nas) -> None:  # noqa: F811
    beginning.begin(load_recipe("table.toml"), URL)
    other = nas("search", "--from", "table", "--set", "backbone.name=resnet14")
    assert "[backbone]" in other.error
    assert "another name" in nas("search", "table.toml", "--from", "table").error
    assert "'nobody'" in nas("search", "--from", "nobody").error
    assert "--from" in nas("search").error
