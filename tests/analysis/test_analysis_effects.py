from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_study import TRUE_COST, TRUE_GAIN, MadeStudy, usual

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
    assert types["cbam"].mean == pytest.approx(0.010, abs=0.003)
    assert types["ela"].worse > 0.99
    assert types["cbam"].half < min(row.half for row in now.at("choice"))
    assert all(row.observations + row.elsewhere <= 40 for row in now.rows)


def test_latency_is_told_apart_from_gain(study: MadeStudy) -> None:
    cost = found(study, "latency")
    assert cost.cv_error is not None
    assert cost.sentences == ()
    for row in cost.at("choice"):
        assert row.mean == pytest.approx(TRUE_COST[row.name], abs=0.02)
        assert row.worse > 0.95


def test_a_lower_loss_is_a_gain(study: MadeStudy) -> None:
    (row,) = [row for row in found(study, "loss").at("type") if row.type == "cbam"]
    assert row.mean > 0
    assert row.low < row.mean < row.high
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


def test_few_candidates_say_nothing(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    for number in range(6):
        study.candidate("none" if not number else f"stage{number}={SE}", baseline=None if number else "none")
    assert fit_effects(snapshot(study.store), "accuracy") is None
    assert fit_effects(snapshot(study.store), "nothing") is None


def row(site: str, effect: float, better: float) -> Effect:
    return Effect(
        effect,
        effect - 0.002,
        effect + 0.002,
        level="choice",
        site=site,
        type="se",
        knobs="",
        better=better,
        worse=1 - better,
        observations=3,
        elsewhere=4,
    )


def test_of_many_sites_the_largest_are_told_and_the_others_counted() -> None:
    rows = [row(f"stage{i}", 0.001 * i, 0.99) for i in range(1, 13)] + [
        row(f"stage{i}", 0.0, 0.4) for i in range(20, 26)
    ]
    said = effects._sentences(rows, "accuracy", {})
    assert said[0] == "At stage12, `se`: +1.20 ± 0.20 points."
    assert any(sentence.startswith("At 4 more sites ") for sentence in said)
    assert any(sentence.startswith("At 6 sites") for sentence in said)
    unsure = effects._sentences([row("stage1", 0.001, 0.87)], "accuracy", {("stage1", "se"): 0.031})
    assert unsure == ("At stage1, perhaps `se`: +0.10 ± 0.20 points for 3 % of latency (probability of a gain 87 %).",)
