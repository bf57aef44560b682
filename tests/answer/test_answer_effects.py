"""What choices do on average at their sites."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_study import TRUE_COST, TRUE_GAIN, MadeStudy, usual

from nas_attn.answer.effects import Effects, average_effects
from nas_attn.answer.effects_text import effects_message
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot

SE = "se(reduction=8)"


def found(now: Snapshot, what: str = "accuracy") -> Effects:
    made = average_effects(now, what)
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
    for row in cost.at("choice"):
        assert row.mean == pytest.approx(TRUE_COST[row.name], abs=0.02)
        assert row.worse > 0.95


def test_a_lower_loss_is_a_gain(study: Snapshot) -> None:
    (row,) = [row for row in found(study, "loss").at("type") if row.type == "cbam"]
    assert row.mean > 0
    assert row.low < row.mean < row.high
    assert row.better > 0.99


def test_it_says_which_effects_are_largest_and_how_many_may_be_chance(study: Snapshot) -> None:
    effects = found(study)
    largest = effects.sure[0]
    said = effects_message(effects)
    assert f"{largest.type} at {largest.site} " in said
    assert f"{len(effects.sure) - 3} more" in said
    unsure = len(effects.at("choice")) - len(effects.sure)
    assert (f" {unsure} of " in said) == (unsure > 0)
    alone = replace(effects, rows=(largest,))
    assert "may be chance" not in effects_message(alone)


def test_where_nothing_differs_nothing_helps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0)
    now = found(snapshot(usual(tmp_path, searched=20).store))
    assert effects_message(now).startswith("No single choice is shown to help or to harm")
    assert all(row.low <= 0 <= row.high for row in now.rows)


def test_few_candidates_say_nothing(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    assert average_effects(snapshot(study.store), "accuracy") is None
    for number in range(6):
        study.candidate(
            "none" if not number else f"stage{number}={SE}", baseline=None if number else "none"
        )
    assert average_effects(snapshot(study.store), "accuracy") is None
    assert average_effects(snapshot(study.store), "nothing") is None
