from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_study import TRUE_COST, TRUE_GAIN, MadeStudy, recipe, usual

from nas_attn.analysis import effects
from nas_attn.analysis.effects import Effect, Effects, fit_effects
from nas_attn.study.reading import snapshot

SE, CBAM, ELA = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)", "ela(kernel_size=7)"


def found(study: MadeStudy, what: str = "accuracy") -> Effects:
    made = fit_effects(snapshot(study.store), what)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> MadeStudy:
    return usual(tmp_path_factory.mktemp("effects"), searched=30)


def test_choices_and_types_do_what_was_put_into_them(study: MadeStudy) -> None:
    now = found(study)
    choices = {(row.site, row.name): row for row in now.at("choice")}
    assert {site for site, _ in choices} == {"stage1", "stage2", "stage3"}
    covered = [row.low <= TRUE_GAIN[name] <= row.high for (_, name), row in choices.items()]
    assert sum(covered) >= len(covered) - 1
    types = {row.type: row for row in now.at("type")}
    assert types["cbam"].effect == pytest.approx(0.010, abs=0.003)
    assert types["ela"].worse > 0.99
    assert types["cbam"].half < min(row.half for row in now.at("choice"))
    assert all(row.observations + row.elsewhere <= 40 for row in now.rows)


def test_latency_is_told_apart_from_gain(study: MadeStudy) -> None:
    cost = found(study, "latency")
    assert cost.cv_error is not None
    assert cost.sentences == ()
    for row in cost.at("choice"):
        assert row.effect == pytest.approx(TRUE_COST[row.name], abs=0.02)
        assert row.worse > 0.95


def test_a_lower_loss_is_a_gain(study: MadeStudy) -> None:
    (row,) = [row for row in found(study, "loss").at("type") if row.type == "cbam"]
    assert row.effect > 0
    assert row.low < row.effect < row.high
    assert row.better > 0.99


def test_the_sentences_say_what_helps_where_and_for_what_price(study: MadeStudy) -> None:
    said = found(study).sentences
    (first,) = [sentence for sentence in said if sentence.startswith("At stage1, `cbam")]
    assert re.search(r" points for (19|20) % of latency", first)
    assert any("`ela(kernel_size=7)` is harmful: -" in sentence for sentence in said)
    assert any(sentence.startswith("`cbam` at any site: +") for sentence in said)


def test_where_nothing_differs_nothing_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0)
    now = found(usual(tmp_path, searched=20))
    (sentence,) = now.sentences
    assert "stage1, stage2 and stage3" in sentence
    assert all(row.low <= 0 <= row.high for row in now.rows)


def test_a_knob_is_held_against_its_type(tmp_path: Path) -> None:
    choices = {"se": {"reduction": [4, 8]}, "ela": {"kernel_size": [7]}}
    study = MadeStudy(tmp_path, recipe(space={"name": "made", "choices": choices}))
    study.candidate("none", baseline="none", seeds=3)
    for one in ("se(reduction=4)", SE, ELA, "none"):
        for other in ("se(reduction=4)", SE, ELA):
            first = f"stage1={one} " if one != "none" else ""
            study.candidate(f"{first}stage2={other}", seeds=3)
    knobs = {row.name: row for row in found(study).at("knob")}
    assert set(knobs) == {"se(reduction=4)", "se(reduction=8)"}
    assert knobs["se(reduction=8)"].effect == pytest.approx(0.003, abs=0.002)
    assert knobs["se(reduction=4)"].effect == pytest.approx(-knobs["se(reduction=8)"].effect, abs=1e-6)
    assert knobs["se(reduction=8)"].better > 0.9


def test_a_knob_that_differs_between_sites_only_is_no_effect() -> None:
    wanted = effects._wanted(["stage1=ela(groups=8)", "stage2=ela(groups=16)", "stage1@block=se", "stage2=se"])
    assert not [one for one in wanted if one.level in ("knob", "position")]
    at_one_site = effects._wanted(["stage1=ela(groups=8)", "stage1=ela(groups=4)", "stage2=ela(groups=16)"])
    assert [one.knobs for one in at_one_site if one.level == "knob"] == ["groups=4", "groups=8"]
    positions = effects._wanted(["stage1@block=se", "stage1@stage=se", "stage2@block=se"])
    (block, stage) = [one for one in positions if one.level == "position"]
    assert sum(weight for text, weight in block.sum if text == "stage1@block=se") == pytest.approx(0.5)
    assert not any("stage2" in text for text, _ in (*block.sum, *stage.sum))


def test_few_candidates_say_nothing(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    for number in range(6):
        study.candidate("none" if not number else f"stage{number}={SE}", baseline=None if number else "none")
    assert fit_effects(snapshot(study.store), "accuracy") is None
    assert fit_effects(snapshot(study.store), "nothing") is None


def row(site: str, effect: float, better: float) -> Effect:
    return Effect("choice", site, "se", "", "", effect, effect - 0.002, effect + 0.002, better, 1 - better, 3, 4)


def test_of_many_sites_the_largest_are_told_and_the_others_counted() -> None:
    rows = [row(f"stage{i}", 0.001 * i, 0.99) for i in range(1, 13)] + [
        row(f"stage{i}", 0.0, 0.4) for i in range(20, 26)
    ]
    said = effects._sentences(rows, "accuracy", {})
    assert said[0] == "At stage12, `se`: +1.20 ± 0.20 points."
    assert any(sentence.startswith("At 4 more sites ") for sentence in said)
    assert any(sentence.startswith("At 6 sites") for sentence in said)
    unsure = effects._sentences([row("stage1", 0.001, 0.87)], "accuracy", {("stage1", "se"): row("stage1", 0.031, 0)})
    assert unsure == ("At stage1, perhaps `se`: +0.10 ± 0.20 points for 3 % of latency (probability of a gain 87 %).",)
