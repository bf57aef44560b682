from pathlib import Path

import optuna
import pytest
from made_study import MadeStudy, usual

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report.dashboard import write_answer_study
from nas_attn.storage import Database, optuna_engine_arguments
from nas_attn.study.reading import snapshot

optuna.logging.set_verbosity(optuna.logging.WARNING)


def storage(folder: Path) -> optuna.storages.RDBStorage:
    with Database(f"sqlite:///{folder / 'optuna.db'}") as database:
        url, arguments = optuna_engine_arguments(database.url)
    return optuna.storages.RDBStorage(url, engine_kwargs=arguments)


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(usual(tmp_path_factory.mktemp("usual"), searched=24).store)


def test_optunas_own_front_is_that_of_the_answer_with_names(now: Snapshot, tmp_path: Path) -> None:
    kept = storage(tmp_path)
    write_answer_study(kept, now)
    study = optuna.load_study(study_name="made~answer", storage=kept)
    assert {trial.params["placement"] for trial in study.best_trials} == {view.placement for view in now.front}
    assert study._storage.get_study_system_attrs(study._study_id)["study:metric_names"] == [
        "gain in accuracy, points",
        "latency",
    ]
    best, bare = now.recommendation, now.candidates[0]
    assert best is not None
    by_placement = {trial.params["placement"]: trial for trial in study.trials}
    assert by_placement[best.placement].params["candidate"].startswith("recommended")
    assert by_placement[bare.placement].params["candidate"].startswith("bare backbone")
    assert by_placement[bare.placement].values == [0.0, 1.0]
    gain = next(view for view in now.candidates if view.key == best.key).gains["accuracy"]
    assert by_placement[best.placement].values[0] == pytest.approx(100 * gain.mean, abs=1e-5)


def test_it_is_written_anew_where_something_changed_and_only_there(now: Snapshot, tmp_path: Path) -> None:
    kept = storage(tmp_path)
    write_answer_study(kept, snapshot(MadeStudy(tmp_path, name="young").store))
    assert optuna.get_all_study_names(kept) == []
    few = snapshot(usual(tmp_path, searched=2).store)
    written = []
    for taken in (few, few, now):
        write_answer_study(kept, taken)
        written.append([t.datetime_start for t in optuna.load_study(study_name="made~answer", storage=kept).trials])
    assert written[0] == written[1] != written[2]
    assert len(written[0]) < len(written[2])
    assert optuna.get_all_study_names(kept) == ["made~answer"]
