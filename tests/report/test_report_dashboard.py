"""What optuna-dashboard shows: notes, plots, and the study of the answer."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import optuna
import pytest
from made_study import MadeStudy, everywhere, recommended, usual
from sqlalchemy import make_url

from nas_attn.answer.answer import answer_of
from nas_attn.answer.answer_text import rows
from nas_attn.answer.headline import headline
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot
from nas_attn.report import dashboard
from nas_attn.report.dashboard import BELOW, study_note
from nas_attn.storage.connection import engine_arguments
from nas_attn.storage.database import Database

optuna.logging.set_verbosity(optuna.logging.WARNING)
SE = "se(reduction=8)"


def publish(study: optuna.Study, made: Snapshot) -> None:
    dashboard.publish(study, answer_of(made))


def storage(folder: Path) -> optuna.storages.RDBStorage:
    with Database(f"sqlite:///{folder / 'optuna.db'}") as database:
        arguments = engine_arguments(make_url(database.url))
    return optuna.storages.RDBStorage(database.url, engine_kwargs=arguments)


def optuna_study(folder: Path, trials: int) -> optuna.Study:
    study = optuna.create_study(storage=storage(folder), directions=["maximize", "minimize"])
    for _ in range(trials):
        study.tell(study.ask(), [0.5, 1.0])
    return study


def written(study: optuna.Study) -> dict[str, object]:
    return dict(study._storage.get_study_system_attrs(study._study_id))


def test_the_dashboards_own_functions_read_notes_and_plots_back(
    made: Snapshot, tmp_path: Path
) -> None:
    notes = pytest.importorskip(
        "optuna_dashboard._note", reason="optuna-dashboard is not installed (extra `dashboard`)"
    )
    plots = pytest.importorskip("optuna_dashboard._custom_plot_data")
    study = optuna_study(tmp_path, len(made.candidates))
    publish(study, made)
    attributes = written(study)
    assert notes.get_note(study) == f"{study_note(answer_of(made))}\n\n{BELOW}"
    ratios = [
        line
        for line in study_note(answer_of(made)).splitlines()
        if line.startswith("| ") and "×" in line
    ]
    table = [line for line in ratios if "Cost" not in line]
    assert table
    assert not any(" ×" in line or "± " in line for line in table), "no number leaves its unit"
    figures = plots.get_plotly_graph_objects(attributes)
    assert {name.removeprefix("nas_attn-") for name in figures} == {
        "front",
        "curves",
        "effects-accuracy",
        "effects-latency",
    }
    titles = {name: json.loads(text)["layout"]["title"]["text"] for name, text in figures.items()}
    assert len(set(titles.values())) == len(titles), "each has a title of its own"
    assert all(json.loads(text)["data"] for text in figures.values())
    assert all(plots.is_valid_graph_object_id(name) for name in figures)


def test_publishing_again_changes_nothing(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path)
    made.candidate("none", baseline="none")
    made.candidate(f"stage1={SE}")
    made.sessions(2)
    study = optuna_study(tmp_path, 2)
    publish(study, snapshot(made.store))
    first = written(study)
    publish(study, snapshot(made.store))
    assert written(study) == first


def test_a_shorter_plot_or_note_leaves_nothing_of_the_longer_one(
    made: Snapshot, tmp_path: Path
) -> None:
    plots = pytest.importorskip(
        "optuna_dashboard._custom_plot_data", reason="optuna-dashboard is not installed"
    )
    study = optuna_study(tmp_path, len(made.candidates))
    publish(study, made)
    few = MadeStudy(tmp_path)
    few.candidate("none", baseline="none")
    few.sessions(1)
    publish(study, snapshot(few.store))
    kept = plots.get_plotly_graph_objects(written(study)).values()
    assert kept
    assert all("data" in json.loads(text) for text in kept)


def test_what_a_person_added_to_a_note_stays(tmp_path: Path) -> None:
    dashboard = pytest.importorskip(
        "optuna_dashboard", reason="optuna-dashboard is not installed (extra `dashboard`)"
    )
    made = MadeStudy(tmp_path)
    study = optuna_study(tmp_path, 2)
    dashboard.save_note(study, "my own words")
    made.candidate("none", baseline="none")
    publish(study, snapshot(made.store))
    assert dashboard.get_note(study).endswith(f"{BELOW}\n\nmy own words")
    dashboard.save_note(study, f"{dashboard.get_note(study)} and more")
    made.candidate(f"stage1={SE}")
    publish(study, snapshot(made.store))
    body = dashboard.get_note(study)
    assert body.endswith("my own words and more")
    assert body.count(BELOW) == 1


def test_an_interrupted_or_interleaved_writing_is_healed(made: Snapshot, tmp_path: Path) -> None:
    study = optuna_study(tmp_path, len(made.candidates))
    publish(study, made)
    whole = written(study)
    study._storage.set_study_system_attr(
        study._study_id, "dashboard:plot_data:nas_attn-front:0", "{ another worker's"
    )
    publish(study, made)
    assert written(study) == whole


def test_the_study_note_has_the_card_the_test_and_what_best_means(tmp_path: Path) -> None:
    study = usual(tmp_path)
    best, bare = f"key-{1:03}", f"key-{0:03}"
    study.validation({best: everywhere(SE), bare: "none"}, gain={best: 0.05})
    now = snapshot(study.store)
    text = study_note(answer_of(now))
    said = rows(answer_of(now))
    assert text.splitlines()[2] == f"**{headline(answer_of(now))}**"
    places = [text.index(f"| **{row.label}** | {row.text}") for row in said]
    assert places == sorted(places)
    assert text.index(said[-1].command) < text.index("better, +") < text.index("| trial |")
    assert "*Best trials* in this dashboard" in text


def test_the_answers_table_has_the_front_first_and_gains_over_the_bare_backbone(
    made: Snapshot,
) -> None:
    rows = list(csv.DictReader(io.StringIO(dashboard.sheet(answer_of(made)))))
    front = [row["placement"] for row in rows if row["on_front"] == "True"]
    assert sorted(front) == sorted(str(view.placement) for view in made.front)
    on_front = [row["on_front"] for row in rows]
    assert on_front == sorted(on_front, reverse=True)
    by_placement = {row["placement"]: row for row in rows}
    best, bare = recommended(made), made.candidates[0]
    assert best is not None
    assert by_placement[str(best.placement)]["recommended"] == "True"
    assert by_placement[str(bare.placement)]["latency"] == "1.0"
    gain = next(view for view in made.candidates if view.key == best.key).gains["accuracy"]
    shown = float(by_placement[str(best.placement)]["accuracy_gain"])
    assert shown == pytest.approx(gain.mean)


def test_the_studys_attributes_name_the_answer_and_follow_it(
    made: Snapshot, tmp_path: Path
) -> None:
    study = optuna_study(tmp_path, len(made.candidates))
    study.set_user_attr("mine", "stays")
    publish(study, snapshot(MadeStudy(tmp_path, name="young").store))
    assert study.user_attrs == {"mine": "stays"}, "there is no answer yet"
    few = snapshot(usual(tmp_path, searched=2).store)
    for taken in (few, made):
        publish(study, taken)
        attributes = study.user_attrs
        assert recommended(taken) is not None
        assert attributes["nas_attn:recommended"] == str(recommended(taken).placement)
        assert attributes["nas_attn:front_trials"] == [view.trial for view in taken.front]
        best = recommended(taken)
        assert best is not None
        view = taken.find(best.key)
        assert view is not None
        assert attributes["nas_attn:accuracy"] == pytest.approx(view.values[0], abs=1e-5)
        gain = attributes["nas_attn:accuracy_gain"]
        assert gain == pytest.approx(view.gains["accuracy"].mean)
    assert attributes["mine"] == "stays"
    assert optuna.get_all_study_names(study._storage) == [study.study_name], "no further study"
