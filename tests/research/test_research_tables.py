"""The reader of research/tables: what it says a table's runs vary by, where that is known."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from research.tables import read

SD = {
    "additive": 0.03,
    "other": 0.01,
    "backbone": 0.01,
    "seed": 0.008,
    "interaction": 0.006,
    "rest": 0.005,
}
TARGET = {"additive": 0.05, "other": 0.01, "level": 0.01, "rest": 0.01}


def made(seed: int, blocks: int = 4, repeated: int = 13) -> tuple[read.Table, np.ndarray]:
    """A table of 64 placements that varies by SD and TARGET; its search accuracy's truth. The
    target's sites matter as the search's.
    """
    random = np.random.default_rng(seed)
    choices = np.array(list(itertools.product(range(4), repeat=3)))
    n = len(choices)
    sites = random.normal(size=(3, 4)) / np.sqrt(3)
    sums = sites[np.arange(3), choices].sum(1)

    def normal(name: str, *shape: int) -> np.ndarray:
        return random.normal(0, SD[name], shape)

    truth = SD["additive"] * sums + normal("other", n)
    on_backbone = truth + normal("backbone", blocks, 1) + normal("interaction", blocks, n)
    search = on_backbone + normal("seed", blocks, 1) + normal("rest", blocks, n)
    repeat = on_backbone + normal("seed", blocks, 1) + normal("rest", blocks, n)
    repeat[:, repeated:] = np.nan
    goal = TARGET["additive"] * sums + random.normal(0, TARGET["other"], n)
    target = (
        goal
        + random.normal(0, TARGET["level"], (blocks, 1))
        + random.normal(0, TARGET["rest"], (blocks, n))
    )
    images = np.zeros((blocks, n, 40), dtype=bool)

    def metrics(values: np.ndarray) -> dict[str, np.ndarray]:
        return {name: values * (1 if name == "accuracy" else -1) for name in read.METRICS}

    table = read.Table(
        name="made",
        info={},
        placements=tuple(map(str, choices)),
        sites=("stage1", "stage2", "stage3"),
        choices=choices,
        types=("none", "se", "eca", "ela"),
        rungs=(1,),
        search=metrics(search[..., None]),
        repeat=metrics(repeat[..., None]),
        target=metrics(target),
        test={"accuracy": target, "loss": -target},
        correct=dict.fromkeys(read.CORRECT, images),
        sources={part: np.arange(40) for part in ("validation", "test")},
        latency=np.ones((n, 3)),
    )
    return table, truth


def test_components_are_those_that_the_table_was_made_of() -> None:
    fits = [read.fit(made(seed)[0], ["rung1 accuracy", "target accuracy"]) for seed in range(40)]

    def sd(name: str, quantity: int) -> float:
        return float(np.sqrt(np.mean([getattr(of, name)[quantity, quantity] for of in fits])))

    assert sd("interaction", 0) == pytest.approx(SD["interaction"], rel=0.1)
    assert sd("rest", 0) == pytest.approx(SD["rest"], rel=0.1)
    assert sd("rest", 1) == pytest.approx(TARGET["rest"], rel=0.1)
    assert sd("interaction", 1) == 0.0
    assert sd("seed", 0) == pytest.approx(SD["seed"], rel=0.3)
    assert sd("backbone", 0) == pytest.approx(SD["backbone"], rel=0.3)
    made_of = np.sqrt(np.mean([np.var(made(seed)[1], ddof=1) for seed in range(40)]))
    assert sd("placement", 0) == pytest.approx(made_of, rel=0.1)
    assert np.mean([of.additive[0] for of in fits]) > 0.75
    crossed = np.mean(
        [of.placement[0, 1] / np.sqrt(of.placement[0, 0] * of.placement[1, 1]) for of in fits]
    )
    assert 0.8 < crossed < 1.0


def test_drawn_truths_are_as_far_from_the_truth_as_they_say() -> None:
    inside = []
    for seed in range(30):
        table, truth = made(seed)
        of = read.fit(table, ["rung1 accuracy", "target accuracy"])
        random = np.random.default_rng(seed)
        drawn = np.stack([of.draw(random).truth[:, 0] for _ in range(60)])
        drawn -= drawn.mean(1, keepdims=True)
        low, high = np.quantile(drawn, [0.05, 0.95], axis=0)
        inside.append(((low < truth - truth.mean()) & (truth - truth.mean() < high)).mean())
    assert 0.84 < np.mean(inside) < 0.95


def test_a_replay_repeats_a_run_and_varies_it_by_the_components() -> None:
    of = read.fit(made(0)[0], ["rung1 accuracy", "target accuracy"])
    replay = of.draw(np.random.default_rng(0))
    assert np.array_equal(replay.run(1, 2), replay.run(1, 2))
    assert not np.array_equal(replay.run(1, 2), replay.run(1, 3))
    runs = np.stack([replay.run(0, seed)[:, 0] for seed in range(300)])
    within = (
        (runs - runs.mean(1, keepdims=True)).std(0, ddof=1).mean()
    )  # one backbone: its interaction is in the mean
    assert within == pytest.approx(np.sqrt(of.rest[0, 0]), rel=0.1)
    across = np.stack([replay.run(block, 0)[:, 0] for block in range(300)])
    within = (across - across.mean(1, keepdims=True)).std(0, ddof=1).mean()
    assert within == pytest.approx(of.run_noise[0], rel=0.1)
