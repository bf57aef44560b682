"""A metric that is the same for all candidates is said to be so wherever results are shown."""

from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.answer.answer import answer_of
from nas_attn.answer.cautions import constants
from nas_attn.answer.reading import snapshot
from nas_attn.recipe.reading import recipe_from
from nas_attn.report.dashboard import study_note
from nas_attn.storage.opening import open_study

ZERO = "def evaluate(model, run):\n    return {'mAP': 0.0, 'effort': float(len(run.placement))}\n"
SENTENCE = "mAP is 0 in all {} runs of all 5 candidates"


def test_a_metric_without_differences_is_named_everywhere(table: Path, nas) -> None:
    (table / "table_evaluator.py").write_text(ZERO)
    said: list[str] = []
    study = na.search(
        "table.toml",
        trials=5,
        objectives=["mAP", "-effort"],
        overrides={"search.pruner": "none"},
        say=said.append,
    )
    now = study.snapshot()
    assert answer_of(now).reason is None
    assert all(view.beats_none is None for view in now.candidates)
    (constant,) = now.constants
    assert (constant.metric, constant.value, constant.candidates) == ("mAP", 0.0, 5)
    sentence = SENTENCE.format(constant.runs)
    assert any("mAP is 0 in all" in line for line in said), "said while the search went on"
    for shown in (nas("show").out, nas("status", "table").out):
        assert sentence in " ".join(shown.split())
        assert "50%" not in shown
    assert nas("status", "table", "--json").json["constants"][0]["metric"] == "mAP"
    assert nas("show", "--json").json["constants"][0]["candidates"] == 5
    report = study.report().read_text()
    note = study_note(answer_of(snapshot(open_study("table", "sqlite:///nas_attn.db").store)))
    for written in (report, note):
        text = " ".join(written.split())
        assert sentence in text
        assert "Nothing is recommended: mAP" in text
    assert "Nothing is recommended" in nas("show").out
    refused = nas("export").error
    assert "Nothing is recommended: mAP" in refused
    assert sentence in nas("effects", "--of", "mAP").error


@pytest.mark.parametrize(("others", "said"), [(0.0, True), (0.01, False)])
def test_networks_that_name_one_class_for_every_image_are_not_compared(
    others: float, said: bool
) -> None:
    """With three classes, on splits in which the class that is named has other shares."""
    plain = {
        "name": "x",
        "space": "small",
        "backbone": {"name": "resnet8"},
        "data": {"name": "digits"},
    }
    recipe = recipe_from(plain | {"training": {"start": "backbone"}}, where="x")
    run = {"accuracy": 0.30, "balanced_accuracy": 1 / 3}
    other = {"accuracy": 0.35, "balanced_accuracy": 1 / 3 + others}
    found = constants(recipe, "accuracy", {"a": [run, other], "b": [run]})
    assert bool(found) is said
    if said:
        sentence = found[0].sentence
        assert "30.00 % to 35.00 %" in sentence
