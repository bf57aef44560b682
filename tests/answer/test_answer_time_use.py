"""Where the time of a study's workers went."""

from __future__ import annotations

from pathlib import Path

import pytest
from made_study import MadeStudy

from nas_attn.answer.reading import snapshot
from nas_attn.answer.workers import TimeUse, time_as_json, time_sentence, time_use, total_time
from nas_attn.recipe.purposes import SEARCH, VALIDATE
from nas_attn.storage.records import Score, StoredScore, WorkerSpan


def score(
    owner: str | None, seconds: float, *, purpose: str = SEARCH, waited: float = 0.0
) -> StoredScore:
    metrics = {"accuracy": 0.5, "loading_share": waited}
    return StoredScore("key", purpose, Score(0, 0, 1, metrics, wall_s=seconds), owner=owner)


def test_each_workers_time_is_parted_and_the_rest_is_waiting() -> None:
    workers = [WorkerSpan("a/1", "cpu", 20.0), WorkerSpan("b/2", "cuda:0", 100.0)]
    scores = [
        score("b/2", 60.0, waited=0.25),
        score("b/2", 10.0, purpose=VALIDATE),
        score("a/1", 5.0),
        score(None, 1000.0),
        score("gone/3", 1000.0),
    ]
    longest, other = time_use(workers, scores, {"b/2": 8.0, "a/1": 40.0})
    assert longest.owner == "b/2"
    assert longest.by_use == {
        TimeUse.TRAINING: 45.0,
        TimeUse.IMAGES: 15.0,
        TimeUse.MEASURING: 8.0,
        TimeUse.TESTING: 10.0,
        TimeUse.WAITING: 22.0,
    }
    assert other.by_use[TimeUse.WAITING] == 0.0, "never less than nothing"
    total = total_time([longest, other])
    assert total[TimeUse.TRAINING] == 50.0
    assert time_sentence([longest, other]).startswith("Training ")
    plain = time_as_json([longest, other])
    assert plain["largest"] == "training"
    assert [one["here_s"] for one in plain["workers"]] == [100.0, 20.0]


def test_a_study_knows_what_its_workers_did(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate("none", baseline="none")
    study.sessions(1)
    assert snapshot(study.store).time_use == (), "no worker is listed"
    owner = study.lease.owner
    study.store.workers.here(owner, device="cpu", doing="something")
    (worker,) = snapshot(study.store).time_use
    assert (worker.owner, worker.device) == (owner, "cpu")
    trained = sum(
        point.wall_s for view in snapshot(study.store).candidates for point in view.scores
    )
    assert worker.by_use[TimeUse.TRAINING] == pytest.approx(trained)
