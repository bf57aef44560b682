"""Made studies, each with other facts, so that some of them has every kind of answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import made_study
import numpy as np
import pytest
from made_study import IMAGES, MadeStudy, everywhere, recipe, usual

from nas_attn.recipe.purposes import LENGTH, SEARCH, length_protocol
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage.labels import Labels, keep_labels
from nas_attn.storage.records import FILLED, Arithmetic, Fingerprint, Score, Session
from nas_attn.storage.rows import Run
from nas_attn.storage.trial_book import TrialBook

SE, CBAM, ELA = "se(reduction=8)", "cbam(reduction=16, spatial_kernel_size=7)", "ela(kernel_size=7)"
BEST, BARE_KEY = "key-002", "key-000"
"""Keys of the best uniform baseline and of the bare backbone in the usual study."""

LABELS = Labels(tuple("abcd"), np.arange(IMAGES, dtype=np.int32) % 4)

Maker = Callable[[Path, pytest.MonkeyPatch], MadeStudy]


class OtherScores(MadeStudy):
    """A study whose runs have the metrics that a function changes."""

    change: Callable[[str, int, int, dict[str, float]], dict[str, float]]
    """(placement, seed, rung, usual metrics) -> metrics."""

    def score(self, placement: str, seed: int, rung: int) -> Score:
        before = super().score(placement, seed, rung)
        changed = self.change(placement, seed, rung, dict(before.metrics))
        same = changed.get("accuracy") == before.metrics["accuracy"]
        return replace(before, metrics=changed, correct=before.correct if same else None)


def others(
    folder: Path,
    change: Callable[[str, int, int, dict[str, float]], dict[str, float]],
    **tables: Any,
) -> OtherScores:
    """A usual study of twelve candidates with three seeds for each baseline."""
    study = OtherScores(folder, recipe(**tables))
    study.change = change
    study.candidate("none", baseline="none", seeds=3)
    for choice in (SE, CBAM, ELA):
        study.candidate(everywhere(choice), baseline=f"uniform {choice}", seeds=3)
    picked = np.random.default_rng(3)
    for _ in range(9):
        parts = [
            f"stage{i}={choice}"
            for i, choice in enumerate(picked.choice([SE, CBAM, ELA], 3), 1)
            if picked.random() < 0.8
        ]
        study.candidate(" ".join(parts) or "none", seeds=1)
    study.sessions()
    return study


def the_usual(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = usual(folder)
    study.store.set(sites='{"input_shape": [1, 20, 20], "classes": 10, "sites": []}')
    keep_labels(study.store, SEARCH, LABELS)
    return study


def empty(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return MadeStudy(folder)


def only_bare(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = MadeStudy(folder)
    study.candidate("none", baseline="none", seeds=2)
    study.sessions()
    return study


def bare_is_running(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = MadeStudy(folder)
    study.candidate("none", baseline="none", state=None, rungs=2)
    study.candidate(everywhere(SE), baseline="uniform se")
    return study


def single_runs(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    """Two candidates with one run each, so that the noise is not known."""
    study = MadeStudy(folder)
    study.candidate("none", baseline="none")
    study.candidate(f"stage1={SE}")
    study.sessions()
    return study


def small_gains(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    for choice in made_study.TRUE_GAIN:
        patch.setitem(made_study.TRUE_GAIN, choice, 0.0004)
    return usual(folder, searched=3, seed=2)


def no_gains(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    for choice in made_study.TRUE_GAIN:
        patch.setitem(made_study.TRUE_GAIN, choice, -0.004)
    return usual(folder)


def gains_that_do_not_count(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return usual(folder, recipe(answer={"worth": 0.2}))


def worth(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return usual(folder, recipe(answer={"worth": 0.01}), searched=20)


def limit(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return usual(folder, recipe(limits={"max_latency_ratio": 1.12}))


def limit_of_bare(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return usual(folder, recipe(limits={"max_latency_ratio": 1.01}))


def with_control(folder: Path, patch: pytest.MonkeyPatch, gain: float, cost: float) -> MadeStudy:
    patch.setitem(made_study.TRUE_GAIN, "dwconv", gain)
    patch.setitem(made_study.TRUE_COST, "dwconv", cost)
    study = usual(folder)
    study.candidate(everywhere("dwconv"), baseline="control dwconv", seeds=2)
    study.sessions()
    return study


def better_control(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return with_control(folder, patch, 0.03, 0.02)


def dear_control(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return with_control(folder, patch, 0.03, 0.9)


def worse_control(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return with_control(folder, patch, -0.06, 0.02)


def equal_control(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    return with_control(folder, patch, 0.0105, 0.19)


def control_beside_bare(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    for choice in list(made_study.TRUE_GAIN):
        patch.setitem(made_study.TRUE_GAIN, choice, -0.004)
    patch.setitem(made_study.TRUE_GAIN, "dwconv", 0.03)
    patch.setitem(made_study.TRUE_COST, "dwconv", 0.05)
    study = usual(folder, recipe(limits={"max_latency_ratio": 1.4}))
    study.candidate(everywhere("dwconv"), baseline="control dwconv", seeds=3)
    study.sessions()
    return study


def other_backbone(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = usual(folder)
    patch.setitem(made_study.TRUE_GAIN, "backbone=resnet14", 0.05)
    patch.setitem(made_study.TRUE_COST, "backbone=resnet14", 0.25)
    study.candidate("backbone=resnet14", baseline="control resnet14", seeds=3)
    study.sessions()
    return study


def tested_better(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = usual(folder)
    networks = {BEST: everywhere(CBAM), "key-001": everywhere(SE), BARE_KEY: "none"}
    study.validation(networks, gain={BEST: 0.05}, recommended=BEST, margin=0.004)
    keep_labels(study.store, "target/test", LABELS)
    return study


def tested_without_a_difference(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = usual(folder)
    networks = {BEST: everywhere(CBAM), BARE_KEY: "none"}
    study.validation(networks, gain={BEST: 0.0}, recommended=BEST, margin=0.03)
    study.validation(networks, gain={BEST: 0.0}, done=3)
    return study


def tested_worse(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = usual(folder)
    networks = {BEST: everywhere(CBAM), "key-001": everywhere(SE), BARE_KEY: "none"}
    gain = {BEST: -0.05, "key-001": 0.05}
    study.validation(networks, gain=gain, recommended=BEST, diverged="key-001")
    return study


def tested_with_two_machines(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    usually = Arithmetic("float32", "channels_last", "eager", "none", fused=True, batches=FILLED)
    another = replace(usually, precision="bfloat16")

    def mixed(key: str, block: int) -> str:
        return (another if key == BEST and block < 2 else usually).text

    study = usual(folder)
    networks = {BEST: everywhere(CBAM), BARE_KEY: "none"}
    study.validation(networks, gain={BEST: 0.05}, evaluator=True, arithmetic=mixed)
    all_mixed = study.validation(networks, blocks=2, arithmetic=mixed)
    assert all_mixed.number == 2
    return study


def bare_was_tested(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = no_gains(folder, patch)
    networks = {BEST: everywhere(CBAM), BARE_KEY: "none"}
    study.validation(networks, gain={BEST: 0.05}, recommended=BARE_KEY)
    return study


def at_target(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    """Some runs that train as the target says, and so a model of the target."""
    study = usual(folder)
    for seed in range(1000, 1006):
        for key, placement in ((BEST, everywhere(CBAM)), (BARE_KEY, "none")):
            noise = 0.002 * float(study.rng.standard_normal())
            metrics = {"accuracy": 0.8 + 0.02 * (placement != "none") + noise}
            run = Run(key, parse(placement), seed, seed, "target", "validate")
            study.store.add_score(run, Score(seed, 0, 9, metrics), lease=study.lease)
    return study


def longer_bare_runs(study: MadeStudy, epochs: int, gain: float) -> None:
    """Two trainings of the bare backbone for so many epochs."""
    study.store.protocols.put(length_protocol(epochs), "{}")
    for seed in (0, 1):
        right = study.hard + 0.06 * study.rng.standard_normal(IMAGES) < 0.62 + gain
        metrics = {"accuracy": float(right.mean())}
        bits = np.packbits(right).tobytes()
        score = Score(seed, 0, epochs, metrics, correct=bits, examples=IMAGES)
        run = Run(BARE_KEY, BARE, seed, protocol=length_protocol(epochs), purpose=LENGTH)
        study.store.add_score(run, score, lease=study.lease)


def brief_and_open(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    """A target whose length the study has looked for and not found."""
    target = {"epochs": 40, "found": True}
    study = usual(folder, recipe(training={"rungs": [10]}, target=target))
    longer_bare_runs(study, 20, -0.01)
    return study


def longer(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = usual(folder, recipe(training={"rungs": [10]}, target={"epochs": 10}))
    longer_bare_runs(study, 20, 0.06)
    return study


def own_backbones(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    training = {"start": "backbone", "rungs": [1, 3], "backbones": 2}
    return usual(folder, recipe(training=training))


def pretrained(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    start = {"start": "pretrained", "weights": "w.pt"}
    study = usual(folder, recipe(training={"rungs": [1, 3]}, target=start))
    networks = {BEST: everywhere(CBAM), BARE_KEY: "none"}
    study.validation(networks, gain={BEST: 0.05}, recommended=BEST)
    return study


def careful(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    """Few images, hardly learned, still learning, waiting for images."""
    patch.setattr(made_study, "IMAGES", 200)

    def change(placement: str, seed: int, rung: int, metrics: dict[str, float]) -> dict[str, float]:
        more = {"balanced_accuracy": 0.2, "loading_share": 0.45, "train_loss_sum": 0.03}
        return metrics | more | {"train_loss_sum": 0.03 * (rung + 1)}

    study = others(folder, change, training={"start": "scratch", "rungs": [1, 3]})
    study.store.set(sites='{"input_shape": [1, 20, 20], "classes": 10, "sites": []}')
    return study


def constant(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    def change(placement: str, seed: int, rung: int, metrics: dict[str, float]) -> dict[str, float]:
        return metrics | {"accuracy": 0.1, "balanced_accuracy": 0.1}

    return others(folder, change)


def constant_of_an_evaluator(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    def change(placement: str, seed: int, rung: int, metrics: dict[str, float]) -> dict[str, float]:
        return {"map": 0.0}

    training = {"rungs": [3], "evaluator": "a.b:c"}
    return others(folder, change, objectives=["map", "latency"], training=training)


def two_values(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    draws = np.random.default_rng(5)

    def change(placement: str, seed: int, rung: int, metrics: dict[str, float]) -> dict[str, float]:
        level = 0.85 if draws.random() < 0.5 else 0.55
        return metrics | {"accuracy": level + 0.002 * float(draws.standard_normal())}

    return others(folder, change)


def elsewhere(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = usual(folder)
    rows = [row for row in study.store.candidates() if row.key in ("key-001", BEST)]
    device = Fingerprint("cpu", "Small board", (("onnxruntime", "1.22"),))
    conditions: dict[str, Any] = {"batch_size": 1, "threads": 4, "mode": "onnxruntime"}
    for at in range(3):
        samples = tuple(study.sample(row.key, str(row.placement)) for row in rows)
        session = Session(device, conditions, 2e9 + at, 2.5, 9.0, 0.001, samples)
        study.store.add_session(session, owner="test")
    return study


def lower_is_better(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    def change(placement: str, seed: int, rung: int, metrics: dict[str, float]) -> dict[str, float]:
        return {"rmse": 1.0 - metrics["accuracy"]}

    training = {"rungs": [1, 3], "evaluator": "a.b:c"}
    return others(folder, change, objectives=["-rmse", "params"], training=training)


def costs_only(folder: Path, patch: pytest.MonkeyPatch) -> MadeStudy:
    study = MadeStudy(folder, recipe(objectives=["params", "macs"]))
    study.candidate("none", baseline="none", seeds=2)
    study.candidate(everywhere(SE), seeds=2)
    return study


def with_trials(study: MadeStudy) -> None:
    """Writes Optuna's trials of a made study, without which no command reads it."""
    TrialBook(study.database, study.store.name, made_for=study.recipe).close()


STUDIES: tuple[Maker, ...] = (
    the_usual,
    empty,
    only_bare,
    bare_is_running,
    single_runs,
    small_gains,
    no_gains,
    gains_that_do_not_count,
    worth,
    limit,
    limit_of_bare,
    better_control,
    dear_control,
    worse_control,
    equal_control,
    control_beside_bare,
    other_backbone,
    tested_better,
    tested_without_a_difference,
    tested_worse,
    tested_with_two_machines,
    bare_was_tested,
    at_target,
    brief_and_open,
    longer,
    own_backbones,
    pretrained,
    careful,
    constant,
    constant_of_an_evaluator,
    two_values,
    elsewhere,
    lower_is_better,
    costs_only,
)
