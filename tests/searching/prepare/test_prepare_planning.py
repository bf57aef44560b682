"""A search that fits a time, its controls and its rungs: what is planned, and that it happens
so.
"""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from materials import photographs
from plans_made import plan_recipe

from nas_attn import backbones
from nas_attn.answer import reading
from nas_attn.answer.answer import answer_of
from nas_attn.answer.progress import progress
from nas_attn.errors import BackboneError, RecipeError
from nas_attn.export import exporting
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.phases import confirming, testing
from nas_attn.searching.prepare import baselines, beginning, clock
from nas_attn.searching.run import taking_part
from nas_attn.searching.worker.worker import Worker
from nas_attn.storage import opening
from nas_attn.training.plan import study_plan

URL = "sqlite:///nas_attn.db"


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    photographs(tmp_path / "photos", of_each=20)
    monkeypatch.chdir(tmp_path)
    return Path("photos")


@pytest.mark.parametrize("trials", [12, 60])
def test_uniform_baselines_take_a_third_of_the_candidates_at_most(table: Path, trials: int) -> None:
    recipe = load_recipe(
        "table.toml", overrides={"search.trials": trials, "space": "plug_and_play"}
    )
    found = baselines.first_baselines(recipe, plan_recipe(recipe).space, trials)
    names = [baseline.name for baseline in found.values()]
    assert names[0] == "none"
    assert len(names) - 1 == min(21, trials // 3)


@pytest.mark.slow
def test_a_search_with_a_time_confirms_what_it_has_until_its_test(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(testing, "MOST_BLOCKS", 2)
    is_due = confirming.is_test_due
    looked = set[tuple[bool, bool]]()

    def look(worker: Worker) -> bool:
        looked.add((bool(reading.families(worker.store)), is_due(worker)))
        return is_due(worker)

    monkeypatch.setattr(confirming, "is_test_due", look)
    opened = beginning.begin(
        load_recipe("table.toml", overrides={"search.trials": 8, "target.epochs": 3}), URL
    )
    clock.start_clock(opened, 3600.0)

    def say(line: str) -> None:
        if line.startswith("trial 4"):
            opened.store.set(screen_until=opened.database.now() - 1)
        elif any(
            row.run.round == 5 for row in opened.store.queue.rows()
        ):  # without a time it has 4 rounds, or 2
            opened.store.set(test_from=opened.database.now() - 1)

    assert taking_part.work(opened, taking_part.Options(say=say)) == "complete"
    assert len(opened.store.candidates()) == opened.trials < 8
    assert {row.run.purpose for row in opened.store.queue.rows()} >= {
        "search",
        "confirm",
        "validate",
    }
    assert max(row.run.round for row in opened.store.queue.rows()) >= 5
    assert (False, False) in looked, "more rounds are run until the test is due"
    assert (True, False) not in looked, "none comes after it"
    assert progress(opened).finished == progress(opened).trials


@pytest.mark.slow
def test_a_test_that_the_clock_stops_goes_on_and_a_new_answer_gets_a_test_of_its_own(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    evaluator = table / "table_evaluator.py"
    evaluator.write_text(
        evaluator.read_text().replace('"se": 2', '"se": 0')
    )  # so the new answer is eca
    first = {"search.trials": 2, "target.epochs": 3, "target.seeds": 2}
    opened = beginning.begin(load_recipe("table.toml", overrides=first), URL)
    assert taking_part.work(opened, taking_part.Options(say=lambda line: None)) == "complete"
    tested = testing.family_of(
        opened,
        reading.answer(opened.store),
        study_plan(opened.store),
        testing.ValidationRequest(),
    )
    testing.begin(opened, tested)
    assert (
        taking_part.work(opened, taking_part.Options(say=lambda line: None, only="validate"))
        == "complete"
    )

    beginning.take_up(opened, trials=6)
    clock.start_clock(opened, 3600.0)
    monkeypatch.setattr(testing, "MOST_BLOCKS", 5)
    monkeypatch.setattr(confirming, "is_test_due", lambda worker: True)
    opened.store.set(trials=6, test_from=opened.database.now() - 1)
    stop = threading.Event()

    def say(line: str) -> None:
        if line.startswith("test 2, run 8/"):
            stop.set()

    assert taking_part.work(opened, taking_part.Options(say=say, stop=stop)) == "stopped"
    assert len(reading.unfinished(opened.store)) == 1
    clock.go_on(opened)
    assert taking_part.work(opened, taking_part.Options(say=say)) == "complete"
    before, result = reading.snapshot(opened.store).validations
    assert (before.family, result.complete, result.blocks) == (tested, True, 5)
    assert len(result.verdicts) == len(result.family.comparisons)


def test_a_time_that_is_over_is_forgotten_and_a_pause_does_not_count(table: Path) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    assert clock.go_on(opened) is None
    clock.start_clock(opened, 3600.0)
    assert 3000 < (clock.go_on(opening.open_study("table", URL)) or 0) < 3700
    opened.store.set(ends_at=opened.store.created_at - 1)
    assert clock.go_on(opened) is None
    assert opened.store.settings.ends_at is None


def test_a_resumed_search_has_no_more_time_after_the_clock_was_set_back(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    clock.start_clock(opened, 3600.0)
    back_s = 5400.0
    now = opened.database.now
    monkeypatch.setattr(type(opened.database), "now", lambda _: now() - back_s)
    left_s = clock.go_on(opened) or 0.0
    assert 3000 < left_s < 3700
    settings = opened.store.settings
    assert settings.ends_at is not None
    assert abs(settings.ends_at - opened.database.now() - left_s) < 60


def test_the_last_candidates_are_a_module_of_the_answer_alone_and_another_part(table: Path) -> None:
    (table / "first_stage.py").write_text("""def evaluate(model, run):
    return {'accuracy': 0.4 + 0.2 * ('stage1=se' in run.placement) + 0.05 * run.placement.count('stage')}
""")
    alone = {
        "training.evaluator": "first_stage:evaluate",
        "search.sampler": "random",
        "search.trials": 12,
    }
    alone |= {"objectives": ["accuracy", "params"], "search.confirm_seeds": 0}
    opened = beginning.begin(load_recipe("table.toml", overrides=alone), URL)
    assert taking_part.work(opened, taking_part.Options(say=lambda line: None)) == "complete"
    *before, first, second = (set(row.placement.assignments) for row in opened.store.candidates())
    assert ([str(one).partition("(")[0] for one in first], first in before) == (
        ["stage1=se"],
        False,
    )
    assert any(second < other for other in before), second


CHANGES = {
    "search.trials": 6,
    "search.confirm_seeds": 0,
    "space": {"name": "one", "choices": {"simam": {}}},
}
GAINING = """
import zlib

def evaluate(model, run):
    gain = 0.02 * run.placement.count("simam") + 0.01 * run.placement.count("dwconv")
    return {"accuracy": 0.5 + gain + zlib.crc32(f"{run.placement}{run.seed}".encode()) % 100 / 20000}
"""


@pytest.mark.parametrize(
    ("more", "controls"),
    [
        ({}, 0),
        ({"search.trials": 15}, 2),
        ({"search.trials": 15, "search.baselines": "bare"}, 0),
        ({"search.trials": 15, "objectives": ["accuracy", "params"]}, 0),
    ],
    ids=["too few trials", "enough", "not asked for", "no latency"],
)
def test_who_tries_controls(more: dict[str, object], controls: int) -> None:
    recipe = load_recipe("cued-digits", overrides={**CHANGES, **more})
    found = baselines.first_controls(recipe, plan_recipe(recipe), recipe.search.trials)
    assert len(found) == controls
    assert all(
        text in resolved.text
        for resolved in found.values()
        for text in ("stage1=", "stage2=", "stage3=")
    )


@pytest.mark.slow
def test_controls_are_scored_and_measured_and_the_answer_compares_itself_with_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "gaining.py").write_text(GAINING)
    quick = {
        "training.start": "scratch",
        "training.rungs": [1],
        "training.evaluator": "gaining:evaluate",
    }
    timed = {"latency.session_seconds": 0.02, "latency.tolerance": 0.9}
    recipe = load_recipe(
        "cued-digits", overrides={**CHANGES, **quick, **timed, "search.trials": 10}
    )
    beginning.begin(recipe, "sqlite:///nas_attn.db")
    beginning.begin(recipe, "sqlite:///nas_attn.db")  # and again: nothing is queued twice
    opened = opening.open_study("cued-digits", "sqlite:///nas_attn.db")
    taking_part.work(opened, taking_part.Options(say=lambda line: None))
    now = reading.snapshot(opened.store)
    plain, larger = {"control dwconv", "control conv"}, {view.baseline for view in now.controls}
    found = baselines.family_of(recipe, study_plan(opened.store), 10)
    names = {f"control {other}" for other in (*found.larger, *found.smaller)}
    assert len(larger - plain) == 2, "a larger and a smaller one"
    assert larger - plain < names
    assert all(view.state == "scored" and view.latency is not None for view in now.controls)
    assert not {view.key for view in now.controls} & {view.key for view in now.baselines}
    told = answer_of(now)
    assert told.larger is not None
    assert told.larger.key in {view.key for view in now.controls}
    assert len(now.candidates) == 10


@pytest.mark.slow
def test_a_limit_that_no_placement_can_meet_ends_the_search_in_one_sentence(photos: Path) -> None:
    quick = {
        "training.start": "scratch",
        "training.rungs": [1],
        "latency.session_seconds": 0.05,
        "search.trials": 20,
    }
    quick |= {
        "limits.max_latency_ratio": 1.001,
        "data.options.train": 64,
        "search.baselines": "bare",
    }
    opened = beginning.begin(load_recipe("cued-digits", overrides=quick), URL)
    with pytest.raises(RecipeError, match=r"1\.001"):
        taking_part.work(
            opened, taking_part.Options(say=lambda line: None, device="cpu", threads=1)
        )


def test_another_backbone_has_its_own_training_and_is_exported_like_any_candidate(
    photos: Path,
) -> None:
    few = {
        "training.backbone_epochs": 1,
        "training.backbones": 1,
        "training.rungs": [1],
        "data.options.train": 200,
    }
    few |= {
        "search.trials": 2,
        "search.baselines": "bare",
        "search.confirm_seeds": 0,
        "data.options.validation": 100,
    }
    timed = {"latency.session_seconds": 0.05, "latency.tolerance": 0.9}
    with pytest.raises(BackboneError, match="resnet9"):
        beginning.begin(
            load_recipe("cued-digits", overrides={**few, **timed}), URL, tried=["backbone=resnet9"]
        )
    opened = beginning.begin(
        load_recipe("cued-digits", overrides={**few, **timed}),
        URL,
        tried=["backbone=resnet14(width=4)"],
    )
    taking_part.work(opened, taking_part.Options(say=lambda line: None, device="cpu", threads=1))
    found = reading.answer(opened.store)
    (control,) = found.now.controls
    assert (control.state, control.means, control.latency.measured) == ("scored", "smaller", True)
    model = backbones.create(
        "resnet14", input_shape=study_plan(opened.store).input_shape, classes=10, width=4
    )
    assert control.cost["params"] == sum(parameter.numel() for parameter in model.parameters())
    written = exporting.export_candidate(
        opened, found, control, Path("control.pt"), exporting.ExportWish("weights")
    ).path
    model.load_state_dict(torch.load(written, weights_only=True)["state_dict"])
    assert "resnet14" in control.snippet


EVALUATOR = """
WORTH = {"none": 0.0, "se": 2.0, "eca": 3.0, "simam": -1.0}

def evaluate(model, run):
    parts = [] if run.placement == "none" else run.placement.split(" stage")
    worth = sum(WORTH[part.split("=")[1].split("(")[0]] for part in parts)
    return {"score": RETURNED, "effort": float(len(parts))}
"""


@pytest.mark.parametrize("ends", ["nothing", "scores"])
def test_a_rung_at_which_all_score_the_same_prunes_nobody(table: Path, ends: str) -> None:
    """As a detector that has found nothing yet: else the networks' cost alone would decide, and one
    be left to speak of.
    """
    returned = "0.0" if ends == "nothing" else "0.0 if run.rung == 0 else worth"
    (table / "table_evaluator.py").write_text(EVALUATOR.replace("RETURNED", returned))
    text = (table / "table.toml").read_text().replace('["score", "-effort"]', '["score", "params"]')
    (table / "table.toml").write_text(text)
    overrides = {"search.trials": 8, "search.confirm_seeds": 0, "search.pruner": "pareto_halving"}
    opened = opening.create_study(load_recipe("table.toml", overrides=overrides), URL)
    options = taking_part.Options(
        say=lambda line: None, stop=threading.Event(), device="cpu", threads=1
    )
    assert taking_part.work(opened, options) == "complete"
    found = reading.snapshot(opening.open_study("table", URL).store)
    assert [view.state for view in found.candidates] == ["scored"] * 8
    assert [constant.metric for constant in found.constants] == (
        ["score"] if ends == "nothing" else []
    )
