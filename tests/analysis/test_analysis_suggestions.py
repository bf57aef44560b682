from __future__ import annotations

from pathlib import Path

import pytest
from made_study import TRUE_GAIN, MadeStudy, recipe, true_cost, true_gain, usual

from nas_attn.analysis.effects import suggest
from nas_attn.analysis.features import features, notation
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.report import words
from nas_attn.study.reading import snapshot

SE, CBAM = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)"


def studied(folder: Path, **changes: object) -> Snapshot:
    """All but the best two placements: cbam at both of two sites, with and without se at a third."""
    study = MadeStudy(folder, recipe(**changes))
    study.candidate("none", baseline="none", seeds=4)
    for first in ("", f"stage1={CBAM} ", f"stage1={SE} "):
        for second in ("", f"stage2={CBAM} ", f"stage2={SE} "):
            for third in ("", f"stage3={SE}"):
                text = f"{first}{second}{third}".strip()
                if text and not (CBAM in first and CBAM in second):
                    study.candidate(text, seeds=4)
    study.sessions()
    return snapshot(study.store)


def test_what_was_good_at_single_sites_is_put_together(tmp_path: Path) -> None:
    now = studied(tmp_path)
    found = suggest(now)
    assert 1 <= len(found) <= 3
    best = found[0]
    assert {notation([f]) for f in features(best.placement)} >= {f"stage1={CBAM}", f"stage2={CBAM}"}
    assert best.estimate.seeds == 0
    assert best.estimate.mean == pytest.approx(0.70 + true_gain(best.placement), abs=0.01)
    assert best.latency.ratio == pytest.approx(1 + true_cost(best.placement), abs=0.05)
    assert not best.latency.measured
    assert best.probability > 0.6
    tried = {frozenset(features(view.placement)) for view in now.candidates}
    assert not any(frozenset(features(one.placement)) in tried for one in found)
    said = words.suggestion(best)
    assert "(untried): predicted accuracy" in said
    assert "times the backbone's latency; better than the best that is known at that latency, `" in said


def test_nothing_beyond_the_limit_is_suggested(tmp_path: Path) -> None:
    now = studied(tmp_path, limits={"max_latency_ratio": 1.3})
    assert all(one.latency.ratio <= 1.3 for one in suggest(now))
    assert not any(one.placement.count(CBAM) == 2 for one in suggest(now))


def test_where_nothing_differs_nothing_is_suggested_as_a_likely_gain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for choice in TRUE_GAIN:
        monkeypatch.setitem(TRUE_GAIN, choice, 0.0)
    assert suggest(snapshot(usual(tmp_path, searched=20).store)) == ()


def test_few_candidates_suggest_nothing(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate("none", baseline="none")
    assert suggest(snapshot(study.store)) == ()
