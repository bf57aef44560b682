"""The seeds that candidates run on: in the search those of the bare backbone, then others."""

from __future__ import annotations

from collections import defaultdict
from itertools import product
from pathlib import Path

import pytest

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import OpenStudy
from nas_attn.training.plan import bare_seeds, candidate_seeds

CHANGES = {
    "search.trials": 12,
    "search.pruner": "none",
    "search.baselines": "bare",
    "training.seeds": 2,
    "training.backbones": 2,
    "training.rungs": [1],
}


def begun() -> OpenStudy:
    return beginning.begin(load_recipe("table.toml", overrides=CHANGES), "sqlite:///nas_attn.db")


def seeds_of(opened: OpenStudy, purpose: str) -> dict[int, list[int]]:
    """Trial -> seeds of its runs for this purpose, in the order in which they were wanted."""
    trials = {row.key: row.trial for row in opened.store.candidates()}
    seeds = defaultdict(list)
    for row in sorted(opened.store.queue.rows(purposes=[purpose]), key=lambda row: row.id):
        if row.run.key in trials:
            seeds[trials[row.run.key]].append(row.run.seed)
    return dict(seeds)


def search(opened: OpenStudy) -> None:
    assert taking_part.work(opened, taking_part.Options(say=lambda line: None)) == "complete"


# a search of twelve; whose seeds are whose is asked below
@pytest.mark.slow
def test_candidates_run_on_the_bare_networks_seeds_and_each_is_confirmed_on_others(
    table: Path,
) -> None:
    opened = begun()
    search(opened)
    searched, confirmed = seeds_of(opened, "search"), seeds_of(opened, "confirm")
    assert len(searched) == 12
    assert set(map(tuple, searched.values())) == {(0, 1), (1, 0)}
    assert sorted(searched[0]) == [0, 1], "the bare backbone's"
    assert len(confirmed) > 2
    assert set(map(tuple, confirmed.values())) == {(2,)}


@pytest.mark.parametrize(("seeds", "backbones"), list(product(range(1, 5), range(1, 5))))
def test_each_seed_is_one_of_the_bare_networks_and_all_are_used_alike(
    table: Path, seeds: int, backbones: int
) -> None:
    changes = {"search.trials": 48, "training.seeds": seeds, "training.backbones": backbones}
    recipe = load_recipe("table.toml", overrides=changes)
    of_bare = bare_seeds(recipe)
    first = [candidate_seeds(recipe, trial)[0] for trial in range(backbones * 3)]
    assert [first.count(seed) for seed in set(first)] == [3] * backbones
    for trial in range(backbones):
        of_one = candidate_seeds(recipe, trial)
        assert len(set(of_one)) == seeds
        assert set(of_one) <= set(of_bare)
