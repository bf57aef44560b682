"""What is kept and what goes: weights by `keep_weights`, `clean`, backups with their artifacts, and a bucket for all of it."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_attn.errors import OperationError, StudyError
from nas_attn.evaluation.artifacts import mark, weights_run
from nas_attn.recipe_reading import load_recipe
from nas_attn.storage import Database
from nas_attn.study import searching
from nas_attn.study.keeping import back_up, clean
from nas_attn.study.opening import OpenStudy, create_study, open_study
from nas_attn.study.reading import snapshot

URL = "sqlite:///nas_attn.db"


def searched(keep: str = "all", trials: int = 6, artifacts: str | None = None) -> OpenStudy:
    changes = {"search.trials": trials, "storage.keep_weights": keep, "search.confirm_seeds": 0}
    opened = searching.begin(load_recipe("table.toml", overrides=changes), URL, artifacts=artifacts)
    assert searching.work(opened, searching.Options(say=lambda line: None)) == "complete"
    return opened


def kept(opened: OpenStudy) -> set[str]:
    return {row.key for row in opened.store.candidates() if opened.store.checkpoints(weights_run(row.key))}


def files(opened: OpenStudy) -> set[str]:
    return {found.name for found in opened.artifacts.stored()}


def test_the_weights_of_the_front_stay_where_only_they_are_wanted(table: Path) -> None:
    opened = searched("front")
    now = snapshot(opened.store)
    wanted = {view.key for view in now.front} | {view.key for view in now.candidates if view.baseline == "none"}
    wanted |= {now.recommendation.key} if now.recommendation else set()
    assert kept(opened) == wanted
    assert len(wanted) < now.counts["scored"]
    assert len(files(opened)) == len(wanted)
    (gone, *_) = (view.key for view in now.candidates if view.state == "scored" and view.key not in wanted)
    assert opened.store.weights_lost.get(gone) == "not kept, since storage.keep_weights is 'front'"


def test_no_weights_are_written_where_none_are_wanted(table: Path) -> None:
    opened = searched("none")
    assert (kept(opened), files(opened)) == (set(), set())


def test_clean_says_what_it_would_free_and_then_frees_it(table: Path) -> None:
    opened = searched("all")
    scored = len(kept(opened))
    old, young, others = (
        opened.folder / name for name in (f"{mark(opened.store)}-old", f"{mark(opened.store)}-new", "x-y")
    )
    for path in (old, young, others):
        path.write_bytes(b"1234")
    for path in (old, others):
        os.utime(path, (time.time() - 7200, time.time() - 7200))
    before = files(opened)
    would = clean(opened, "front", dry_run=True)
    assert files(opened) == before
    done = clean(opened, "front")
    assert done == would
    assert (done.weights + done.kept, done.strays) == (scored, 1)
    assert done.weights > 0
    assert not old.exists()
    assert young.exists(), "a row for it may be under way"
    assert others.exists(), "another study's"
    again = clean(opened, "front")
    assert (again.weights, again.strays, again.size) == (0, 0, 0)


def test_a_run_that_was_interrupted_keeps_its_checkpoint(table: Path) -> None:
    opened = searching.begin(load_recipe("table.toml", overrides={"search.trials": 4}), URL)

    def stop() -> bool:
        return (table / "calls.txt").exists() and len((table / "calls.txt").read_text().splitlines()) >= 3

    class Stop(searching.threading.Event):  # type: ignore[name-defined,misc]
        def is_set(self) -> bool:
            return stop()

    assert searching.work(opened, searching.Options(say=lambda line: None, stop=Stop())) == "stopped"
    (checkpoint,) = (
        row for rows in opened.store.all_checkpoints().values() for row in rows if row.run.startswith("search:")
    )
    freed = clean(opened)
    assert freed.checkpoints == 0
    assert checkpoint.artifact in files(opened)


def test_a_backup_goes_on_elsewhere_with_its_artifacts(table: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    opened = searched(trials=5)
    written = back_up(opened.database, "copy.db")
    assert written.artifacts == table / "copy.artifacts"
    assert written.files == sum(path.is_file() for path in written.artifacts.rglob("*")) >= len(files(opened))
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    for path in (written.database, written.artifacts):
        shutil.move(path, elsewhere)
    moved = open_study("table", f"sqlite:///{elsewhere}/copy.db")
    assert moved.folder == elsewhere / "copy.artifacts"
    assert files(moved) == files(opened)
    searching.set_trials(moved, 6)
    assert searching.work(moved, searching.Options(say=lambda line: None)) == "complete"
    assert len(opened.store.candidates()) == 5
    with pytest.raises(StudyError, match="in use"):
        back_up(opened.database, elsewhere / "copy.db")
    with pytest.raises(OperationError, match=r"nas_attn\.artifacts'.* another"):
        back_up(opened.database, "nas_attn.sqlite")


def test_a_study_of_a_version_with_fewer_keys_is_the_same(table: Path) -> None:
    import json

    recipe = load_recipe("table.toml")
    content = json.loads(recipe.to_json())
    del content["storage"]
    with Database(URL) as database:
        database.create_study("table", recipe=json.dumps(content), versions={})
    assert create_study(recipe, URL).recipe == recipe


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
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of boto3 and moto
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_study_keeps_its_artifacts_in_a_bucket(table: Path, bucket: str) -> None:
    with pytest.raises(StudyError, match=r"'s3://absent/' cannot be used \(.*create the bucket"):
        searched(artifacts="s3://absent")
    with pytest.raises(StudyError, match="write s3://BUCKET/PREFIX, or a folder"):
        searched(artifacts="s3://")
    opened = searched("front", trials=5, artifacts=bucket)
    assert kept(opened)
    assert len(files(opened)) == len(kept(opened))
    assert not [path for path in opened.folder.iterdir() if path.is_file()]
    again = open_study("table", URL)
    name = next(iter(kept(again)))
    (row,) = again.store.checkpoints(weights_run(name))
    with again.artifacts.open_reader(row.artifact) as reader:
        assert len(reader.read()) == row.size
    assert back_up(again.database, "copy.db").elsewhere == (bucket,)
    there = len(files(again))
    assert clean(again, "none").weights == there > 0
    assert files(again) == set()
