"""What every row of samplers does, and a user's own: each placement once, none outside the space,
the same after a restart, and in a time that does not hold other workers up.
"""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

import optuna
import pytest

from nas_attn import backbones
from nas_attn.attachment import survey
from nas_attn.errors import RecipeError
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.recipe.tables import SAMPLERS
from nas_attn.searching.propose.samplers import check_sampler
from nas_attn.searching.propose.sampling import DistinctSampler, Exhausted, distributions
from nas_attn.space.schema import SpaceSpec
from nas_attn.space.search_space import SearchSpace

OWN = """
import optuna

drawn = []

class Stuck(optuna.samplers.RandomSampler):
    def sample_relative(self, study, trial, search_space):
        drawn.append(trial.number)
        return {site: choices.choices[-1] for site, choices in search_space.items()}

def stuck(*, seed, trials):
    return Stuck(seed=seed)

class Keeping(optuna.samplers.RandomSampler):
    def __init__(self, *, seed, trials):
        super().__init__(seed=seed)

    def sample_relative(self, study, trial, search_space):
        return nothing_yet

def random(*, seed, trials):
    return optuna.samplers.RandomSampler(seed=seed)

def nothing(*, seed, trials):
    return None

nothing_yet = {}
"""


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "own_samplers.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "own_samplers", raising=False)


@cache
def space() -> SearchSpace:
    """33 placements, at most two modules in each."""
    section = BackboneSection(name="resnet14", width=8)
    model = backbones.build(section, input_shape=(3, 16, 16), classes=4)
    table = {
        "name": "contract",
        "sites": {"granularity": "block", "include": ["stage2.*", "stage3.*"]},
        "choices": {"se": {}, "eca": {}},
        "limits": {"max_modules": 2},
    }
    return SearchSpace(SpaceSpec.model_validate(table), survey(model, (3, 16, 16)).sites)


def ask(study: optuna.Study) -> dict[str, str]:
    trial = study.ask(distributions(space()))
    modules = sum(choice != "none" for choice in trial.params.values())
    study.tell(trial, (float(len("".join(trial.params.values()))), float(modules)))
    return trial.params


def search(name: str, trials: int, *, restart_after: int | None = None) -> list[dict[str, str]]:
    study = optuna.create_study(directions=["maximize", "minimize"])
    params = []
    for number in range(trials):
        if number in (0, restart_after):
            study.sampler = DistinctSampler(name, space(), seed=3, trials=trials)
        params.append(ask(study))
    return params


@pytest.mark.parametrize("name", [*SAMPLERS, "own_samplers:random", "own_samplers:stuck"])
@pytest.mark.usefixtures("own")
def test_each_placement_is_proposed_once(name: str) -> None:
    count = space().count()
    assert count == 33
    study = optuna.create_study(directions=["maximize", "minimize"])
    study.sampler = DistinctSampler(name, space(), seed=0, trials=count)
    proposed = [ask(study) for _ in range(count)]
    assert all(space().contains(params) for params in proposed)
    assert len({tuple(params.items()) for params in proposed}) == count
    with pytest.raises(Exhausted):
        ask(study)


@pytest.mark.parametrize("name", [*SAMPLERS, "own_samplers:random"])
@pytest.mark.usefixtures("own")
def test_proposals_are_the_same_after_a_restart(name: str) -> None:
    assert search(name, 16) == search(name, 16, restart_after=11)


@pytest.mark.usefixtures("own")
def test_a_sampler_that_draws_the_same_again_and_again_is_not_asked_for_ever() -> None:
    search("own_samplers:stuck", 8)
    drawn = sys.modules["own_samplers"].drawn
    assert max(drawn.count(number) for number in range(8)) == 3


@pytest.mark.usefixtures("own")
def test_what_a_sampler_returns_stays_its_own() -> None:
    search("own_samplers:Keeping", 2)
    assert sys.modules["own_samplers"].nothing_yet == {}


def test_a_costly_sampler_draws_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its draws take a second each, while all other workers wait for the scheduling lock."""
    drawn: list[int] = []
    draw = optuna.samplers.GPSampler.sample_relative

    def counted(self, study, trial, search_space):  # type: ignore[no-untyped-def]
        drawn.append(trial.number)
        return draw(self, study, trial, search_space)

    monkeypatch.setattr(optuna.samplers.GPSampler, "sample_relative", counted)
    search("gp", 20)
    assert drawn == list(range(20))


@pytest.mark.usefixtures("own")
def test_a_sampler_that_cannot_be_made_is_told_before_a_search_begins() -> None:
    check_sampler("own_samplers:random")
    check_sampler("gp")
    with pytest.raises(RecipeError, match=r"optuna.samplers:GPSampler.*seed and trials.*trials"):
        check_sampler("optuna.samplers:GPSampler")
    with pytest.raises(RecipeError, match="returns a NoneType"):
        check_sampler("own_samplers:nothing")
