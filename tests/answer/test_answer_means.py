"""By whichever means: attention, a larger network, a smaller one, a longer training, or nothing."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_study
import numpy as np
import pytest
from made_study import MadeStudy, everywhere, recipe, usual

from nas_attn.answer.answer import REQUIRED, SURE_ENOUGH, Answer, answer_of
from nas_attn.answer.answer_text import below, rows
from nas_attn.answer.choosing import choose
from nas_attn.answer.criteria import Criteria
from nas_attn.answer.headline import headline
from nas_attn.answer.length import LengthGain
from nas_attn.answer.next_step import next_of
from nas_attn.answer.reading import answer, snapshot
from nas_attn.answer.reasons import reasons, why_rows
from nas_attn.answer.rounds import next_round, to_confirm
from nas_attn.answer.shown import shown
from nas_attn.answer.snapshot import Means, Snapshot
from nas_attn.model import Gain
from nas_attn.report.dashboard import sheet
from nas_attn.space.notation import parse

RELATIVE = "backbone=resnet14"
# of every attention module, where it helps nobody
HARM = -0.004


def with_relative(
    folder: Path,
    patch: pytest.MonkeyPatch,
    *,
    gain: float,
    cost: float,
    helps: bool = False,
    tables: dict[str, dict[str, Any]] | None = None,
) -> MadeStudy:
    """A study with another network that gains and costs so much; `helps`: whether attention does."""
    if not helps:
        for choice in list(made_study.TRUE_GAIN):
            patch.setitem(made_study.TRUE_GAIN, choice, HARM)
    study = usual(folder, recipe(**(tables or {})))
    patch.setitem(made_study.TRUE_GAIN, RELATIVE, gain)
    patch.setitem(made_study.TRUE_COST, RELATIVE, cost)
    key = study.candidate(RELATIVE, baseline="control resnet14", seeds=3)
    size = 120_000 if cost > 0 else 40_000
    study.store.set_cost(key, {"params": size, "macs": 9e6, "memory": 3e6}, study.lease)
    study.sessions()
    return study


def relative_of(found: Answer) -> str:
    return next(view.key for view in found.now.candidates if view.placement == parse(RELATIVE))


@pytest.mark.parametrize(
    ("cost", "limit", "taken"),
    [(0.4, None, True), (1.4, None, False), (1.4, 3.0, True), (0.4, 1.2, False)],
    ids=["twice at most", "too slow", "a limit allows it", "a limit forbids it"],
)
def test_a_larger_network_is_taken_in_reach_where_attention_does_not_help(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, cost: float, limit: float | None, taken: bool
) -> None:
    limits: dict[str, dict[str, Any]] = {}
    if limit:
        limits = {"limits": {"max_latency_ratio": limit}}
    study = with_relative(tmp_path, monkeypatch, gain=0.05, cost=cost, tables=limits)
    found = answer(study.store)
    assert found.means is (Means.LARGER if taken else Means.NOTHING)
    assert (found.taken_key == relative_of(found)) == taken
    assert found.attention is not None, "attention was asked for"
    assert found.chosen is None
    assert ("Attention" in {row.label for row in below(found)}) == taken


@pytest.mark.parametrize(
    ("tables", "listed"),
    [
        ({}, True),
        ({"limits": {"max_latency_ratio": 1.6}}, False),
        ({"answer": {"worth": 0.2}}, False),
    ],
    ids=["dear", "above the limit", "too little"],
)
def test_only_what_the_user_could_want_is_also_likely_to_help(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    tables: dict[str, dict[str, Any]],
    listed: bool,
) -> None:
    study = with_relative(tmp_path, monkeypatch, gain=0.05, cost=1.4, tables=tables)
    found = answer(study.store)
    assert found.means is Means.NOTHING
    assert (Means.LARGER in {option.means for option in found.also}) == listed


def test_a_larger_network_that_may_gain_by_chance_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = with_relative(tmp_path, monkeypatch, gain=0.002, cost=0.4)
    assert answer(study.store).verdict == "keep"


@pytest.mark.parametrize(
    ("gain", "helps", "taken"), [(0.0, False, True), (-0.05, False, False), (0.0, True, False)]
)
def test_a_smaller_network_is_taken_if_it_loses_nothing_and_nothing_else_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, helps: bool, taken: bool
) -> None:
    study = with_relative(
        tmp_path, monkeypatch, gain=gain, cost=-0.3, helps=helps, tables={"answer": {"worth": 0.02}}
    )
    found = answer(study.store)
    view = found.now.find(relative_of(found))
    assert view is not None
    assert view.means is Means.SMALLER
    assert (found.verdict == "smaller") == taken
    assert (found.taken_key == view.key) == taken
    if taken:
        assert "0.70 ×" in headline(found)
        (sure,) = (row.text for row in rows(found) if row.label == "Sure")
        assert "lose less than 2.0 points" in sure
        assert "help" not in sure, "that is not what it is taken for"


@pytest.mark.parametrize(("gain", "taken"), [(0.06, True), (0.02, False)])
def test_a_smaller_network_that_gains_is_weighed_against_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, taken: bool
) -> None:
    study = with_relative(tmp_path, monkeypatch, gain=gain, cost=-0.3, helps=True)
    found = answer(study.store)
    assert found.means is (Means.SMALLER if taken else Means.ATTENTION)
    faster = [row.text for row in below(found) if row.label == "Smaller"]
    assert any("resnet14" in text for text in faster) != taken
    if taken:
        assert headline(found).startswith("Take resnet14 without attention: +6")
        assert Means.ATTENTION in {option.means for option in found.also}


@pytest.mark.parametrize(("gain", "level"), [(0.0, True), (-0.05, False)])
def test_a_smaller_network_is_taken_only_if_its_test_does_not_show_a_loss(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, level: bool
) -> None:
    tables: dict[str, dict[str, Any]] = {"answer": {"worth": 0.02}}
    study = with_relative(tmp_path, monkeypatch, gain=0.0, cost=-0.3, tables=tables)
    before = answer(study.store)
    key = relative_of(before)
    study.validation({key: RELATIVE, "key-000": "none"}, gain={key: gain}, recommended=key)
    tested = snapshot(study.store)
    found = answer_of(replace(before.now, pooled=tested.pooled, validations=tested.validations))
    assert found.verdict == ("smaller" if level else "keep")
    assert ("as accurate" in headline(found)) == level
    assert "Attention" in {row.label for row in below(found)}


def test_a_relative_is_smaller_by_its_parameters_and_plain_layers_never_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = usual(tmp_path)
    # as noise of the latency may make it
    monkeypatch.setitem(made_study.TRUE_COST, "dwconv", -0.01)
    plain = study.candidate(everywhere("dwconv"), baseline="control dwconv")
    study.sessions()
    unmeasured = study.candidate(RELATIVE, baseline="control resnet14")
    study.store.set_cost(unmeasured, {"params": 40_000, "macs": 9e6, "memory": 3e6}, study.lease)
    means = {view.key: view.means for view in snapshot(study.store).candidates}
    assert (means[plain], means[unmeasured]) == (Means.LARGER, Means.SMALLER)


def test_a_network_with_attention_is_chosen_where_another_one_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = with_relative(tmp_path, monkeypatch, gain=0.09, cost=0.1, helps=True)
    found = answer(study.store)
    assert found.means is Means.LARGER
    assert Means.ATTENTION in {option.means for option in found.also}
    with_attention = choose(found, Criteria(attention=True), str).view
    assert with_attention.means is Means.ATTENTION
    assert found.attention is not None
    assert with_attention.key == found.attention.key
    fast = choose(found, Criteria(attention=True, max_latency_ratio=1.3), str).view
    assert fast.means is Means.ATTENTION
    assert choose(found, Criteria(max_latency_ratio=1.3), str).view.key == relative_of(found)


@pytest.mark.parametrize(("gain", "cost"), [(0.05, 0.4), (0.0, -0.3)], ids=["larger", "smaller"])
def test_further_runs_go_to_what_may_be_the_answer_and_at_least_half_to_attention(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, cost: float
) -> None:
    scratch: dict[str, dict[str, Any]] = {
        "training": {"start": "scratch", "rungs": [10]},
        "target": {"epochs": 10},
    }
    study = with_relative(tmp_path, monkeypatch, gain=gain, cost=cost, tables=scratch)
    found = answer(study.store)
    key = relative_of(found)
    for networks in (to_confirm(found.now), next_round(found.now, np.random.default_rng(0))):
        assert key in {view.key for view in networks}
        others = [view for view in networks if view.control]
        assert 2 * len(others) <= len([view for view in networks if not view.is_bare])


def test_a_network_that_surely_loses_gets_no_further_round(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scratch: dict[str, dict[str, Any]] = {
        "training": {"start": "scratch", "rungs": [10]},
        "target": {"epochs": 10},
    }
    study = with_relative(tmp_path, monkeypatch, gain=-0.05, cost=0.4, tables=scratch)
    found = answer(study.store)
    again = next_round(found.now, np.random.default_rng(0))
    assert relative_of(found) not in {view.key for view in again}


def test_from_scratch_attention_needs_more_certainty_and_below_it_a_test_comes_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in made_study.TRUE_GAIN:
        monkeypatch.setitem(made_study.TRUE_GAIN, choice, 0.002)
    scratch: dict[str, dict[str, Any]] = {
        "training": {"start": "scratch", "rungs": [10]},
        "target": {"epochs": 10},
    }
    study = usual(tmp_path, recipe(**scratch), seed=5)
    found = answer(study.store)
    assert found.verdict == "keep"
    bet = found.bet
    assert bet is not None
    assert 0.7 <= bet.gain.probability < 0.8
    assert "80 %" in " ".join(reasons(found))
    assert (found.attention, found.chosen) == (bet, None)
    none_runs = {**found.now.counts, "running": 0}
    candidates = len(found.now.candidates)
    ended = replace(found.now, planned=candidates, waiting=0, counts=none_runs)
    following = next_of(answer_of(ended))
    assert following is not None
    assert following.step.command == "test"
    # the same runs from trained weights
    tuned = answer_of(
        replace(found.now, recipe=recipe(training={"start": "backbone", "rungs": [10]}))
    )
    assert tuned.taken_key == bet.key


def ended(now: Snapshot) -> Snapshot:
    """A study whose search has tried all that it planned."""
    return replace(now, planned=len(now.candidates), waiting=0, counts={**now.counts, "running": 0})


def test_what_a_larger_network_brings_is_decided_by_a_test_before_a_study_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    study = with_relative(tmp_path, monkeypatch, gain=0.006, cost=0.4)
    found = answer_of(ended(snapshot(study.store)))
    assert found.larger is not None
    assert REQUIRED <= found.larger.gain.probability < SURE_ENOUGH
    assert found.verdict == "keep"
    step = next_of(found)
    assert step is not None
    assert step.purpose == "decide"
    assert step.step.placement == RELATIVE
    assert step.of == found.larger
    about = shown(found)
    assert about is not None
    assert about.view == found.larger.view, "the card is about what the test decides on"
    assert {row.label for row in below(found)} >= {"Attention"}
    assert any("resnet14" in why and "not likely enough" in why for why in reasons(found))


@pytest.mark.parametrize(("gain", "verdict"), [(0.004, "control"), (-0.02, "keep")])
def test_the_test_of_a_larger_network_decides_on_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, gain: float, verdict: str
) -> None:
    study = with_relative(tmp_path, monkeypatch, gain=0.006, cost=0.4)
    before = answer(study.store)
    key = relative_of(before)
    uniform = before.now.best_uniform
    assert uniform is not None
    networks = {key: RELATIVE, uniform.key: str(uniform.placement), "key-000": "none"}
    study.validation(networks, gain={key: gain})
    found = answer_of(ended(snapshot(study.store)))
    test = next(test for test in found.now.pooled if test.key == key)
    assert test.word == ("better" if gain > 0 else "worse")
    assert found.verdict == verdict
    if gain > 0:
        assert found.taken is not None
        assert found.taken.gain.probability < SURE_ENOUGH, "the search alone would not do"
        step = next_of(found)
        assert step is not None
        assert step.purpose == "retrain"


def test_a_longer_training_that_may_help_comes_before_a_study_is_finished(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in made_study.TRUE_GAIN:
        monkeypatch.setitem(made_study.TRUE_GAIN, choice, HARM)
    now = ended(snapshot(usual(tmp_path).store))
    assert next_of(answer_of(now)) is None
    likely = Gain(0.01, 0.006, -0.002, 0.022, 0.95, 0.05)
    found = answer_of(replace(now, longer=LengthGain(10, 20, 2, likely)))
    (said,) = (row.text for row in below(found) if row.label == "Longer")
    assert "20 epochs instead of 10" in said
    step = next_of(found)
    assert step is not None
    assert (step.purpose, step.step.epochs) == ("longer", 20)
    assert step.seconds
    assert "Training it longer is 95 % likely to help: +1.0 points by 20 epochs." in headline(found)
    two = next_of(answer_of(replace(found.now, workers=2)))
    assert two is not None
    assert two.seconds is not None
    assert step.seconds / 2 <= two.seconds < 0.6 * step.seconds, "two train at once"


def test_an_open_test_of_a_smaller_network_goes_on_until_a_loss_that_counts_is_ruled_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tables: dict[str, dict[str, Any]] = {"answer": {"worth": 0.02}}
    study = with_relative(tmp_path, monkeypatch, gain=0.0, cost=-0.3, tables=tables)
    before = answer(study.store)
    key = relative_of(before)
    study.validation({key: RELATIVE, "key-000": "none"}, gain={key: -0.004}, recommended=key)
    (test,) = snapshot(study.store).pooled
    wide = replace(test, word="not shown", low=-0.03, high=0.022, new_low=None, new_high=None)
    seen = replace(wide, difference=-0.004, by_blocks=1.3e-4, by_images=0.0)
    step = next_of(answer_of(replace(ended(before.now), pooled=(seen,))))
    assert step is not None
    assert step.purpose == "more_tests"
    assert step.step.seeds == seen.blocks_to_decide(0.02)


def test_the_reasons_say_of_each_means_whether_it_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    larger = answer(with_relative(tmp_path, monkeypatch, gain=0.05, cost=0.4).store)
    (attention, relative) = why_rows(larger)
    assert (attention[0], relative[0]) == ("attention", "larger")
    assert relative[-1] == "taken" != attention[-1]
    sure = Gain(0.2, 0.006, 0.19, 0.21, 0.999, 0.001)
    longer = answer_of(replace(larger.now, longer=LengthGain(10, 20, 2, sure)))
    assert longer.means is Means.LONGER
    assert why_rows(longer)[-1][-1] == "taken"


def test_other_networks_have_their_mark_in_the_dashboard(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = answer(with_relative(tmp_path, monkeypatch, gain=0.05, cost=0.4).store)
    (row,) = (row for row in csv.DictReader(sheet(found).splitlines()) if row["means"] == "larger")
    assert row["placement"] == RELATIVE
