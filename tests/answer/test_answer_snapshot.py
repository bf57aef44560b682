from __future__ import annotations

import json
import zlib
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from made_study import IMAGES, MadeStudy, everywhere, recipe, recommended, usual

from nas_attn.answer.answer import answer_of
from nas_attn.answer.as_json import answer_as_json
from nas_attn.answer.cautions import CautionKind
from nas_attn.answer.headline import nothing_recommended
from nas_attn.answer.modelling import models_of, searched_as_target
from nas_attn.answer.per_image import mistakes
from nas_attn.answer.reading import read, snapshot
from nas_attn.answer.reasons import rule_text, why_rows
from nas_attn.answer.snapshot import STATES, CandidateView, Snapshot
from nas_attn.model import TARGET_RUNG
from nas_attn.report.page_tables import gains_of_runs
from nas_attn.space.notation import parse
from nas_attn.storage.labels import Labels
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Run

SE, CBAM, ELA = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)", "ela(kernel_size=7)"


def by_label(taken: Snapshot, label: str) -> CandidateView:
    return next(view for view in taken.candidates if view.label == label)


def test_an_empty_study_is_a_snapshot_too(tmp_path: Path) -> None:
    taken = snapshot(MadeStudy(tmp_path).store)
    assert (taken.candidates, taken.front, answer_of(taken).reason, taken.latency) == (
        (),
        (),
        None,
        None,
    )
    assert taken.counts == dict.fromkeys(STATES, 0)
    assert taken.primary == "accuracy"
    json.dumps(answer_as_json(answer_of(taken)), allow_nan=False)


def test_the_recommendation_is_the_best_of_the_truth_and_sure_of_it(now: Snapshot) -> None:
    best = recommended(now)
    assert str(best.placement).count(CBAM) + str(best.placement).count(SE) >= 2
    gain = best.gains["accuracy"]
    assert gain.probability > 0.9
    assert gain.mean == pytest.approx(0.025, abs=0.012)
    (attention,) = why_rows(answer_of(now))
    assert attention[-1] == "taken"


def test_within_a_latency_limit_the_recommendation_keeps_it(tmp_path: Path) -> None:
    taken = snapshot(usual(tmp_path, recipe(limits={"max_latency_ratio": 1.12})).store)
    best = recommended(taken)
    assert best.latency.ratio <= 1.12
    assert "1.12 times" in rule_text(answer_of(taken))


@pytest.mark.parametrize(
    ("rungs", "lacks"), [(1, "has not been scored"), (2, "has not ended all its runs")]
)
def test_nothing_is_recommended_while_no_attention_is_being_trained(
    rungs: int, lacks: str, tmp_path: Path
) -> None:
    made = MadeStudy(tmp_path)
    made.candidate("none", baseline="none", state=None, rungs=rungs)
    made.candidate(everywhere("se(reduction=8)"), baseline="uniform se")
    taken = snapshot(made.store)
    assert answer_of(taken).reason is None
    assert lacks in nothing_recommended(answer_of(taken))


def test_the_front_holds_what_no_scored_candidate_beats(now: Snapshot) -> None:
    scored = [view for view in now.candidates if view.state == "scored"]
    for view in scored:
        beaten = any(
            o.values[0] >= view.values[0]
            and o.values[1] <= view.values[1]
            and o.values != view.values
            for o in scored
        )
        assert view.on_front == (not beaten)
    assert by_label(now, "none").on_front  # nothing is faster
    assert [v.values[0] for v in now.front] == sorted(
        (v.values[0] for v in now.front), reverse=True
    )


def test_pruned_failed_and_infeasible_candidates_are_there_but_not_on_the_front(
    now: Snapshot,
) -> None:
    assert now.counts == {"running": 1, "scored": 13, "pruned": 3, "infeasible": 1, "failed": 1}
    (failed,) = (caution for caution in now.cautions if caution.kind is CautionKind.FAILED)
    assert failed.text.startswith("1 of 19 candidates failed")
    for view in now.candidates:
        if view.state != "scored":
            assert not view.on_front
    assert all(
        view.rung == 0 and view.beats_none is None
        for view in now.candidates
        if view.state == "pruned"
    )


def test_the_bare_backbone_is_its_own_reference(now: Snapshot) -> None:
    latency = by_label(now, "none").latency
    assert (latency.ratio, latency.low, latency.high, latency.reference_ms) == (1.0, 1.0, 1.0, 4.0)


def test_the_noise_floor_is_of_the_last_rung_and_measured(now: Snapshot) -> None:
    floor = now.noise["accuracy"]
    assert floor.source == "seeds"
    assert floor.seed_sd < (0.25 / IMAGES) ** 0.5, "the images are the same for all runs"
    assert floor.repeated == 7
    assert set(now.noise) == {"accuracy"}


def test_sessions_with_an_odd_control_are_counted_as_dropped(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    study.candidate(everywhere(SE))
    study.sessions(4)
    study.sessions(1, control=0.2)
    record = snapshot(study.store).latency
    assert (record.sessions, record.dropped, record.machine) == (5, 1, "Test CPU 3000")
    assert record.control_spread < 0.01


def test_objectives_of_every_kind(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path, recipe(objectives=["loss", "latency", "params", "macs", "memory"]))
    study.candidate(everywhere(SE))
    study.sessions(1)
    view = snapshot(study.store).candidates[0]
    assert view.values[0] == view.estimates["loss"].mean
    assert view.values[2:] == (82_500.0, 12_620_000.0, 3_000_000.0)
    assert snapshot(study.store).primary == "loss"
    assert view.on_front


def test_an_evaluators_metric_where_lower_is_better(tmp_path: Path) -> None:
    made = recipe(objectives=["-rmse", "params"], training={"rungs": [1, 3], "evaluator": "a.b:c"})
    study = MadeStudy(tmp_path, made)
    for placement, rmse in (("none", 0.50), (f"stage1={SE}", 0.40), (f"stage2={ELA}", 0.60)):
        key = study.candidate(placement, baseline="none" if placement == "none" else None, rungs=0)
        for seed in range(3):
            score = Score(seed, 1, 3, {"rmse": rmse + 0.01 * seed})
            study.store.add_score(Run(key, parse(placement), seed), score, lease=study.lease)
    taken = snapshot(study.store)
    assert taken.primary == "rmse"
    assert [view.on_front for view in taken.candidates] == [True, True, False]
    assert str(recommended(taken).placement) == f"stage1={SE}"
    assert taken.candidates[1].beats_none > 0.9 > 0.1 > taken.candidates[2].beats_none
    gains = [gains_of_runs(taken, "rmse", view) for view in taken.candidates]
    assert [round(of[0], 1) for of in gains] == [0.0, 0.1, -0.1]


def test_without_a_trained_objective_there_is_a_front_and_accuracy_is_still_compared(
    tmp_path: Path,
) -> None:
    study = MadeStudy(tmp_path, recipe(objectives=["params", "macs"]))
    study.candidate("none", baseline="none")
    study.candidate(everywhere(SE))
    taken = snapshot(study.store)
    assert [str(view.placement) for view in taken.front] == ["none"]
    assert taken.primary == "accuracy"
    assert str(recommended(taken).placement) == "none"


def test_a_diverged_run_takes_nobody_along(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    good = study.candidate(everywhere(SE), seeds=2)
    bad = study.candidate(everywhere(ELA), rungs=0)
    nan = Score(0, 1, 3, {"accuracy": float("nan"), "loss": float("inf")})
    study.store.add_score(Run(bad, parse(everywhere(ELA)), 0), nan, lease=study.lease)
    study.sessions(1)
    taken = snapshot(study.store)
    assert [view.key for view in taken.front] == [good]
    assert taken.find(bad).estimates == {}
    json.dumps(answer_as_json(answer_of(taken)), allow_nan=False)


def test_the_dictionary_says_it_all_in_json(now: Snapshot) -> None:
    plain = json.loads(json.dumps(answer_as_json(answer_of(now)), allow_nan=False))
    assert plain["study"] == "made"
    assert plain["recipe"]["training"]["rungs"] == [1, 3]
    assert plain["front"] == [view.key for view in now.front]
    one, three = plain["noise"]["accuracy"]["reliability"]
    assert 0 < one < three < 1
    first = plain["candidates"][1]
    assert first["estimates"]["accuracy"]["seeds"] == 3
    assert first["latency"]["ratio"] == pytest.approx(1.15, abs=0.02)
    assert plain["recommendation"]["gain"]["probability"] > 0.9


def test_runs_of_several_backbones_are_told_apart(tmp_path: Path) -> None:
    study = MadeStudy(tmp_path)
    for placement in ("none", everywhere("se(reduction=8)"), "stage1=se(reduction=8)"):
        study.candidate(placement, baseline="none" if placement == "none" else None, seeds=4)
    rows = study.store.candidates()
    scores = [
        replace(stored, backbone=stored.score.seed % 2)
        for stored in study.store.scores(with_correct=True)
    ]
    texts = {row.key: row.placement for row in rows}
    assert models_of(replace(read(study.store), scores=scores), texts)["accuracy", 1].backbones == 2


def at_target(study: MadeStudy, keys: dict[str, Any], gain: float, blocks: int = 8) -> None:
    """Runs as the target says, of key -> placement, each better than the bare backbone by as
    much.
    """
    for seed in range(1000, 1000 + blocks):
        for key, placement in keys.items():
            score = study.score("none", seed, 0)
            accuracy = (
                0.8 + gain * (placement != "none") + 0.002 * float(study.rng.standard_normal())
            )
            found = replace(
                score, seed=seed, epochs=9, metrics={"accuracy": accuracy}, correct=None
            )
            study.store.add_score(
                Run(key, placement, seed, seed, "target", "validate"), found, lease=study.lease
            )


def test_runs_of_the_target_decide_what_is_said_of_gains(tmp_path: Path) -> None:
    study = usual(tmp_path)
    before = snapshot(study.store)
    best = recommended(before)
    assert best.gains["accuracy"].probability > 0.9
    assert before.evidence["accuracy"].rung == 1
    bare = next(view.key for view in before.candidates if view.baseline == "none")
    at_target(study, {best.key: best.placement}, 0.0)
    alone = snapshot(study.store)
    assert alone.evidence["accuracy"].rung == 1, (
        "one network at the target says nothing of gains there"
    )
    at_target(study, {bare: "none"}, 0.0)
    after = snapshot(study.store)
    assert after.evidence["accuracy"].rung == TARGET_RUNG
    assert after.evidence["accuracy"].gain(best.key, bare).probability < 0.7
    assert after.find(best.key).estimates["accuracy"].mean == pytest.approx(0.8, abs=0.01)
    assert after.find(best.key).estimates["accuracy"].seeds == 8


@pytest.mark.parametrize("of", ["training", "target"])
def test_where_all_start_from_the_same_weights_a_gain_is_less_likely(
    tmp_path: Path, of: str
) -> None:
    stated = []
    for start in ({"start": "scratch"}, {"start": "pretrained", "weights": "w.pt"}):
        tables: dict[str, Any] = {
            "training": {"start": "scratch", "rungs": [1, 3]},
            "target": {"start": "scratch"},
        }
        tables[of] |= start
        study = MadeStudy(tmp_path, recipe(**tables), name=start["start"])
        keys = {study.candidate(text, seeds=2): text for text in (everywhere(SE), "none")}
        at_target(study, keys if of == "target" else {}, 0.001)
        stated.append(snapshot(study.store).evidence["accuracy"].gain(*keys).probability)
    assert stated[1] + 0.01 < stated[0]


def test_a_search_that_trains_as_the_target_does_has_one_pool_of_runs(tmp_path: Path) -> None:
    made_from = recipe(
        objectives=["accuracy"], training={"rungs": [9], "start": "scratch"}, target={"epochs": 9}
    )
    assert searched_as_target(made_from)
    assert not searched_as_target(recipe())
    follows = recipe(
        training={"transforms": "mine:flips"},
        target={"weights": "w.pt", "epochs": 7, "learning_rate": 0.3},
    )
    training = follows.training
    assert (training.start, training.weights, training.rungs) == ("pretrained", "w.pt", [7])
    assert training.finetune_learning_rate == 0.3
    assert searched_as_target(follows)
    assert not searched_as_target(recipe(training={"rungs": [3, 9]})), (
        "two cycles of the learning rate"
    )
    study = MadeStudy(tmp_path, made_from)
    bare = study.candidate("none", baseline="none", seeds=2)
    other = study.candidate(everywhere("se(reduction=8)"), seeds=2)
    at_target(study, {bare: "none", other: everywhere("se(reduction=8)")}, 0.01)
    taken = snapshot(study.store)
    assert taken.evidence["accuracy"].rung == 0
    assert taken.evidence["accuracy"].estimates[bare].seeds == 10


LABELS = torch.arange(IMAGES) % 4


def run(right: list[int], count: int = 20) -> Score:
    bits = np.isin(np.arange(count), right)
    return Score(0, 1, 3, {}, correct=np.packbits(bits).tobytes(), examples=count)


def told(seed: int, right: list[int], **answers: Any) -> Score:
    """A run that tells all, of 20 images; a wrong one is taken for class 1."""
    of = answers or {"wrong": [1] * (20 - len(right))}
    return replace(run(right), seed=seed, answers=zlib.compress(json.dumps(of).encode()))


def test_mistakes_are_told_by_class() -> None:
    labels = Labels(("ant", "bee"), np.repeat([0, 1], 10).astype(np.int32))
    all_right, half = list(range(20)), [*range(5), *range(10, 20)]
    runs = {
        "best": [told(s, all_right) for s in (0, 1)],
        "bare": [told(0, half), told(1, half[1:])],
        "third": [told(0, half)],
    }
    found = mistakes(labels, runs, "accuracy")
    assert (found.what, found.images, found.shares[:2]) == (
        "accuracy",
        (10, 10),
        ((1.0, 1.0), (0.45, 1.0)),
    )
    assert mistakes(labels, {**runs, "bare": []}, "accuracy") is None


def test_of_numbers_the_images_are_told_on_which_the_first_network_is_off_most() -> None:
    labels = Labels((), np.zeros(0, np.int32))

    def off(*errors: float) -> list[Score]:
        return [told(0, [], contributions={"mae": list(errors)})]

    found = mistakes(labels, {"best": off(1.0, 3.0, 2.0), "bare": off(4.0, 0.5, 2.5)}, "mae")
    assert found is not None
    assert [(one.image, one.off) for one in found.worst] == [
        (1, (3.0, 0.5)),
        (2, (2.0, 2.5)),
        (0, (1.0, 4.0)),
    ]


def test_masks_and_boxes_have_their_own_shares_of_a_class() -> None:
    labels, right = Labels(("road", "tree"), np.zeros(0, np.int32)), {"images": [0.5] * 19 + [1.0]}
    masks = {
        k: [told(0, [], counts=[[n, 10 - n], [0, 10]], **right)]
        for k, n in (("best", 10), ("bare", 5))
    }
    found = mistakes(labels, masks, "mean_iou")
    assert (found.what, found.shares) == ("mean_iou", ((1.0, 1.0), (0.5, pytest.approx(2 / 3))))
    assert found.worst == ()
    boxes = {
        k: [
            told(
                s, [], average_precision=[ap + s / 8, None], images=[ap] * 3, counts=[[1, 0, 1]] * 3
            )
            for s in (0, 1)
        ]
        for k, ap in (("a", 0.5), ("b", 0.25))
    }
    found = mistakes(labels, boxes, "map50_95")
    assert (found.what, found.shares) == ("map50_95", ((0.5625, None), (0.3125, None)))
