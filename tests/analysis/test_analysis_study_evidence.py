from __future__ import annotations

from pathlib import Path

from made_study import MadeStudy, everywhere

from nas_attn.analysis import study_evidence


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
    found = study_evidence.StudyEvidence(study.recipe, texts, scores)
    assert found.get("accuracy", 1).backbones == 2
    assert found.get("accuracy", 1).noise.interaction_sd > 0
    assert found.get("accuracy", 7) is None
