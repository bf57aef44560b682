from __future__ import annotations

import json
from pathlib import Path

import pytest
from made_study import IMAGES, MadeStudy, everywhere, recipe, usual

from nas_attn.analysis.choosing import nothing_recommended
from nas_attn.analysis.snapshot import STATES, CandidateView, Snapshot
from nas_attn.storage import Run
from nas_attn.study.reading import snapshot

SE, CBAM, ELA = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)", "ela(kernel_size=7)"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(usual(tmp_path_factory.mktemp("usual")).store)


def by_label(taken: Snapshot, label: str) -> CandidateView:
    return next(view for view in taken.candidates if view.label == label)


def test_an_empty_study_is_a_snapshot_too(tmp_path: Path) -> None:
    taken = snapshot(MadeStudy(tmp_path).store)
    assert (taken.candidates, taken.front, taken.recommendation, taken.latency) == ((), (), None, None)
    assert taken.counts == dict.fromkeys(STATES, 0)
    assert taken.primary == "accuracy"
    json.dumps(taken.as_dict(), allow_nan=False)


def test_the_recommendation_is_the_best_of_the_truth_and_sure_of_it(made: Snapshot) -> None:
    best = made.recommendation
    assert best is not None
    assert best.placement.count(CBAM) + best.placement.count(SE) >= 2
    assert best.against_none is not None
    assert best.against_none.gain.probability > 0.9
    assert best.against_none.gain.mean == pytest.approx(0.025, abs=0.012)
    assert best.placement in best.answer[0]
    assert "the bare backbone" in best.why[2]


def test_within_a_latency_limit_the_recommendation_keeps_it(tmp_path: Path) -> None:
    taken = snapshot(usual(tmp_path, recipe(limits={"max_latency_ratio": 1.12})).store)
    best = taken.recommendation
    assert best is not None
    assert best.latency.ratio <= 1.12
    assert "1.12 times" in best.rule


def test_where_attention_only_harms_none_is_recommended(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate("none", baseline="none", seeds=3)
    for stage in (1, 2, 3):
        study.candidate(f"stage{stage}={ELA}", seeds=2)
    study.sessions()
    best = snapshot(study.store).recommendation
    assert best.placement == "none"
    assert best.against_none is None
    assert "bare backbone" in best.answer[0]


def test_nothing_is_recommended_while_no_attention_is_being_trained(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path)
    made.candidate("none", baseline="none", state=None, rungs=1)
    made.candidate(everywhere("se(reduction=8)"), baseline="uniform se")
    taken = snapshot(made.store)
    assert taken.recommendation is None
    assert nothing_recommended(taken) == (
        "No recommendation yet: the bare backbone, with which all others are compared, has not been scored."
    )


def test_the_front_holds_what_no_scored_candidate_beats(made: Snapshot) -> None:
    scored = [view for view in made.candidates if view.state == "scored"]
    for view in scored:
        beaten = any(
            o.values[0] >= view.values[0] and o.values[1] <= view.values[1] and o.values != view.values for o in scored
        )
        assert view.on_front == (not beaten)
    assert by_label(made, "none").on_front  # nothing is faster
    assert [v.values[0] for v in made.front] == sorted((v.values[0] for v in made.front), reverse=True)


def test_pruned_failed_and_infeasible_candidates_are_there_but_not_on_the_front(made: Snapshot) -> None:
    assert made.counts == {"running": 1, "scored": 13, "pruned": 3, "infeasible": 1, "failed": 1}
    for view in made.candidates:
        if view.state != "scored":
            assert not view.on_front
    assert all(view.rung == 0 and view.beats_none is None for view in made.candidates if view.state == "pruned")


def test_the_bare_backbone_is_its_own_reference(made: Snapshot) -> None:
    latency = by_label(made, "none").latency
    assert (latency.ratio, latency.low, latency.high, latency.reference_ms) == (1.0, 1.0, 1.0, 4.0)


def test_the_noise_floor_is_of_the_last_rung_and_measured(made: Snapshot) -> None:
    floor = made.noise["accuracy"]
    assert floor.source == "seeds"
    assert floor.seed_sd < (0.25 / IMAGES) ** 0.5, "the images are the same for all runs"
    assert floor.repeated == 7
    assert set(made.noise) == {"accuracy"}


def test_sessions_with_an_odd_control_are_counted_as_dropped(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate(everywhere(SE))
    study.sessions(4)
    study.sessions(1, control=0.2)
    record = snapshot(study.store).latency
    assert (record.sessions, record.dropped, record.machine) == (5, 1, "Test CPU 3000")
    assert record.control_spread < 0.01


def test_objectives_of_every_kind(tmp_path: Path) -> None:
    wanted = ["loss", "latency", "params", "macs", "memory"]
    study = MadeStudy(tmp_path, recipe(objectives=wanted))
    study.candidate(everywhere(SE))
    study.sessions(1)
    view = snapshot(study.store).candidates[0]
    assert view.values[0] == view.estimates["loss"].mean
    assert view.values[2:] == (82_500.0, 12_620_000.0, 3_000_000.0)
    assert snapshot(study.store).primary == "loss"
    assert view.on_front


def test_an_evaluators_metric_where_lower_is_better(tmp_path: Path) -> None:
    from nas_attn.records import Score

    study = MadeStudy(
        tmp_path, recipe(objectives=["-rmse", "params"], training={"rungs": [1, 3], "evaluator": "a.b:c"})
    )
    for placement, rmse in (("none", 0.50), (f"stage1={SE}", 0.40), (f"stage2={ELA}", 0.60)):
        key = study.candidate(placement, baseline="none" if placement == "none" else None, rungs=0)
        for seed in range(3):
            score = Score(seed, 1, 3, {"rmse": rmse + 0.01 * seed})
            study.store.add_score(Run(key, placement, seed), score, lease=study.lease)
    taken = snapshot(study.store)
    assert taken.primary == "rmse"
    assert [view.on_front for view in taken.candidates] == [True, True, False]
    assert taken.recommendation.placement == f"stage1={SE}"
    assert taken.candidates[1].beats_none > 0.9 > 0.1 > taken.candidates[2].beats_none


def test_without_a_trained_objective_there_is_a_front_and_accuracy_is_still_compared(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path, recipe(objectives=["params", "macs"]))
    study.candidate("none", baseline="none")
    study.candidate(everywhere(SE))
    taken = snapshot(study.store)
    assert [view.placement for view in taken.front] == ["none"]
    assert taken.primary == "accuracy"
    assert taken.recommendation.placement == "none"


def test_a_diverged_run_takes_nobody_along(tmp_path: Path) -> None:
    from nas_attn.records import Score

    study = MadeStudy(tmp_path)
    good = study.candidate(everywhere(SE), seeds=2)
    bad = study.candidate(everywhere(ELA), rungs=0)
    nan = Score(0, 1, 3, {"accuracy": float("nan"), "loss": float("inf")})
    study.store.add_score(Run(bad, everywhere(ELA), 0), nan, lease=study.lease)
    study.sessions(1)
    taken = snapshot(study.store)
    assert [view.key for view in taken.front] == [good]
    assert taken.find(bad).estimates == {}
    json.dumps(taken.as_dict(), allow_nan=False)


def test_the_dictionary_says_it_all_in_json(made: Snapshot) -> None:
    plain = json.loads(json.dumps(made.as_dict(), allow_nan=False))
    assert plain["study"] == "made"
    assert plain["recipe"]["training"]["rungs"] == [1, 3]
    assert plain["front"] == [view.key for view in made.front]
    one, three = plain["noise"]["accuracy"]["reliability"]
    assert 0 < one < three < 1
    first = plain["candidates"][1]
    assert first["estimates"]["accuracy"]["seeds"] == 3
    assert first["latency"]["ratio"] == pytest.approx(1.15, abs=0.02)
    assert plain["recommendation"]["against_none"]["gain"]["probability"] > 0.9
