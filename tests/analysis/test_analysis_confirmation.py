from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from made_study import TRUE_GAIN, MadeStudy, everywhere, usual

from nas_attn.analysis.choosing import RIVALS, decided, next_round
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.study.reading import snapshot


def met(now: Snapshot, seed: int = 0) -> list[str]:
    return [view.placement for view in next_round(now, np.random.default_rng(seed))]


def test_no_attention_the_recommended_the_best_uniform_one_and_another_meet(tmp_path: Path) -> None:
    now = snapshot(usual(tmp_path, searched=20).store)
    placements = met(now)
    assert placements[0] == "none"
    assert placements[1] == now.recommendation.placement
    assert len(placements) == len(set(placements)) <= 2 + RIVALS
    best = max((view for view in now.baselines if view.baseline != "none"), key=lambda view: view.values[0])
    assert best.placement in placements
    assert met(now) == placements, "any worker that decides it decides the same"
    assert decided(now)


def test_where_none_is_recommended_the_most_promising_one_meets_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0)
    now = snapshot(usual(tmp_path, searched=20).store)
    assert now.recommendation.placement == "none"
    assert not decided(now)
    placements = met(now)
    assert placements[0] == "none"
    assert len(placements) == 2 + RIVALS
    assert len({rival for seed in range(40) for rival in met(now, seed)}) > len(placements), "rivals are drawn"


def test_only_those_that_may_be_recommended_take_part(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate("none", baseline="none", seeds=2)
    assert met(snapshot(study.store)) == []
    study.candidate(everywhere("se(reduction=8)"), baseline="uniform se(reduction=8)", seeds=2)
    study.candidate("stage1=se(reduction=8)", state="pruned", rungs=1)
    study.sessions()
    assert met(snapshot(study.store)) == ["none", everywhere("se(reduction=8)")]
