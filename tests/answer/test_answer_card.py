"""The card: what it takes, what that brings and costs, how sure that is, and what comes next."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import made_study
import pytest
from made_study import MadeStudy, everywhere, recipe, usual

from nas_attn.answer.answer import Answer, Lacking, answer_of
from nas_attn.answer.answer_text import below, rows
from nas_attn.answer.cautions import Caution, CautionKind
from nas_attn.answer.drawing import drawing_of
from nas_attn.answer.forecast import finalists, runs_of_test
from nas_attn.answer.headline import headline
from nas_attn.answer.next_step import NextCommand, next_of
from nas_attn.answer.pair_tests import critical
from nas_attn.answer.reading import snapshot
from nas_attn.answer.shown import Shown, shown
from nas_attn.answer.snapshot import Snapshot
from nas_attn.model.features import BackboneStage
from nas_attn.searching.run.asking import ASKING
from nas_attn.space.notation import parse

CBAM = "cbam(reduction=16, spatial_kernel_size=7)"
BEST = "key-002"
BARE = "key-000"


def ended(now: Snapshot) -> Snapshot:
    """The same study without the candidate that is still in training."""
    return replace(now, counts={**now.counts, "running": 0}, planned=len(now.candidates))


def about(answer: Answer) -> Shown:
    """The network that the rows are about."""
    found = shown(answer)
    assert found is not None
    return found


def following(answer: Answer) -> NextCommand:
    """What comes next, where something does."""
    found = next_of(answer)
    assert found is not None
    return found


def card(study: MadeStudy) -> Answer:
    return answer_of(snapshot(study.store))


def test_attention_that_helps_is_taken(now: Snapshot) -> None:
    found = answer_of(now)
    assert found.verdict == "take"
    assert found.taken is not None
    assert found.taken.key == found.taken_key
    gain = about(found)
    assert gain.after is not None
    assert gain.before is not None
    assert gain.mean == pytest.approx(gain.after - gain.before)
    assert gain.latency is not None
    assert gain.latency.ms == pytest.approx(gain.latency.ratio * gain.latency.reference_ms)
    assert not found.confirmed
    assert following(found).purpose == "test"
    assert following(found).seconds


def test_a_faster_network_gives_up_something(now: Snapshot) -> None:
    found = answer_of(now)
    assert found.faster is not None
    assert found.taken is not None
    assert found.faster.ratio < found.taken.ratio
    gain = found.over(found.faster, found.taken)
    assert gain is not None
    assert gain.mean < 0


def test_a_test_that_shows_the_gain_replaces_the_estimate(tmp_path: Path) -> None:
    study = usual(tmp_path)
    networks = {BEST: everywhere(CBAM), BARE: "none"}
    study.validation(networks, gain={BEST: 0.05}, recommended=BEST)
    now = snapshot(study.store)
    found = answer_of(now)
    (test,) = now.pooled
    assert found.confirmed
    gain = about(found)
    assert gain.on_test_images
    assert found.test == test
    assert (gain.mean, gain.low, gain.high) == (test.difference, *test.between)
    assert gain.after is not None
    assert gain.before is not None
    assert gain.after - gain.before == pytest.approx(test.difference)
    assert following(found).purpose == "retrain"


def test_the_time_of_a_test_is_that_of_its_networks(now: Snapshot) -> None:
    found = answer_of(now)
    assert [network.role for network in finalists(found)] == ["recommended"]
    target = now.recipe.target
    assert runs_of_test(found) == 2 * target.seeds
    assert runs_of_test(found, also=found.taken_key or "") == 2 * target.seeds
    assert runs_of_test(found, also="another") == 3 * target.seeds
    assert runs_of_test(found, also="another", blocks=7) == 3 * 7


def test_after_a_warning_to_train_longer_more_trials_are_not_proposed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in made_study.TRUE_GAIN:
        monkeypatch.setitem(made_study.TRUE_GAIN, choice, -0.004)
    now = snapshot(usual(tmp_path).store)
    warned = replace(now, cautions=(Caution(CautionKind.STILL_LEARNING, ""),))
    assert following(answer_of(warned)).purpose == "anew"


def test_where_runs_are_too_short_the_next_command_trains_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in made_study.TRUE_GAIN:
        monkeypatch.setitem(made_study.TRUE_GAIN, choice, -0.004)
    as_the_target = recipe(training={"start": "scratch", "rungs": [10]}, target={"epochs": 10})
    now = snapshot(usual(tmp_path, as_the_target).store)
    warned = replace(now, cautions=(Caution(CautionKind.STILL_LEARNING, ""),))
    (row,) = (row for row in rows(answer_of(warned)) if row.label == "Next")
    assert row.command == "nas-attn search --from made --set target.epochs=20"
    at = " --storage sqlite:///mine.db"
    (row,) = (row for row in rows(answer_of(warned), at) if row.label == "Next")
    assert row.command == f"nas-attn search --from made --set target.epochs=20{at}"


@pytest.mark.parametrize("gain", [0.01, -0.004], ids=["test it", "try more"])
@pytest.mark.parametrize("evaluator", [ASKING, "mine:evaluate"])
def test_a_next_command_is_named_where_one_can_train(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, evaluator: str
) -> None:
    for choice in made_study.TRUE_GAIN:
        monkeypatch.setitem(made_study.TRUE_GAIN, choice, gain)
    now = snapshot(usual(tmp_path).store)
    training = now.recipe.training.model_copy(update={"evaluator": evaluator})
    now = replace(now, recipe=now.recipe.model_copy(update={"training": training}))
    (row,) = (row for row in rows(answer_of(now)) if row.label == "Next")
    assert bool(row.command) is (evaluator != ASKING)
    assert row.text


@pytest.mark.parametrize(
    ("difference", "half_width", "purpose"),
    [
        (0.02, 0.021, "more_tests"),
        (0.002, 0.02, "open_trials"),
        (-0.01, 0.02, None),
        (-0.03, 0.02, None),
    ],
    ids=["more trainings decide", "none decides", "not better", "worse"],
)
def test_what_follows_where_a_test_does_not_show_a_gain_and_the_bare_backbone_is_kept(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    difference: float,
    half_width: float,
    purpose: str | None,
) -> None:
    for choice in made_study.TRUE_GAIN:
        monkeypatch.setitem(made_study.TRUE_GAIN, choice, -0.004)
    study = usual(tmp_path)
    study.validation({BEST: everywhere(CBAM), BARE: "none"})
    now = snapshot(study.store)
    (test,) = now.pooled
    seen = replace(
        test,
        difference=difference,
        low=difference - half_width,
        high=difference + half_width,
        new_low=None,
        new_high=None,
        by_blocks=(half_width / critical(1, test.blocks - 1)) ** 2,
        by_images=0.0,
    )
    found = answer_of(replace(ended(now), pooled=(seen,)))
    assert found.verdict == "keep"
    step = next_of(found)
    assert (step and step.purpose) == purpose


def test_the_bare_backbone_is_kept_where_nothing_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in made_study.TRUE_GAIN:
        monkeypatch.setitem(made_study.TRUE_GAIN, choice, -0.004)
    found = card(usual(tmp_path))
    assert found.verdict == "keep"
    assert found.taken_key == BARE
    assert not any(stage.modules for stage in found.drawing)
    view = about(found).view
    assert view is not None
    assert not view.is_bare
    assert following(found).purpose == "continue", "a candidate is still in training"
    over = answer_of(ended(found.now))
    assert next_of(over) is None
    assert rows(over)[-1].text == "the study is finished"
    stopped = answer_of(replace(ended(found.now), waiting=3))
    assert following(stopped).purpose == "continue", "further seeds wait"


UNTRIED = "stage3=eca(kernel_size=3)"


def untried_tested(folder: Path, patch: pytest.MonkeyPatch, gain: float) -> Snapshot:
    """A study in which nothing helps, after a test of a placement that is no candidate."""
    for choice in made_study.TRUE_GAIN:
        patch.setitem(made_study.TRUE_GAIN, choice, -0.004)
    study = usual(folder)
    study.validation({"untried": UNTRIED, BARE: "none"}, gain={"untried": gain})
    return snapshot(study.store)


def test_a_test_of_what_is_no_candidate_is_stated_of_no_other_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = untried_tested(tmp_path, monkeypatch, -0.02)
    (test,) = now.pooled
    found = answer_of(now)
    assert found.verdict == "keep"
    gain = about(found)
    assert (gain.on_test_images, gain.mean) == (True, test.difference)
    assert gain.latency is None, "its latency was not measured"
    searched = {view.label for view in now.candidates if not view.is_bare}
    said = " ".join([headline(found), *(row.text for row in rows(found) if row.label != "Next")])
    assert not any(label in said for label in searched)
    assert UNTRIED in [row.text for row in below(found)]


def test_the_time_of_a_further_test_is_that_of_all_networks_that_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = untried_tested(tmp_path, monkeypatch, 0.005)
    # a little above zero, or not
    now = replace(now, pooled=tuple(replace(test, word="not shown") for test in now.pooled))
    trained = {network.key for network in finalists(answer_of(now))} | {BARE, "untried"}
    assert len(trained) == 3, "the best uniform one is trained, too"
    step = following(answer_of(now))
    assert step.purpose == "more_tests"
    runs = len(trained) * step.step.seeds
    epochs = now.recipe.target_training.rungs[-1]
    assert step.seconds == pytest.approx(now.training_s(runs * epochs))
    shared = following(answer_of(replace(now, workers=4)))
    assert shared.seconds == math.ceil(runs / 4) * now.training_s(epochs)


def test_the_search_is_to_try_what_only_a_test_has_shown_to_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = untried_tested(tmp_path, monkeypatch, 0.03)
    found = answer_of(now)
    assert following(found).purpose == "try_tested"
    (row,) = (row for row in rows(found) if row.label == "Next")
    assert row.command == f'nas-attn resume made --placement "{UNTRIED}"'
    assert "no attention" not in headline(found)


def test_a_larger_network_that_gains_more_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(made_study.TRUE_GAIN, "dwconv", 0.03)
    monkeypatch.setitem(made_study.TRUE_COST, "dwconv", 0.02)
    study = usual(tmp_path)
    study.candidate(everywhere("dwconv"), baseline="control dwconv", seeds=2)
    study.sessions()
    found = card(study)
    assert found.verdict == "control"
    assert found.taken is not None
    assert str(found.taken.placement) == everywhere("dwconv")
    assert about(found).view == found.taken.view


def test_an_empty_study_goes_on(tmp_path: Path) -> None:
    found = card(MadeStudy(tmp_path))
    assert (found.verdict, found.lacking) == ("nothing", Lacking.NOTHING_SCORED)
    assert following(found).purpose == "continue"


def test_a_search_whose_time_ended_before_its_first_placement_goes_on_with_all_of_them(
    tmp_path: Path,
) -> None:
    study = MadeStudy(tmp_path)
    study.backbone()
    # what a search does whose time is over: it plans as many as it has begun
    study.store.set(trials=0)
    found = card(study)
    assert found.lacking is Lacking.NOTHING_SCORED
    assert following(found).purpose == "continue"
    assert following(found).step.trials == study.recipe.search.trials > 0


def test_the_drawing_has_every_stage_in_its_order(tmp_path: Path) -> None:
    study = usual(tmp_path)
    names = ("stage2", "stage10", "neck1")
    sites = ", ".join(
        f'{{"name": "{name}", "role": "{"neck" if "neck" in name else "backbone"}"}}'
        for name in (*names, "stage2.block1")
    )
    study.store.set(sites=f'{{"input_shape": [1, 20, 20], "classes": 10, "sites": [{sites}]}}')
    now = snapshot(study.store)
    assert now.stages == (
        BackboneStage("stage2", "backbone"),
        BackboneStage("stage10", "backbone"),
        BackboneStage("neck1", "neck"),
    )
    drawn = drawing_of(now, parse("stage2.block1=se(reduction=8) neck1=eca"))
    assert [stage.name for stage in drawn] == list(names)
    assert [(m.type, m.block) for m in drawn[0].modules] == [("se", "block1")]
    assert drawn[1].modules == ()
    assert drawn[2].modules[0].choice == "eca"
    assert drawing_of(now, parse("backbone=resnet14")) == ()
