"""How long the bare backbone needs, and what an answer says of trainings that are too short or that
twice as long would better.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from made_study import IMAGES, MadeStudy, recipe, recommended, usual

from nas_attn.answer.answer import answer_of
from nas_attn.answer.answer_text import below
from nas_attn.answer.cautions import CautionKind
from nas_attn.answer.length import (
    LengthGain,
    LengthScore,
    MetricKind,
    doublings,
    longer_of,
    needed_length,
    with_usual,
)
from nas_attn.answer.next_step import next_of
from nas_attn.answer.reading import read, snapshot
from nas_attn.answer.snapshot import Means
from nas_attn.model import Gain
from nas_attn.recipe.purposes import LENGTH, length_protocol
from nas_attn.space.placement import BARE
from nas_attn.storage.labels import ValidationLabels
from nas_attn.storage.records import Score
from nas_attn.storage.rows import Run

ACCURACY = MetricKind(share=True, lower_is_better=False)


def scores(*values: float, losses: tuple[float, ...] = ()) -> list[LengthScore]:
    return [
        LengthScore(10 * 2**i, 2, value, losses[i] if losses else None)
        for i, value in enumerate(values)
    ]


@pytest.mark.parametrize(
    ("known", "needed"),
    [
        (scores(0.44, 0.52, 0.53), 20),
        (scores(0.44, 0.44), 10),
        (scores(0.44, 0.52), None),
        (scores(0.44), None),
        (scores(0.90, 0.91, 0.912), 20),
        (scores(0.44, 0.445, losses=(1.4, 1.2)), None),
        (scores(0.44, 0.445, losses=(1.4, 1.6)), 10),
    ],
    ids=[
        "gains once",
        "gains nothing",
        "still gains",
        "one length",
        "near one",
        "loss",
        "worse loss",
    ],
)
def test_the_first_length_whose_double_is_not_clearly_better(
    known: list[LengthScore], needed: int | None
) -> None:
    assert needed_length(known, ACCURACY) == needed


def test_a_loss_is_better_when_it_is_lower() -> None:
    kind = MetricKind(share=False, lower_is_better=True)
    assert needed_length(scores(2.0, 1.5, 1.49), kind) == 20


def made(folder: Path, *, searched: int, target: int) -> MadeStudy:
    """A study whose runs train for `searched` epochs."""
    tables = {"training": {"rungs": [searched]}, "target": {"epochs": target}}
    study = usual(folder, recipe(**tables))
    study.sessions()
    return study


def bare_runs(study: MadeStudy, epochs: int, *, gain: float) -> None:
    """Two trainings of the bare backbone for so many epochs, better by `gain` than the search's."""
    study.store.protocols.put(length_protocol(epochs), "{}")
    (bare,) = (row.key for row in study.store.candidates() if row.baseline == "none")
    for seed in (0, 1):
        right = study.hard + 0.06 * study.rng.standard_normal(IMAGES) < 0.62 + gain
        bits = np.packbits(right).tobytes()
        score = Score(
            seed, 0, epochs, {"accuracy": float(right.mean())}, correct=bits, examples=IMAGES
        )
        run = Run(bare, BARE, seed, protocol=length_protocol(epochs), purpose=LENGTH)
        study.store.add_score(run, score, lease=study.lease)


def test_a_search_that_trains_more_briefly_than_its_target_says_so(tmp_path: Path) -> None:
    now = snapshot(made(tmp_path, searched=10, target=40).store)
    (said,) = (one.text for one in now.cautions if one.kind is CautionKind.TRAINED_LESS)
    assert "10 epochs, the target for 40" in said
    step = next_of(answer_of(now))
    assert step is not None
    assert step.purpose == "test"


def test_that_is_no_caution_once_networks_were_trained_as_the_target_says(tmp_path: Path) -> None:
    study = made(tmp_path, searched=10, target=40)
    for row in study.store.candidates()[:4]:
        for seed in (0, 1):
            score = Score(seed, 0, 40, {"accuracy": 0.7 + 0.01 * row.trial + 0.001 * seed})
            run = Run(row.key, row.placement, seed, protocol="target", purpose="validate")
            study.store.add_score(run, score, lease=study.lease)
    kinds = {caution.kind for caution in snapshot(study.store).cautions}
    assert CautionKind.TRAINED_LESS not in kinds


@pytest.mark.parametrize(
    ("gain", "means", "named"),
    [(0.06, Means.LONGER, False), (0.016, Means.ATTENTION, True), (0.0, Means.ATTENTION, False)],
    ids=["leads", "named", "gains nothing"],
)
def test_a_longer_training_leads_if_it_gains_more_than_attention_and_is_named_if_it_gains(
    tmp_path: Path, gain: float, means: Means, named: bool
) -> None:
    study = made(tmp_path, searched=10, target=10)
    bare_runs(study, 20, gain=gain - 0.002)
    now = snapshot(study.store)
    assert (now.longer.shorter, now.longer.longer, now.longer.seeds) == (10, 20, 2)
    assert now.longer.gain.mean == pytest.approx(gain, abs=0.02)
    found = answer_of(now)
    assert found.means is means
    assert found.taken_key == ("key-000" if means is Means.LONGER else recommended(now).key)
    assert ("Longer" in [row.label for row in below(found)]) == named


def test_a_known_gain_of_length_that_does_not_count_is_not_said_to_be_open(
    tmp_path: Path,
) -> None:
    study = made(tmp_path, searched=10, target=10)
    bare_runs(study, 20, gain=0.06)
    found = answer_of(snapshot(study.store))
    dear = replace(found, taken=found.chosen, worth=0.5)
    assert "Longer" not in {row.label for row in below(dear)}, "it is little beside attention"


@pytest.mark.parametrize(("half_width", "told"), [(0.05, True), (0.01, False)])
def test_where_the_images_are_too_few_the_length_is_said_to_be_open(
    tmp_path: Path, half_width: float, told: bool
) -> None:
    study = made(tmp_path, searched=10, target=10)
    bare_runs(study, 20, gain=-0.002)
    now = snapshot(study.store)
    assert now.longer is not None
    gain = replace(now.longer.gain, mean=0.0, low=-half_width, high=half_width, probability=0.5)
    decision = answer_of(replace(now, longer=replace(now.longer, gain=gain, seen=None)))
    open_ = [row.text for row in below(decision) if "too few" in row.text]
    assert bool(open_) == told


def test_where_few_images_tell_little_what_is_usual_counts(tmp_path: Path) -> None:
    study = made(tmp_path, searched=10, target=10)
    bare_runs(study, 20, gain=-0.002)
    facts = read(study.store)
    (bare,) = (row.key for row in facts.candidates if row.is_bare)
    stored = [*facts.scores, *facts.length_scores]
    scores = {
        epochs: {s.score.seed: s.score for s in stored if (s.key, s.score.epochs) == (bare, epochs)}
        for epochs in (10, 20)
    }
    few = {
        epochs: {seed: replace(score, correct=None) for seed, score in of.items()}
        for epochs, of in scores.items()
    }
    found = longer_of(facts.recipe, few, "accuracy", ValidationLabels(), 0.04, images=2000)
    assert found is not None
    usual = next(one for one in doublings() if one.fits("scratch", 160))
    mean, sd = usual.gain(0.62)
    assert found.of_trainings.mean < found.gain.mean < mean
    assert found.gain.sd < min(found.of_trainings.sd, sd)
    many = longer_of(facts.recipe, few, "accuracy", ValidationLabels(), 0.04, images=50_000)
    assert many is not None
    assert many.gain.sd < found.gain.sd, "more is known of so many steps"


def test_what_is_usual_stands_beside_what_was_seen(tmp_path: Path) -> None:
    now = snapshot(made(tmp_path, searched=10, target=10).store)
    seen = Gain.normal(0.02, 0.023)
    usual = LengthGain(10, 20, 2, with_usual(seen, 0.024, 0.019), seen)
    found = answer_of(replace(now, longer=usual))
    (said,) = (row.text for row in below(found) if row.label == "Longer")
    assert "94 % likely to help; seen here: +2 points (−3 to +7), the rest is usual" in said


def test_what_is_usual_is_no_surer_of_a_gain_than_nine_in_ten() -> None:
    for one in doublings():
        assert Gain.normal(one.mean, one.sd).probability < 0.905
