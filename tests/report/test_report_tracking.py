"""Runs in TensorBoard, MLflow and Weights & Biases: each is there once, whoever wrote it."""

import time
from pathlib import Path
from typing import Any

import pytest

from nas_attn.errors import RecipeError
from nas_attn.recipe.reading import load_recipe
from nas_attn.recipe.recipe import Recipe
from nas_attn.report import tracking
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage import heartbeat, work
from nas_attn.storage.opening import OpenStudy, open_study

TRACKERS = ("tensorboard", "mlflow", "wandb")
QUIET: dict[str, Any] = {"say": lambda line: None}


def there(tracker: str, folder: Path) -> list[str]:
    """The runs with their score, and the answer; one that is there twice is twice in the list."""
    if tracker == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = {
            path.name: EventAccumulator(str(path)).Reload()
            for path in folder.glob("*/tensorboard/*/*")
        }
        return sorted(
            name for name, of in read.items() if "score" in of.Tags()["scalars"] or name == "answer"
        )
    if tracker == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient()
        runs = [
            run
            for one in client.search_experiments()
            for run in client.search_runs([one.experiment_id])
        ]
        return sorted(
            run.info.run_name
            for run in runs
            if "score" in run.data.metrics or run.info.run_name == "answer"
        )
    return sorted(path.name.split("-", 4)[4] for path in folder.glob("*/wandb/offline-run-*"))


def tracked(tracker: str) -> Recipe:
    return load_recipe(
        "table.toml", overrides={"search.trials": 3, "search.confirm_seeds": 0, "log.to": [tracker]}
    )


@pytest.mark.parametrize("tracker", TRACKERS)
def test_a_tracker_that_is_not_installed_is_named(
    table: Path, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=rf"pip install '.+\[{tracker}\]'"):
        tracking.check(tracked(tracker))


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize(
    "tracker", [pytest.param(tracker, marks=pytest.mark.extras(tracker)) for tracker in TRACKERS]
)
def test_each_run_and_the_answer_are_there_once(
    table: Path, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = tracked(tracker)
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{table / 'mlflow.db'}")
    opened = beginning.begin(recipe, "sqlite:///nas_attn.db")
    assert taking_part.work(opened, taking_part.Options(**QUIET)) == "complete"
    once = there(tracker, table)
    assert once == sorted([*(run.id for run in tracking.ended_runs(opened.store)), "answer"])
    assert taking_part.work(opened, taking_part.Options(**QUIET)) == "complete"
    assert there(tracker, table) == once
    assert len(once) == 4


def test_who_writes_for_long_keeps_its_lease(table: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else another process would write the same runs at the same time."""
    silent_s = 0.5
    monkeypatch.setattr(work, "SILENT_S", silent_s)
    monkeypatch.setattr(heartbeat, "BEAT_S", silent_s / 4)
    monkeypatch.setattr(heartbeat, "LISTEN_S", silent_s / 10)
    monkeypatch.setattr(tracking, "find_spec", lambda name: True)
    taken: list[object] = []
    seen: list[tuple[str, str]] = []

    def slowly(opened: OpenStudy, run: tracking.Tracked) -> None:
        if seen:
            return
        other = open_study(opened.store.name, opened.url).store
        end = time.monotonic() + 3 * silent_s
        while time.monotonic() < end:
            taken.append(other.acquire(tracking.LEASE, owner="another"))
            time.sleep(silent_s / 10)
        seen.extend((row.device, row.doing) for row in other.workers.rows())

    monkeypatch.setattr(tracking, "TRACKERS", {"tensorboard": slowly})
    opened = beginning.begin(tracked("tensorboard"), "sqlite:///nas_attn.db")
    assert taking_part.work(opened, taking_part.Options(**QUIET)) == "complete"
    assert seen == [("", "writing to tensorboard")]
    assert taken
    assert not any(taken), "the lease was taken from a process that works"
    assert opened.store.workers.at_once() == 1
