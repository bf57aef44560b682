"""Publishing for optuna-dashboard, which one worker does for all."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import pytest

from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.opening import OpenStudy, create_study
from nas_attn.study.publishing import Publisher


@pytest.fixture
def opened(table: Path) -> Iterator[OpenStudy]:
    study = create_study(load_recipe("table.toml"), "sqlite:///nas_attn.db")
    yield study
    study.book.close()
    study.database.close()


def claim(opened: OpenStudy, trial: int) -> None:
    lease = opened.store.acquire(f"trial/{trial}", owner="test", ttl_s=600)
    assert lease is not None
    assert opened.book.ask({}).number == trial
    opened.store.claim(f"key{trial}", placement="stage1=eca", trial=trial, baseline=None, lease=lease)


def published(opened: OpenStudy) -> str:
    return opened.store.settings.published or ""


def impatient(opened: OpenStudy) -> Publisher:
    """A worker's that has not published for long."""
    found = Publisher(opened)
    found._last = -math.inf
    return found


def test_what_one_worker_has_published_no_other_draws_up_again(opened: OpenStudy) -> None:
    assert Publisher(opened).changed() is not None
    assert Publisher(opened).changed() is None
    claim(opened, 0)
    assert Publisher(opened).changed() is not None


def test_workers_take_turns_until_it_is_due_again(opened: OpenStudy) -> None:
    impatient(opened).maybe()
    before = published(opened)
    claim(opened, 0)
    impatient(opened).maybe()
    assert published(opened) == before, "not due yet: another worker has just done it"
    opened.store.set(publish_at=(opened.database.now() - 1))
    impatient(opened).maybe()
    assert published(opened) != before


def test_a_clock_that_was_a_day_ahead_does_not_stop_publishing(opened: OpenStudy) -> None:
    opened.store.set(publish_at=(opened.database.now() + 86_400))
    impatient(opened).maybe()
    assert published(opened)


def test_the_weights_of_a_study_are_swept_once(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    changes = {"search.trials": 2, "search.confirm_seeds": 0, "storage.keep_weights": "front"}
    begun = searching.begin(load_recipe("table.toml", overrides=changes), "sqlite:///nas_attn.db")
    swept: list[int] = []
    real = searching.sweep_weights
    monkeypatch.setattr(searching, "sweep_weights", lambda *given: (swept.append(1), real(*given)))
    for _ in range(2):
        assert searching.work(begun, searching.Options(say=lambda line: None)) == "complete"
    assert swept == [1]
