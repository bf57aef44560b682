"""The answer in at most eight lines."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from made_study import TRUE_GAIN, MadeStudy, everywhere, usual

from nas_attn.analysis.choosing import answer, training_s
from nas_attn.study.reading import snapshot

CBAM = "cbam(reduction=16, spatial_kernel_size=7)"


def labelled(lines: list[str]) -> dict[str, str]:
    return {line[:10].strip(): line[10:] for line in lines if re.match(r"[A-Z][a-z ]{9}\S", line)}


def test_it_names_the_gain_a_cheaper_one_and_the_next_step(tmp_path: Path) -> None:
    now = snapshot(usual(tmp_path).store)
    lines = answer(now)
    assert lines[0].startswith(f"Take {everywhere(CBAM)}: ")
    assert len(lines) <= 8
    said = labelled(lines)
    assert "not tested" in said["Gain"]
    assert "points, at 1." in said["Cheaper"]
    assert "nas-attn validate made finds out" in said["Target"]
    assert "nas-attn pareto made --why" in said["Next"]
    view, best = now.find(now.recommendation.cheaper.key), now.recommendation
    assert view.beats_none >= 0.7
    assert view.latency.high < best.latency.low


def test_the_text_and_the_table_of_the_front_agree(tmp_path: Path) -> None:
    now = snapshot(usual(tmp_path).store)
    best = now.recommendation
    gains = [now.find(key).gains["accuracy"].mean for key in (best.key, best.cheaper.key)]
    assert best.against_none.gain.mean == pytest.approx(gains[0])
    assert best.cheaper.gain.mean == pytest.approx(gains[0] - gains[1])


def test_what_was_tested_is_said_to_be(tmp_path: Path) -> None:
    made = usual(tmp_path)
    made.validation({"key-002": everywhere(CBAM), "key-000": "none"}, gain={"key-002": 0.05})
    said = labelled(answer(snapshot(made.store)))
    assert "not tested" not in said["Gain"]
    assert re.match(r"better than the bare backbone, \+4\.\d\d points \(.*; 8 trainings each", said["Tested"])
    assert said["Next"].startswith("nas-attn retrain made")


def test_where_nothing_convinces_it_names_the_best_bet_and_what_a_test_of_it_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0004)
    now = snapshot(usual(tmp_path, searched=3, seed=2).store)
    lines = answer(now, " --storage x")
    assert lines[0].startswith("Keep the bare backbone")
    assert len(lines) <= 8
    said = labelled(lines)
    assert re.search(r"\d+ % likely to help, at \d\.\d\d ×", said["Best bet"])
    runs, tests = re.match(
        r"(\d+) trainings of each as the target says \(about .*--seeds (\d+)", said["Decide"]
    ).groups()
    assert runs == tests
    assert 2 < int(runs) <= 32
    assert said["Decide"].endswith("--storage x")
    assert training_s(now, 6) == pytest.approx(2 * training_s(now, 3))


def test_without_scores_it_says_why_there_is_none(tmp_path: Path) -> None:
    assert answer(snapshot(MadeStudy(tmp_path).store)) == [
        "No recommendation yet: nothing has been scored at 3 epochs."
    ]
