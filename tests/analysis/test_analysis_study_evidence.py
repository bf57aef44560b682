from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from made_study import MadeStudy, everywhere, usual

from nas_attn.analysis import study_evidence
from nas_attn.analysis.evidence import fitting
from nas_attn.analysis.snapshot import snapshot


def fits(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The metrics that were fitted, in order, from now on."""
    done: list[str] = []
    solve = fitting.Question.solve

    def counted(self: fitting.Question, *args: object) -> object:
        done.append(self.metric)
        return solve(self, *args)

    monkeypatch.setattr(fitting.Question, "solve", counted)
    return done


def test_large_evidence_is_fitted_once_and_again_when_there_is_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for reader in ("study_evidence", "snapshot"):
        monkeypatch.setattr(f"nas_attn.analysis.{reader}.KEPT_FROM", 20)
    study = usual(tmp_path)
    done = fits(monkeypatch)
    first = snapshot(study.store)
    assert {"accuracy", "loss"} <= set(done)
    done.clear()
    second = snapshot(study.store)
    assert done == []
    assert second.as_dict() == first.as_dict()
    study.candidate("stage3=se(reduction=8)")
    third = snapshot(study.store)
    assert "accuracy" in done
    assert third.candidates[-1].estimates["accuracy"].seeds == 1


@pytest.mark.parametrize("text", ["", "[1, 2]", '{"digest": 3}', "null"])
def test_kept_answers_that_are_none_are_worked_out_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setattr(study_evidence, "KEPT_FROM", 20)
    study = usual(tmp_path)
    first = snapshot(study.store)
    kept = study.store.get("evidence/accuracy/1")
    damaged = text if text != '{"digest": 3}' else kept.replace('"estimates": {', '"estimates": {"key-999": 7, ', 1)
    study.store.put("evidence/accuracy/1", damaged)
    assert snapshot(study.store).as_dict() == first.as_dict()
    assert study.store.get("evidence/accuracy/1") == kept


def test_who_cannot_write_still_reads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study_evidence, "KEPT_FROM", 20)
    study = usual(tmp_path)
    with sqlite3.connect(tmp_path / "made.db") as connection:
        connection.execute(
            "create trigger full before insert on nas_attribute begin select raise(abort, 'disk full'); end"
        )
    assert snapshot(study.store).recommendation is not None
    assert study.store.get("evidence/accuracy/1") is None


def test_little_evidence_leaves_nothing_in_the_study(tmp_path: Path) -> None:
    study = usual(tmp_path)
    snapshot(study.store)
    assert study.store.get("evidence/accuracy/1") is None


def test_runs_of_several_backbones_are_told_apart(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    for placement in ("none", everywhere("se(reduction=8)"), "stage1=se(reduction=8)"):
        study.candidate(placement, baseline="none" if placement == "none" else None, seeds=4)
    rows = study.store.candidates()
    scores = [
        type(stored)(stored.key, stored.purpose, stored.score, stored.way, stored.score.seed % 2)
        for stored in study.store.scores(with_correct=True)
    ]
    texts = {row.key: row.placement for row in rows}
    found = study_evidence.StudyEvidence(study.store, study.recipe, texts, scores)
    assert found.get("accuracy", 1).backbones == 2
    assert found.get("accuracy", 1).noise.interaction_sd > 0
    assert found.get("accuracy", 7) is None
