from __future__ import annotations

import json
import time

import pytest

from nas_attn.errors import LeaseLost, StudyError
from nas_attn.storage import Database, Lease, StudyStore


def test_a_study_comes_back_as_it_was_created(database: Database) -> None:
    recipe = json.dumps({"name": "digits", "search": {"trials": 30}})
    database.create_study("digits", recipe=recipe, versions={"torch": "2.11"}, fingerprint="abc")
    store = database.study("digits")
    assert (store.name, store.recipe, store.versions, store.fingerprint) == ("digits", recipe, {"torch": "2.11"}, "abc")
    assert abs(store.created_at - time.time()) < 600


def test_the_same_recipe_opens_the_study_there_is(store: StudyStore, database: Database) -> None:
    store.set(published="first")
    again = database.create_study("digits", recipe='{"search":{"trials":30}}', versions={"torch": "9"})
    assert again.settings.published == "first"
    assert again.versions == {"torch": "2.11"}


def test_another_recipe_is_refused_with_the_difference(database: Database) -> None:
    old = {"search": {"trials": 30, "seed": 0}, "limits": {}, "objectives": ["accuracy"]}
    new = {"search": {"trials": 60, "seed": 0}, "limits": {"max_macs": 5}, "objectives": ["accuracy", "latency"]}
    new["space"] = {"choices": [f"choice {i}" for i in range(99)]}
    database.create_study("digits", recipe=json.dumps(old), versions={})
    with pytest.raises(StudyError) as error:
        database.create_study("digits", recipe=json.dumps(new), versions={})
    sentence = str(error.value)
    assert "search.trials: 30 -> 60" in sentence
    assert "limits.max_macs: not set -> 5" in sentence
    assert 'objectives: ["accuracy"] -> ["accuracy", "latency"]' in sentence
    assert "seed" not in sentence
    assert len(sentence) < 500
    assert "nas-attn resume digits" in sentence
    assert json.loads(database.study("digits").recipe) == old


def test_an_unknown_study_names_the_nearest(store: StudyStore, database: Database) -> None:
    with pytest.raises(StudyError, match=r"there is no study 'digit' .*did you mean 'digits'"):
        database.study("digit")


def test_studies_are_listed_with_their_candidates_by_state(store: StudyStore, lease: Lease, database: Database) -> None:
    for i, state in enumerate(("running", "scored", "scored")):
        store.claim(f"key{i}", placement="", trial=i, baseline=None, lease=lease)
        if state == "scored":
            store.finish(f"key{i}", state="scored", reason="", lease=lease)
    database.create_study("empty", recipe="{}", versions={})
    first, second = database.studies()
    assert (first.name, first.candidates) == ("digits", {"running": 1, "scored": 2})
    assert (second.name, second.candidates) == ("empty", {})


def test_a_deleted_study_is_gone_and_its_worker_cannot_write_into_its_successor(
    store: StudyStore, lease: Lease, database: Database
) -> None:
    other = database.create_study("other", recipe="{}", versions={})
    other.set(published="kept")
    store.claim("key", placement="", trial=1, baseline=None, lease=lease)
    store.set(published="old")
    database.delete_study("digits")
    successor = database.create_study("digits", recipe=store.recipe, versions={})
    successor.acquire("trial/1", owner="me", ttl_s=1000)
    with pytest.raises(LeaseLost):
        store.set_cost("key", {"params": 1, "macs": 2}, lease)
    with pytest.raises(LeaseLost):
        store.claim("key", placement="", trial=1, baseline=None, lease=lease)
    assert successor.candidates() == []
    assert successor.settings.published is None
    assert other.settings.published == "kept"


def test_the_first_latency_device_is_pinned(store: StudyStore, database: Database) -> None:
    assert store.fingerprint is None
    assert store.set_fingerprint_once("first") == "first"
    assert database.study("digits").set_fingerprint_once("second") == "first"
    assert store.fingerprint == "first"


def test_settings_documents_and_test_readings_belong_to_their_study(store: StudyStore, database: Database) -> None:
    other = database.create_study("other", recipe="{}", versions={})
    store.set(published="a")
    store.set(published="b")
    store.ways.put("own", "long")
    store.ways.put("own", "longer")
    store.labels.put("own", "not a way")
    store.log_test_reading("validate of stage1=se")
    store.log_test_reading("retrain")
    assert (store.settings.published, other.settings.published) == ("b", None)
    assert (store.ways.all(), store.ways.get("else"), other.ways.get("own")) == ({"own": "longer"}, None, None)
    assert [reading.reason for reading in store.test_readings()] == ["validate of stage1=se", "retrain"]
    assert other.test_readings() == []


def test_the_clock_is_the_databases(database: Database) -> None:
    first, second = database.now(), database.now()
    assert first <= second
    assert abs(first - time.time()) < 600
