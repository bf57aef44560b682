"""Samplers on a replayed table: NAS-Bench-201's 15,625 architectures stand for placements on six blocks."""

from functools import cache
from pathlib import Path

import numpy as np
import optuna
import pytest

from nas_attn import backbones
from nas_attn.analysis.fronts import hypervolume
from nas_attn.attachment import survey
from nas_attn.recipe import BackboneSection
from nas_attn.space import SearchSpace
from nas_attn.space_schema import SpaceSpec
from nas_attn.study.sampling import DistinctSampler, Exhausted, distributions

TABLE = Path(__file__).parents[2].parent / "shared" / "data" / "nasbench201.npz"
TYPES = ["none", "se", "eca", "simam", "cbam"]


@cache
def sites():  # type: ignore[no-untyped-def]
    model = backbones.build(BackboneSection(name="resnet14", width=8), input_shape=(3, 16, 16), classes=4)
    return survey(model, (3, 16, 16)).sites


def space(types: list[str] = TYPES, **table: object) -> SearchSpace:
    choices = {name: {} for name in types if name != "none"}
    spec = {"name": "table", "sites": {"granularity": "block"}, "choices": choices, **table}
    return SearchSpace(SpaceSpec.model_validate(spec), sites())


def run(name: str, found: SearchSpace, trials: int, seed: int, objective) -> optuna.Study:  # type: ignore[no-untyped-def]
    sampler = DistinctSampler(name, found, seed=seed, trials=trials)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for _ in range(trials):
        trial = study.ask(distributions(found))
        study.tell(trial, objective(trial.params))
    return study


def values(params: dict[str, str]) -> tuple[float, float]:
    """Something cheap whose optimum the samplers can find."""
    return sum(len(v) * (i + 1) for i, v in enumerate(params.values())), sum(v != "none" for v in params.values())


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "placement", "auto"])
def test_no_placement_is_proposed_twice_and_none_outside_the_space(name: str) -> None:
    found = space(["se", "eca"], limits={"max_modules": 2})
    study = run(name, found, found.count(), 0, values)
    proposed = [tuple(trial.params[site] for site in found.parameters) for trial in study.trials]
    assert len(set(proposed)) == found.count() == 73
    assert all(found.contains(trial.params) for trial in study.trials)


@pytest.mark.parametrize("name", ["random", "tpe", "nsga2", "placement"])
def test_an_exhausted_space_is_said_to_be(name: str) -> None:
    found = space(["simam"], sites={"include": ["stage3"]})
    study = run(name, found, found.count(), 0, values)
    with pytest.raises(Exhausted):
        study.ask(distributions(found))


@pytest.mark.parametrize("name", ["tpe", "placement"])
def test_proposals_do_not_depend_on_a_restart(name: str) -> None:
    found = space()
    whole = run(name, found, 25, 3, values)
    half = run(name, found, 15, 3, values)
    half.sampler = DistinctSampler(name, found, seed=3, trials=25)
    for _ in range(10):
        trial = half.ask(distributions(found))
        half.tell(trial, values(trial.params))
    assert [t.params for t in whole.trials] == [t.params for t in half.trials]


def test_a_trial_that_only_waits_counts_as_seen() -> None:
    found = space(["simam"], sites={"granularity": "block", "include": ["stage3.*"]})
    sampler = DistinctSampler("random", found, seed=0, trials=4)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    waiting = {"stage3.block1": "simam", "stage3.block2": "simam"}
    study.enqueue_trial(waiting)
    study.enqueue_trial({"stage3.block1": "none", "stage3.block2": "none"})
    first = study.ask(distributions(found))
    assert first.params == waiting
    asked = [study.ask(distributions(found)).params for _ in range(3)]
    assert len({tuple(p.items()) for p in [first.params, *asked]}) == 4


@cache
def table() -> tuple[dict[tuple[int, ...], int], np.ndarray, np.ndarray]:
    if not TABLE.exists():
        pytest.skip(f"{TABLE} is not there")
    with np.load(TABLE) as file:
        index = {tuple(int(op) for op in row): i for i, row in enumerate(file["ops"])}
        return index, file["cifar10_val_accuracy_seeds"], file["device_latency_ms"][2]


def regret(name: str, trials: int, seed: int) -> float:
    """Share of the whole table's hypervolume that the study's front lacks, by the mean accuracies over seeds."""
    index, accuracy, latency = table()
    mean = np.nanmean(accuracy, axis=1)
    rng = np.random.default_rng(seed)
    rows: list[int] = []

    def replay(params: dict[str, str]) -> tuple[float, float]:
        row = index[tuple(TYPES.index(value) for value in params.values())]
        rows.append(row)
        seen = accuracy[row][~np.isnan(accuracy[row])]
        return float(rng.choice(seen)), float(latency[row])

    run(name, space(), trials, seed, replay)
    scaled = np.stack([1 - mean / mean.max(), (latency - latency.min()) / np.ptp(latency)], axis=1)
    reference = (0.3, 0.6)
    return 1 - hypervolume(scaled[rows], reference) / hypervolume(scaled, reference)


def test_tpe_and_nsga2_learn_where_random_does_not() -> None:
    mean = {name: np.mean([regret(name, 150, seed) for seed in range(3)]) for name in ("random", "tpe", "nsga2")}
    assert mean["tpe"] < 0.7 * mean["random"]
    assert mean["nsga2"] < 0.9 * mean["random"]
