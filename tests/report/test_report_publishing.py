"""Publishing for optuna-dashboard, which one worker does for all, and the report with images of the
study's own data.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
from made_study import IMAGES, recipe, usual

from nas_attn.answer import reading
from nas_attn.answer.answer import answer_of
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.reading import load_recipe
from nas_attn.report import publishing
from nas_attn.searching import keeping
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.space.notation import parse
from nas_attn.storage import opening
from nas_attn.storage.labels import Labels, keep_labels


@pytest.fixture
def opened(table: Path) -> Iterator[opening.OpenStudy]:
    study = opening.create_study(load_recipe("table.toml"), "sqlite:///nas_attn.db")
    yield study
    study.book.close()
    study.database.close()


def claim(opened: opening.OpenStudy, trial: int) -> None:
    lease = opened.store.acquire(f"trial/{trial}", owner="test")
    assert lease is not None
    assert opened.book.ask({}).number == trial
    opened.store.claim(
        f"key{trial}", placement=parse("stage1=eca"), trial=trial, baseline=None, lease=lease
    )


def test_what_one_worker_has_published_no_other_draws_up_again(opened: opening.OpenStudy) -> None:
    assert publishing.publish(opened) is not None
    assert publishing.publish(opened) is None
    claim(opened, 0)
    assert publishing.publish(opened) is not None


def test_the_weights_of_a_study_are_swept_once(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    changes = {"search.trials": 2, "search.confirm_seeds": 0, "storage.keep_weights": "front"}
    begun = beginning.begin(load_recipe("table.toml", overrides=changes), "sqlite:///nas_attn.db")
    swept: list[int] = []
    real = taking_part.sweep_weights
    monkeypatch.setattr(
        taking_part, "sweep_weights", lambda *given: (swept.append(1), real(*given))
    )
    for _ in range(2):
        assert taking_part.work(begun, taking_part.Options(say=lambda line: None)) == "complete"
    assert swept == [1]


def test_a_search_adds_one_optuna_study_and_leaves_the_users_alone(table: Path) -> None:
    """A study `table~answer` is the user's, or of an earlier nas_attn, which put its answer
    there.
    """
    url = "sqlite:///nas_attn.db"
    own = optuna.create_study(study_name="table~answer", storage=url)
    own.optimize(lambda trial: trial.suggest_float("mine", 0, 1), n_trials=2)
    changes = {"search.trials": 3, "search.confirm_seeds": 0}
    begun = beginning.begin(load_recipe("table.toml", overrides=changes), url)
    assert taking_part.work(begun, taking_part.Options(say=lambda line: None)) == "complete"
    publishing.publish(begun)
    assert sorted(optuna.get_all_study_names(url)) == ["table", "table~answer"]
    trials = optuna.load_study(study_name="table~answer", storage=url).trials
    assert [list(trial.params) for trial in trials] == [["mine"], ["mine"]]


def test_processes_that_end_together_leave_one_answer(table: Path) -> None:
    url = "sqlite:///nas_attn.db"
    changes = {"search.trials": 3, "search.confirm_seeds": 0}
    begun = beginning.begin(load_recipe("table.toml", overrides=changes), url)
    assert taking_part.work(begun, taking_part.Options(say=lambda line: None)) == "complete"
    barrier = threading.Barrier(4)

    def end() -> None:
        opened = opening.open_study("table", url)
        barrier.wait()
        publishing.publish(opened)
        opened.book.close()
        opened.database.close()

    with ThreadPoolExecutor(4) as pool:
        for future in [pool.submit(end) for _ in range(4)]:
            future.result()
    only = optuna.load_study(study_name=None, storage=url)
    assert only.study_name == "table"
    (link,) = optuna.artifacts.get_all_artifact_meta(only)
    kept = optuna.artifacts.FileSystemArtifactStore("nas_attn.artifacts")
    with kept.open_reader(link.artifact_id) as reader:
        assert len(reader.read().splitlines()) == 1 + 3, "a head, and a line for each candidate"
    keeping.clean(begun)
    assert (table / "nas_attn.artifacts" / link.artifact_id).is_file(), "no stray"


def test_the_report_has_the_shares_of_each_class_and_no_images_of_them(tmp_path: Path) -> None:
    made = usual(tmp_path, recipe())
    labels = Labels(("ant", "bee", "<cat>", "dog"), np.arange(IMAGES, dtype=np.int32) % 4)
    keep_labels(made.store, SEARCH, labels)
    now = reading.snapshot(made.store)
    opened = opening.OpenStudy(made.database.url, made.database, made.store, made.recipe, tmp_path)
    page = publishing.write_study_report(opened, answer_of(now)).read_text("utf-8")
    assert "Accuracy of each class" in page
    assert "&lt;cat&gt;" in page
    assert "<img" not in page
