"""What choices do on average, alone, and next to the recommended ones."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_study import TRUE_COST, TRUE_GAIN, MadeStudy, everywhere, usual

from nas_attn.answer.answer import answer_of
from nas_attn.answer.effects import Effect, Effects, Part, fit_effects
from nas_attn.answer.effects_text import effect_sentences
from nas_attn.answer.means import recommended
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot

SE, CBAM, ELA = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)", "ela(kernel_size=7)"


def found(now: Snapshot, what: str = "accuracy") -> Effects:
    made = fit_effects(answer_of(now), what)
    assert made is not None
    return made


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(usual(tmp_path_factory.mktemp("effects"), searched=30).store)


def test_choices_and_types_do_what_was_put_into_them(study: Snapshot) -> None:
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


def test_latency_is_told_apart_from_gain(study: Snapshot) -> None:
    cost = found(study, "latency")
    assert cost.cv_error is not None
    assert effect_sentences(cost) == []
    for row in cost.at("choice"):
        assert row.mean == pytest.approx(TRUE_COST[row.name], abs=0.02)
        assert row.worse > 0.95


def test_a_lower_loss_is_a_gain(study: Snapshot) -> None:
    (row,) = [row for row in found(study, "loss").at("type") if row.type == "cbam"]
    assert row.mean > 0
    assert row.low < row.mean < row.high
    assert row.better > 0.99


def test_the_sentences_say_what_helps_where_and_for_what_price(study: Snapshot) -> None:
    said = effect_sentences(found(study))
    (first,) = [sentence for sentence in said if sentence.startswith("At stage1, `cbam")]
    assert re.search(r" points, for (19|20) % more latency", first)


def test_a_gain_alone_is_bought_with_the_latency_of_the_same_network(study: Snapshot) -> None:
    now = found(study)
    site = "stage1"
    best = next(row for row in now.at("choice") if (row.site, row.name) == (site, CBAM))
    paid = now.prices[site, CBAM]
    assert paid.alone is not None
    cheaper = replace(paid, alone=replace(paid.alone, mean=0.07))
    alone = replace(best, better=0.5, alone=Part(0.02, 0.01, 0.03, 0.02, 3))
    rows = tuple(alone if row is best else row for row in now.rows)
    said = effect_sentences(replace(now, rows=rows, prices={(site, CBAM): cheaper}))
    assert any("alone, for 7 % more latency" in sentence for sentence in said)


def test_the_sentences_name_what_harms(study: Snapshot) -> None:
    said = effect_sentences(found(study))
    assert any("`ela(kernel_size=7)` is harmful: −" in sentence for sentence in said)
    assert any(sentence.startswith("`cbam` at any site: +") for sentence in said)


def test_where_nothing_differs_nothing_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0)
    now = found(snapshot(usual(tmp_path, searched=20).store))
    (sentence,) = effect_sentences(now)
    assert "stage1, stage2 and stage3" in sentence
    assert all(row.low <= 0 <= row.high for row in now.rows)


def test_few_candidates_say_nothing(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    assert fit_effects(answer_of(snapshot(study.store)), "accuracy") is None
    for number in range(6):
        study.candidate(
            "none" if not number else f"stage{number}={SE}", baseline=None if number else "none"
        )
    assert fit_effects(answer_of(snapshot(study.store)), "accuracy") is None
    assert fit_effects(answer_of(snapshot(study.store)), "nothing") is None


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    study = usual(tmp_path_factory.mktemp("made"))
    study.candidate(f"stage1={SE}", seeds=2)
    study.candidate(f"stage2={CBAM} stage3={CBAM}", seeds=3)
    study.sessions()
    return snapshot(study.store)


def choice(now: Snapshot, what: str, site: str, name: str) -> Effect:
    found = fit_effects(answer_of(now), what)
    (row,) = (row for row in found.at("choice") if (row.site, row.name) == (site, name))
    return row


def test_alone_is_what_the_front_says_of_the_same_placement(now: Snapshot) -> None:
    (view,) = (view for view in now.candidates if str(view.placement) == f"stage1={SE}")
    alone, gain = choice(now, "accuracy", "stage1", SE).alone, view.gains["accuracy"]
    assert (alone.mean, alone.low, alone.high) == pytest.approx((gain.mean, gain.low, gain.high))
    bare = now.candidates[0]
    runs = [{p.seed: p.metrics["accuracy"] for p in v.scores if p.rung == 1} for v in (view, bare)]
    assert alone.runs == 2
    assert alone.measured == pytest.approx(
        sum(runs[0][seed] - runs[1][seed] for seed in (0, 1)) / 2
    )


def test_beside_the_recommended_a_choice_is_compared_with_nothing_at_its_site(
    now: Snapshot,
) -> None:
    best = recommended(now)
    assert str(best.placement) == everywhere(CBAM)
    beside = choice(now, "accuracy", "stage1", CBAM).beside
    (without,) = (
        view for view in now.candidates if str(view.placement) == f"stage2={CBAM} stage3={CBAM}"
    )
    gain = now.evidence["accuracy"].gain(best.key, without.key)
    assert (beside.mean, beside.runs) == (pytest.approx(gain.mean), 3)
    never = choice(now, "accuracy", "stage3", "ela(kernel_size=7)").beside
    assert (never.measured, never.runs) == (None, 0)


def test_latency_is_the_difference_of_two_networks(now: Snapshot) -> None:
    found = choice(now, "latency", "stage1", SE)
    assert found.alone.mean == pytest.approx(0.05, abs=0.01)
    assert found.alone.sure
    assert found.alone.low < 0.05 < found.alone.high
    assert found.beside.mean == pytest.approx(0.05, abs=0.02), (
        "next to the others it was never measured"
    )
