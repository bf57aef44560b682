from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from made_study import MadeStudy, everywhere, recipe, usual

from nas_attn.analysis.choosing import answer
from nas_attn.analysis.snapshot import models_of, searched_as_target
from nas_attn.model import TARGET
from nas_attn.storage import Run
from nas_attn.study.reading import snapshot


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
    found = models_of(study.recipe, texts, scores)
    assert found["accuracy", 1].backbones == 2
    assert found["accuracy", 1].noise.interaction_sd > 0


def at_target(study: MadeStudy, keys: dict[str, str], gain: float, blocks: int = 8) -> None:
    """Runs as the target says, of key -> placement, each better than the bare backbone by as much."""
    for seed in range(1000, 1000 + blocks):
        for key, placement in keys.items():
            score = study.score("none", seed, 0)
            accuracy = 0.8 + gain * (placement != "none") + 0.002 * float(study.rng.standard_normal())
            found = replace(score, seed=seed, epochs=9, metrics={"accuracy": accuracy}, correct=None)
            study.store.add_score(Run(key, placement, seed, seed, "target", "validate"), found, lease=study.lease)


def test_runs_of_the_target_decide_what_is_said_of_gains(tmp_path: Path) -> None:
    study = usual(tmp_path)
    before = snapshot(study.store)
    best = before.recommendation
    assert best.against_none.gain.probability > 0.9
    assert before.evidence["accuracy"].rung == 1
    assert any(line.startswith("Target ") for line in answer(before))
    bare = next(view.key for view in before.candidates if view.baseline == "none")
    at_target(study, {best.key: best.placement}, 0.0)
    alone = snapshot(study.store)
    assert alone.evidence["accuracy"].rung == 1, "one network at the target says nothing of gains there"
    at_target(study, {bare: "none"}, 0.0)
    after = snapshot(study.store)
    assert after.evidence["accuracy"].rung == TARGET
    assert after.evidence["accuracy"].gain(best.key, bare).probability < 0.7
    assert not any(line.startswith("Target ") for line in answer(after))
    assert after.find(best.key).estimates["accuracy"].mean == pytest.approx(0.8, abs=0.01)
    assert after.find(best.key).estimates["accuracy"].seeds == 8


def test_a_search_that_trains_as_the_target_does_has_one_pool_of_runs(tmp_path: Path) -> None:
    made_from = recipe(objectives=["accuracy"], training={"rungs": [9], "start": "scratch"}, target={"epochs": 9})
    assert searched_as_target(made_from)
    assert not searched_as_target(recipe())
    study = MadeStudy(tmp_path, made_from)
    bare = study.candidate("none", baseline="none", seeds=2)
    other = study.candidate(everywhere("se(reduction=8)"), seeds=2)
    at_target(study, {bare: "none", other: everywhere("se(reduction=8)")}, 0.01)
    taken = snapshot(study.store)
    assert taken.evidence["accuracy"].rung == 0
    assert taken.evidence["accuracy"].estimates[bare].seeds == 10
    assert not any(line.startswith("Target ") for line in answer(taken))
