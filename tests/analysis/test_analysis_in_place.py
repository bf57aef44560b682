"""What a choice gains in two networks: alone, and next to the recommended others."""

from pathlib import Path

import pytest
from made_study import MadeStudy, everywhere, usual

from nas_attn.analysis.effects import Effect, fit_effects
from nas_attn.analysis.snapshot import Snapshot
from nas_attn.study.reading import snapshot

SE, CBAM = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)"


@pytest.fixture(scope="module")
def now(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    study = usual(tmp_path_factory.mktemp("made"))
    study.candidate(f"stage1={SE}", seeds=2)
    study.candidate(f"stage2={CBAM} stage3={CBAM}", seeds=3)
    study.sessions()
    return snapshot(study.store)


def choice(now: Snapshot, what: str, site: str, name: str) -> Effect:
    found = fit_effects(now, what)
    assert found is not None
    (row,) = (row for row in found.at("choice") if (row.site, row.name) == (site, name))
    return row


def test_alone_is_what_the_front_says_of_the_same_placement(now: Snapshot) -> None:
    (view,) = (view for view in now.candidates if view.placement == f"stage1={SE}")
    alone, gain = choice(now, "accuracy", "stage1", SE).alone, view.gains["accuracy"]
    assert alone is not None
    assert (alone.mean, alone.low, alone.high) == pytest.approx((gain.mean, gain.low, gain.high))
    bare = now.candidates[0]
    runs = [{p.seed: p.metrics["accuracy"] for p in v.scores if p.rung == 1} for v in (view, bare)]
    assert alone.runs == 2
    assert alone.measured == pytest.approx(sum(runs[0][seed] - runs[1][seed] for seed in (0, 1)) / 2)


def test_beside_the_recommended_a_choice_is_compared_with_nothing_at_its_site(now: Snapshot) -> None:
    best = now.recommendation
    assert best is not None
    assert best.placement == everywhere(CBAM)
    beside = choice(now, "accuracy", "stage1", CBAM).beside
    assert beside is not None
    (without,) = (view for view in now.candidates if view.placement == f"stage2={CBAM} stage3={CBAM}")
    gain = now.evidence["accuracy"].gain(best.key, without.key)
    assert gain is not None
    assert (beside.mean, beside.runs) == (pytest.approx(gain.mean), 3)
    never = choice(now, "accuracy", "stage3", "ela(kernel_size=7)").beside
    assert never is not None
    assert (never.measured, never.runs) == (None, 0)


def test_latency_is_the_difference_of_two_networks(now: Snapshot) -> None:
    found = choice(now, "latency", "stage1", SE)
    assert found.alone is not None
    assert found.alone.mean == pytest.approx(0.05, abs=0.01)
    assert found.alone.sure
    assert found.alone.low < 0.05 < found.alone.high
    assert found.beside is not None
    assert found.beside.mean == pytest.approx(0.05, abs=0.02), "next to the others it was never measured"


def test_without_scores_nothing_is_said(tmp_path: Path) -> None:
    assert fit_effects(snapshot(MadeStudy(tmp_path).store), "accuracy") is None
