"""A database that an earlier nas_attn (commit 02b9cab, schema 0001) has written: it opens, keeps
what is in it, is reported, and goes on.

`assets/nas_attn-02b9cab.db` holds two studies of digits: `whole` is complete, with latencies; `half`
was stopped in its third of five trials, whose checkpoint lies beside it.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import optuna
import pytest
from command_line import (
    Nas,
    nas,  # noqa: F401
)
from materials import photographs
from told_values import told

from nas_attn.errors import StorageError
from nas_attn.recipe.reading import frozen_recipe
from nas_attn.recipe.recipe import TrainingSection
from nas_attn.report import publishing
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage import tables
from nas_attn.storage.database import Database
from nas_attn.storage.opening import open_study
from nas_attn.training.plan import keep_protocol, protocol_text

ASSETS = Path(__file__).with_name("assets")
CHECKPOINT = "1b38d4616a28-cd1f4fa7a9714789a43ac784fb1c1bb1"
URL = "sqlite:///nas_attn.db"


@pytest.fixture
def earlier(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the earlier search, made the working folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    shutil.copy(ASSETS / "nas_attn-02b9cab.db", "nas_attn.db")
    Path("nas_attn.artifacts").mkdir()
    shutil.copy(ASSETS / CHECKPOINT, "nas_attn.artifacts")
    return tmp_path


def contents(path: Path) -> dict[str, list[dict[str, Any]]]:
    """Table -> its rows, of our tables and Optuna's."""
    with closing(sqlite3.connect(path)) as connection:
        connection.row_factory = sqlite3.Row
        names = [
            row["name"]
            for row in connection.execute(
                "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%'"
            )
        ]
        return {
            name: [dict(row) for row in connection.execute(f"SELECT * FROM {name} ORDER BY rowid")]
            for name in names
        }


def test_opening_changes_no_value_that_was_there(earlier: Path) -> None:
    path = earlier / "nas_attn.db"
    before = contents(path)
    Database(URL).close()
    after = contents(path)
    assert after.pop(tables.VERSION_TABLE) == [{"version_num": tables.SCHEMA_VERSIONS[-1]}]
    assert before.pop(tables.VERSION_TABLE) == [{"version_num": "0001"}]
    assert any(before.values())
    # launches are no longer kept; a schema's revision drops their table
    del before["nas_launch"]
    documents = {(row["kind"], row["name"], row["content"]) for row in after["nas_document"]}
    for kind in ("protocol", "backbone", "weights_lost", "curve", "labels", "validation"):
        former = {(kind, row["name"], row["content"]) for row in before.pop(f"nas_{kind}")}
        assert former <= documents
    # a worker's row has the signs of life of its leases, and no search has a prior
    dropped = {"expires_at", "ttl_s", "publish_at", "prior", "by_prior"}
    for table, rows in before.items():
        kept = [
            {name: row.get(name, old[name]) for name in old}
            for old, row in zip(rows, after[table], strict=True)
        ]
        assert kept == rows, table
        assert not rows or {*rows[0]} - {*after[table][0]} <= dropped


def test_a_dry_run_for_a_folder_of_images_upgrades_nothing(earlier: Path, nas: Nas) -> None:  # noqa: F811
    photographs(earlier / "photos")
    path = earlier / "nas_attn.db"
    before = path.read_bytes()
    planned = nas("search", "photos", "--backbone", "resnet8", "--time", "60m", "--dry-run")
    assert planned.status == 0, planned.error
    assert path.read_bytes() == before


def test_an_earlier_study_is_reported(earlier: Path, nas: Nas) -> None:  # noqa: F811
    assert {study["name"] for study in nas("status", "--json").json} == {"whole", "half"}
    half = nas("status", "half", "--json").json
    assert (half["finished"], half["trials"], half["workers"]) == (2, 5, [])
    now = nas("show", "whole", "--json").json
    scored = [candidate for candidate in now["candidates"] if candidate["state"] == "scored"]
    assert len(scored) == 3
    latencies = sorted(candidate["latency"]["ratio"] for candidate in scored)
    assert latencies[0] == 1
    assert all(2 < ratio < 4 for ratio in latencies[1:])
    assert nas("report", "whole", "-o", "out.html").status == 0
    assert "stage1=simam" in (earlier / "out.html").read_text("utf-8")


def test_an_earlier_study_goes_on_where_it_was(earlier: Path) -> None:
    before = contents(earlier / "nas_attn.db")
    opened = beginning.take_up(open_study("half", URL), trials=4)
    options = taking_part.Options(threads=1, say=lambda line: None)
    assert taking_part.work(opened, options) == "complete"
    publishing.publish(opened)
    assert len(told(opened.book)) == 4
    (trained,) = [score for score in opened.store.scores() if score.key.startswith("0fff556d")]
    assert trained.score.epochs == 30
    opened.book.close()
    opened.database.close()
    after = contents(earlier / "nas_attn.db")
    kept = {(row["study_id"], row["key"]): row for row in after["nas_score"]}
    for row in before["nas_score"]:
        assert {name: kept[row["study_id"], row["key"]][name] for name in row} == row
    names = ["half", "half~answer", "whole", "whole~answer"]
    assert sorted(optuna.get_all_study_names(URL)) == names, "an earlier answer is left alone"


def test_an_earlier_training_of_its_own_is_found_again(earlier: Path) -> None:
    opened = open_study("half", URL)
    training = opened.recipe.target_training.model_copy(update={"rungs": [7]})
    content = json.loads(protocol_text(training, opened.recipe.data))
    del content["training"]["head_learning_rate"]
    content["training"]["layer_decay"] = 1.0
    content["data"]["bits"] = "auto"
    opened.store.protocols.put("own-earlier", json.dumps(content, sort_keys=True))
    assert keep_protocol(opened.store, training, opened.recipe.data) == "own-earlier"
    opened.database.close()


def test_a_preset_gives_an_earlier_study_no_key_that_it_did_not_have() -> None:
    earlier_keys = {"preset": "fine-tune", "layer_decay": 1.0}
    assert TrainingSection.model_validate(earlier_keys).head_learning_rate == 1


def test_a_study_with_layer_decay_says_who_can_go_on(earlier: Path) -> None:
    opened = open_study("half", URL)
    table = json.loads(opened.recipe.to_json())
    table["training"]["layer_decay"] = 0.75
    with pytest.raises(
        StorageError, match=r"layer_decay = 0\.75 is gone.* backbone_learning_rate.* the version"
    ):
        frozen_recipe(json.dumps(table), where="study 'half'")
    opened.database.close()
