"""`import nas_attn as na`: the example of the documentation, the public surface, a user's own model
and evaluator.
"""

import dataclasses
import inspect
import json
from pathlib import Path
from typing import Any

import pytest
from made_study import usual
from torch import nn

import nas_attn as na
from nas_attn import errors
from nas_attn.answer.criteria import Criteria
from nas_attn.api import _recipe
from nas_attn.recipe.reading import recipe_from
from nas_attn.storage.trial_book import TrialBook
from nas_attn.training.evaluators import EvaluatorRun


def quiet(line: str) -> None:
    pass


def small_net() -> nn.Module:
    def step(inside: int, outside: int) -> list[nn.Module]:
        return [
            nn.Conv2d(inside, outside, 3, stride=2, padding=1),
            nn.BatchNorm2d(outside),
            nn.ReLU(),
        ]

    layers = [*step(1, 8), *step(8, 16), *step(16, 32)]
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, 4))


def judge(model: nn.Module, run: EvaluatorRun) -> dict[str, float]:
    return {
        "worth": float(run.placement.count("=")) * run.epochs,
        "size": float(len(list(model.modules()))),
    }


def own(**changes: Any) -> na.Study:
    usual: dict[str, Any] = {
        "model": small_net,
        "data": "external",
        "input_shape": (1, 16, 16),
        "evaluator": judge,
        "space": "small",
        "trials": 4,
        "objectives": ["worth", "-size"],
        "say": quiet,
    }
    overrides = {
        "training.start": "scratch",
        "training.rungs": [1, 2],
        "training.seeds": 2,
        "search.confirm_seeds": 0,
    }
    return na.search(**(usual | {"overrides": overrides} | changes))


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_what_is_exported_is_described() -> None:
    assert {"Snapshot", "attach", "begin", "open_study", "search"} <= set(na.__all__)
    assert all(getattr(na, name).__doc__ for name in na.__all__ if name != "__version__")


def test_best_takes_the_criteria_of_pareto() -> None:
    options = list(inspect.signature(na.Study.best).parameters.values())[1:]
    criteria = dataclasses.fields(Criteria)
    assert [option.name for option in options] == [field.name for field in criteria]
    assert [option.default for option in options] == [field.default for field in criteria]


def test_using_it_does_not_replace_functions_by_modules() -> None:
    assert na.attention.create("se", 16)
    assert all(
        callable(getattr(na, n)) for n in ("attach", "detach", "find_sites", "search", "open_study")
    )


def test_what_cannot_be_attached() -> None:
    model = small_net()
    with pytest.raises(errors.PlacementError, match="unknown site 'stage9'"):
        na.attach(model, "stage9=se", input_shape=(1, 16, 16))
    with pytest.raises(errors.BackboneError):
        na.find_sites(nn.Linear(4, 4), (1, 16, 16))


def test_a_search_with_ones_own_model_and_evaluator(folder: Path) -> None:
    with pytest.raises(errors.StudyError, match="no study database"):
        na.open_study()
    study = own()
    assert [view.state for view in study.candidates()].count("failed") == 0
    front = study.front()
    best = study.best()
    assert best.key == study.as_dict()["recommendation"]["key"]
    assert best == front[0]
    assert str(best.placement).count("=") == max(
        str(view.placement).count("=") for view in study.candidates()
    )
    assert "none" in {str(view.placement) for view in front}, "the smallest network"
    assert study.best(trial=0).trial == 0
    assert str(study.best(placement="none").placement) == "none"
    with pytest.raises(errors.StudyError, match="min_accuracy, trial or placement"):
        study.best(max_latency_ratio=1.5)
    again = na.open_study()
    assert (again.name, again.front(), again.recipe) == (study.name, front, study.recipe)
    assert again.report().read_text().startswith("<!doctype html>")
    assert again.report(folder / "own.html") == folder / "own.html"
    assert own().candidates() == study.candidates(), "calling again goes on"
    with pytest.raises(errors.StudyError, match=r"search\.trials: 4 -> 5"):
        own(trials=5)
    own(trials=1, name="two")
    with pytest.raises(errors.StudyError, match="search, two"):
        na.open_study()
    _figures_and_tables(na.open_study(name=study.name))


def _figures_and_tables(study: na.Study) -> None:
    assert study.plot_front().data
    assert study.plot_curves().data
    assert study.plot_effects("latency") is None, "no latency was measured"
    assert [row["trial"] for row in study.rows()] == list(range(4))
    assert [row["placement"] for row in study.rows("front")] == [
        str(view.placement) for view in study.front()
    ]
    assert str(study.best().placement) in study._repr_html_()
    assert f"Study({study.name!r}, storage=" in repr(study)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"workers": 2}, "workers > 1"),
        ({"device": "gpu9"}, "unknown device 'gpu9'"),
        ({"objectives": []}, "objectives"),
        ({"trials": 0}, "search.trials"),
        ({"space": "smal"}, "did you mean 'small'"),
        ({"data": "external", "input_shape": None}, "needs data.input_shape"),
        ({"overrides": {"search.trails": 3}}, "did you mean 'trials'"),
    ],
)
def test_wrong_arguments_leave_nothing_behind(
    folder: Path, changes: dict[str, Any], words: str
) -> None:
    with pytest.raises(errors.RecipeError) as error:
        own(**changes)
    assert words in str(error.value)
    assert not list(folder.iterdir())


def test_a_model_that_cannot_be_built_leaves_nothing_behind(folder: Path) -> None:
    def broken() -> nn.Module:
        raise RuntimeError("no weights here")

    with pytest.raises(errors.BackboneError, match="RuntimeError: no weights here"):
        own(model=broken)
    with pytest.raises(errors.BackboneError, match=r"a int, .*torch\.nn\.Module"):
        own(model=lambda: 3)
    assert not list(folder.iterdir())


def test_where_the_program_must_be_mended_no_command_is_named(folder: Path) -> None:
    def broken(model: nn.Module, run: EvaluatorRun) -> dict[str, float]:
        raise ValueError("no images here")

    with pytest.raises(errors.RecipeError, match="no images here") as error:
        own(evaluator=broken)
    assert "nas-attn" not in str(error.value)


OWN: dict[str, Any] = {
    "name": "own",
    "space": "small",
    "data.name": "external",
    "data.input_shape": (1, 16, 16),
    "objectives": ["worth"],
}
OWN |= {
    "training.start": "scratch",
    "training.rungs": [1, 3],
    "search.trials": 4,
    "search.confirm_seeds": 0,
}


def test_a_loop_of_ones_own_asks_and_tells_and_is_resumed(folder: Path) -> None:
    trained: dict[str, int] = {}

    def loop(most: int) -> na.Study:
        study = na.begin(
            model=small_net, overrides={**OWN, "search.baselines": "bare", "search.trials": 10}
        )
        while len(trained) < most and (run := study.ask(say=quiet)):
            assert bool(na.check(run.model, (1, 16, 16))) == (run.placement != "none")
            for epoch in range(1, run.epochs + 1):
                trained[run.placement] = epoch
                if run.report(epoch, -len(run.placement)):
                    break
        return study

    stopped = loop(2)
    assert str(stopped.ask(say=quiet).placement) not in trained
    with pytest.raises(errors.StudyError, match=r"\btell\b"):
        stopped.ask()
    stopped._asker.close()
    states = {str(view.placement): view.state for view in loop(20).candidates()}
    assert {
        placement: "scored" if epochs == 3 else "pruned" for placement, epochs in trained.items()
    } == states
    assert (len(states), set(states.values())) == (10, {"scored", "pruned"})


def test_a_study_gives_its_answer_as_lines_and_as_data(tmp_path: Path) -> None:
    made = usual(tmp_path)
    TrialBook(made.database, made.store.name, made_for=made.recipe).close()
    study = na.open_study(str(made.database.url))
    lines = study.answer()
    assert lines[0] == study.as_dict()["card"]["headline"]
    plain = json.loads(json.dumps(study.as_dict(), allow_nan=False))
    assert plain["recommendation"]["placement"] in "\n".join(lines)
    assert len(plain["candidates"]) == len(study.candidates())


def test_a_recipe_that_leaves_its_length_open_can_be_given_as_an_object() -> None:
    table = {"name": "open", "space": "small", "backbone": {"name": "resnet8"}}
    made = recipe_from({**table, "data": {"name": "digits"}}, where="a test")
    assert made.target_is_open
    given = _recipe(made, {"search.trials": 7})
    assert given.target_is_open
    assert given.search.trials == 7
