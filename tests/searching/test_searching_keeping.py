"""What is kept and what goes: weights, checkpoints, clean, backups, a bucket; and weights that are
made again.
"""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from command_line import Nas
from made_study import recommended, taking
from plans_made import plan_recipe

import nas_attn as na
from nas_attn.answer import choosing, reading
from nas_attn.answer.answer import answer_of
from nas_attn.answer.criteria import Criteria
from nas_attn.errors import CheckpointError, NasAttnWarning, OperationError, StudyError
from nas_attn.export import kept_weights
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching import keeping
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage import opening
from nas_attn.storage.artifacts import answer_artifact, mark, run_folder, weights_run

URL = "sqlite:///nas_attn.db"


def searched(keep: str = "all", trials: int = 5, artifacts: str | None = None) -> opening.OpenStudy:
    changes = {"search.trials": trials, "storage.keep_weights": keep, "search.confirm_seeds": 0}
    opened = beginning.begin(load_recipe("table.toml", overrides=changes), URL, artifacts=artifacts)
    assert taking_part.work(opened, taking_part.Options(say=lambda line: None)) == "complete"
    return opened


def kept(opened: opening.OpenStudy) -> set[str]:
    return {
        row.key
        for row in opened.store.candidates()
        if opened.store.checkpoints(weights_run(row.key))
    }


def files(opened: opening.OpenStudy) -> set[str]:
    """All artifacts but the answer's table."""
    return set(opened.artifacts.sizes()) - {answer_artifact(opened.store)}


def test_the_weights_of_the_front_stay_where_only_they_are_wanted(table: Path) -> None:
    opened = searched("front")
    now = reading.snapshot(opened.store)
    wanted = {view.key for view in now.front} | {
        view.key for view in now.candidates if view.baseline == "none"
    }
    wanted.add(recommended(now).key)
    assert kept(opened) == wanted
    assert len(wanted) < now.counts["scored"]
    assert len(files(opened)) == len(wanted)
    gone, *_ = (
        view.key for view in now.candidates if view.state == "scored" and view.key not in wanted
    )
    assert "storage.keep_weights is 'front'" in (opened.store.weights_lost.get(gone) or "")


def test_no_weights_are_written_where_none_are_wanted(table: Path) -> None:
    opened = searched("none", trials=1)
    assert (kept(opened), files(opened)) == (set(), set())


def test_a_larger_network_that_the_answer_takes_keeps_its_weights(table: Path) -> None:
    opened = searched("all")
    now = reading.snapshot(opened.store)
    left = next(
        view.key for view in now.candidates if view.key in kept(opened) and view not in now.front
    )
    instead = taking(now, left)
    freed = [
        keeping.sweep_weights(opened, one, "front", dry_run=True).kept
        for one in (answer_of(now), instead)
    ]
    assert freed[1] == freed[0] + (left != recommended(now).key)


def test_clean_says_what_it_would_free_and_then_frees_it(table: Path) -> None:
    opened = searched("all")
    scored = len(kept(opened))
    stray, others = (opened.folder / name for name in (f"{mark(opened.store)}-{'0' * 32}", "x-y"))
    for path in (stray, others):
        path.write_bytes(b"1234")
    lease = opened.store.acquire("run/99", owner="here")
    assert lease is not None
    assert keeping.clean(opened, dry_run=True).strays == 0, "a row for it may be under way"
    opened.store.release(lease)
    before = files(opened)
    would = keeping.clean(opened, "front", dry_run=True)
    assert files(opened) == before
    done = keeping.clean(opened, "front")
    assert done == would
    assert (done.weights + done.kept, done.strays) == (scored, 1)
    assert done.weights > 0
    assert not stray.exists()
    assert others.exists(), "another study's"
    again = keeping.clean(opened, "front")
    assert (again.weights, again.strays, again.size) == (0, 0, 0)


def test_a_run_that_was_interrupted_keeps_its_checkpoint(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml", overrides={"search.trials": 4}), URL)

    class Stop(threading.Event):
        def is_set(self) -> bool:
            return (table / "calls.txt").exists() and len(
                (table / "calls.txt").read_text().splitlines()
            ) >= 3

    assert (
        taking_part.work(opened, taking_part.Options(say=lambda line: None, stop=Stop()))
        == "stopped"
    )
    (checkpoint,) = (
        row
        for rows in opened.store.all_checkpoints().values()
        for row in rows
        if row.run.startswith("search:")
    )
    assert keeping.clean(opened).checkpoints == 0
    assert checkpoint.artifact in files(opened)


def test_a_backup_goes_on_elsewhere_with_its_artifacts(
    table: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    opened = searched(trials=2)
    own = opened.folder / run_folder(opened.store, opened.store.queue.rows()[0].run)
    own.mkdir()
    (own / "own.pt").touch()
    written = keeping.back_up(opened.database, "copy.db")
    assert written.artifacts == table / "copy.artifacts"
    assert (
        written.files
        == sum(path.is_file() for path in written.artifacts.rglob("*"))
        > len(files(opened))
    )
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in (written.database, written.artifacts):
        shutil.move(path, elsewhere)
    moved = opening.open_study("table", f"sqlite:///{elsewhere}/copy.db")
    assert moved.folder == elsewhere / "copy.artifacts"
    assert files(moved) == files(opened)
    moved.store.set(trials=3)
    assert taking_part.work(moved, taking_part.Options(say=lambda line: None)) == "complete"
    assert len(opened.store.candidates()) == 2
    with pytest.raises(StudyError, match="in use"):
        keeping.back_up(opened.database, elsewhere / "copy.db")
    with pytest.raises(OperationError, match=r"nas_attn\.artifacts'.* another"):
        keeping.back_up(opened.database, "nas_attn.sqlite")


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A server that speaks S3's language, on this machine, with one bucket."""
    server_module = pytest.importorskip("moto.server", reason="moto is not installed (extra `dev`)")
    import boto3

    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    for name, value in {
        "AWS_ENDPOINT_URL": f"http://{host}:{port}",
        "AWS_ACCESS_KEY_ID": "test",
        "AWS_SECRET_ACCESS_KEY": "test",
        "AWS_DEFAULT_REGION": "us-east-1",
    }.items():
        monkeypatch.setenv(name, value)
    boto3.client("s3").create_bucket(Bucket="studies")
    yield "s3://studies/mine"
    server.stop()


@pytest.mark.slow
@pytest.mark.filterwarnings(
    "ignore::DeprecationWarning", "ignore::ResourceWarning"
)  # of boto3 and moto
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_study_keeps_its_artifacts_in_a_bucket(table: Path, bucket: str) -> None:
    with pytest.raises(StudyError, match=r"'s3://absent/'"):
        searched(artifacts="s3://absent")
    with pytest.raises(StudyError, match="s3://BUCKET/PREFIX"):
        searched(artifacts="s3://")
    opened = searched("front", trials=5, artifacts=bucket)
    assert kept(opened)
    assert len(files(opened)) == len(kept(opened))
    assert not [path for path in opened.folder.iterdir() if path.is_file()]
    again = opening.open_study("table", URL)
    name = next(iter(kept(again)))
    (row,) = again.store.checkpoints(weights_run(name))
    assert len(again.artifacts.read(row.artifact)) == row.size
    assert keeping.back_up(again.database, "copy.db").elsewhere == (bucket,)
    there = len(files(again))
    assert keeping.clean(again, "none").weights == there > 0
    assert files(again) == set()


DIES_CLEARING = """
import os
from nas_attn.storage.artifacts import RunFiles
from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import open_study

RunFiles.clear = lambda self: os._exit(9)
taking_part.work(open_study("table", "sqlite:///nas_attn.db"), taking_part.Options(say=lambda line: None))
"""


@pytest.mark.slow
def test_checkpoints_and_leases_of_runs_that_have_ended_are_swept_by_whoever_comes(
    table: Path,
) -> None:
    recipe = load_recipe("table.toml", overrides={"search.trials": 2, "search.confirm_seeds": 0})
    opened = beginning.begin(recipe, URL)
    assert subprocess.run([sys.executable, "-c", DIES_CLEARING], check=False).returncode == 9
    left = list(opened.store.all_checkpoints())
    assert [name.partition(":")[0] for name in left].count("search") == 1
    with sqlite3.connect("nas_attn.db") as database:  # as a worker on another machine leaves it
        database.execute(
            "UPDATE nas_lease SET owner = 'elsewhere', released = 0 WHERE resource LIKE 'run/%'"
        )
        database.execute("UPDATE nas_worker SET owner = 'elsewhere', left_at = 1")
    database.close()
    na.search(recipe, say=lambda line: None)
    opened = opening.open_study("table", URL)
    assert {name.partition(":")[0] for name in opened.store.all_checkpoints()} == {"weights"}
    assert opened.store.held() == opened.store.left() == []
    kept = {row.artifact for rows in opened.store.all_checkpoints().values() for row in rows}
    assert {path.name for path in opened.folder.iterdir() if path.is_file()} == kept


DIES = """
import os
from nas_attn.training.workbench import Workbench
from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import open_study

Workbench.keep_weights = lambda *arguments: os._exit(9)
taking_part.work(open_study("table", "sqlite:///nas_attn.db"), taking_part.Options(say=lambda line: None))
"""


def opened(folder: Path) -> opening.OpenStudy:
    changes = {"search.trials": 1, "search.confirm_seeds": 0}
    return beginning.begin(load_recipe("table.toml", overrides=changes), "sqlite:///nas_attn.db")


def test_an_evaluators_network_is_not_mistaken_for_a_fresh_one(table: Path, nas: Nas) -> None:
    """Killed after its last rung, what it trained is gone: the network at hand afterwards has
    random weights.
    """
    (table / "table_evaluator.py").write_text(
        "import torch\n\n"
        "def evaluate(model, run):\n"
        "    torch.nn.init.constant_(next(model.parameters()), 7.0)\n"
        "    return {'score': 1.0, 'effort': 1.0}\n"
    )
    study = opened(table)
    assert subprocess.run([sys.executable, "-c", DIES], check=False).returncode == 9
    with pytest.warns(NasAttnWarning, match="trained weights are lost: the process .* was stopped"):
        taking_part.work(study, taking_part.Options(say=lambda line: None))
    plan, now = plan_recipe(study.recipe), reading.snapshot(study.store)
    view = choosing.chosen(study, answer_of(now), Criteria(trial=0)).view
    with pytest.raises(CheckpointError, match=r"was stopped .*retrain table --placement 0"):
        kept_weights.trained_model(study, plan, view)
    quick = ("--placement", "0", "--threads", "1", "--workers", "1", "--epochs", "1")
    assert nas("retrain", *quick).status == 0
    assert nas("export", "--placement", "0", "--output", "bare.pt").status == 0
    state = torch.load("bare.pt", weights_only=True)["state_dict"]
    assert torch.all(next(iter(state.values())) == 7.0)


def test_what_was_not_scored_has_no_weights(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE_FAIL", "fail")
    study = beginning.begin(
        load_recipe("table.toml", overrides={"search.trials": 5}), "sqlite:///nas_attn.db"
    )
    taking_part.work(study, taking_part.Options(say=lambda line: None))
    now = reading.snapshot(study.store)
    failed = next(view for view in now.candidates if view.state == "failed")
    with pytest.raises(CheckpointError, match=r"uniform simam \(failed\)"):
        kept_weights.trained_model(study, plan_recipe(study.recipe), failed)
