"""Runs in TensorBoard, MLflow and Weights & Biases: each is there once, whoever wrote it."""

from pathlib import Path

import pytest

from nas_attn.errors import RecipeError
from nas_attn.recipe import Recipe
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching, tracking


def logged_to(tracker: str) -> Recipe:
    return load_recipe("table.toml", overrides={"search.trials": 4, "search.confirm_seeds": 0, "log.to": [tracker]})


def there(tracker: str, folder: Path) -> dict[str, bool]:
    """Each run, and whether its score at the last rung is in it; a run that is there twice is an error."""
    if tracker == "tensorboard":
        from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

        read = {path.name: EventAccumulator(str(path)).Reload() for path in folder.glob("*/tensorboard/*/*")}
        return {name: "score" in of.Tags()["scalars"] for name, of in read.items()}
    if tracker == "mlflow":
        from mlflow import MlflowClient

        client = MlflowClient()
        runs = [run for one in client.search_experiments() for run in client.search_runs([one.experiment_id])]
        assert len({run.info.run_name for run in runs}) == len(runs)
        return {run.info.run_name: "score" in run.data.metrics for run in runs}
    names = [path.name.split("-", 3)[3] for path in folder.glob("*/wandb/offline-run-*")]
    return {name.split("-", 1)[1]: "answer" not in name for name in names}


@pytest.mark.filterwarnings("ignore")  # theirs
@pytest.mark.parametrize(
    "tracker",
    ["tensorboard", pytest.param("mlflow", marks=pytest.mark.slow), pytest.param("wandb", marks=pytest.mark.slow)],
)
def test_each_run_and_the_answer_are_there_once(table: Path, tracker: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip(tracker, reason=f"{tracker} is not installed")
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{table / 'mlflow.db'}")
    opened = searching.begin(logged_to(tracker), "sqlite:///nas_attn.db")
    options = searching.Options(say=lambda line: None)
    options.stop.set()
    assert searching.work(opened, options) == "stopped"
    assert searching.work(opened, searching.Options(say=lambda line: None)) == "complete"
    ended = {run.id for run in tracking.ended_runs(opened.store)}
    assert len(ended) == 4
    once = there(tracker, table)
    assert once == {**dict.fromkeys(ended, True), "answer": False}
    tracking.track(opened)
    assert there(tracker, table) == once


def test_one_that_is_not_installed_is_told_before_anything_is_trained(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracking, "find_spec", lambda name: None)
    with pytest.raises(RecipeError, match=r"log.to names 'wandb', .*pip install 'nas-attn\[wandb\]'"):
        searching.check_here(logged_to("wandb"), device="cpu")
