"""Proposals for fixed seeds and spaces stay as they are: a study that is resumed by later code
proposes what it would have proposed.

`python tests/searching/propose/test_propose_proposal_pins.py` writes the pins again, after an intended change.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest

from nas_attn import backbones
from nas_attn.attachment import survey
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.searching.propose.sampling import DistinctSampler, distributions
from nas_attn.space.schema import SpaceSpec
from nas_attn.space.search_space import SearchSpace

PINS = Path(__file__).with_name("proposals.json")
SPACES: dict[str, dict[str, Any]] = {
    "small": {"sites": {"granularity": "block", "include": ["stage2.*", "stage3.*"]}},
    "large": {"sites": {"granularity": "block"}, "limits": {"max_modules": 4}},
}
SAMPLERS = ("auto", "placement", "random", "tpe", "nsga2")
CASES = [(sampler, space, seed) for sampler in SAMPLERS for space in SPACES for seed in (0, 7)]
TRIALS = 20


def name_of(case: tuple[str, str, int]) -> str:
    sampler, space, seed = case
    return f"{sampler} in {space}, seed {seed}"


def searched(name: str) -> SearchSpace:
    section = BackboneSection(name="resnet14", width=8)
    model = backbones.build(section, input_shape=(3, 16, 16), classes=4)
    choices = {"se": {"reduction": [4, 8]}, "eca": {}, "simam": {}}
    spec = SpaceSpec.model_validate({"name": name, "choices": choices, **SPACES[name]})
    return SearchSpace(spec, survey(model, (3, 16, 16)).sites)


def values(params: dict[str, str]) -> tuple[float, float]:
    """A gain with diminishing returns, and what it costs."""
    worth = {"none": 0.0, "simam": -0.5, "eca": 1.5}
    gains = [worth.get(choice, 1.0) / (1 + index) for index, choice in enumerate(params.values())]
    costs = [len(choice) for choice in params.values() if choice != "none"]
    return sum(gains), float(sum(costs))


def proposals(case: tuple[str, str, int]) -> Iterator[list[str]]:
    """What is proposed: some candidates fail, some are over a limit, some are pruned."""
    name, space_name, seed = case
    space = searched(space_name)
    objectives = ("accuracy", "params")
    sampler = DistinctSampler(name, space, seed=seed, trials=TRIALS, objectives=objectives)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    for number in range(TRIALS):
        trial = study.ask(distributions(space))
        yield list(trial.params.values())
        gain, cost = values(trial.params)
        trial.set_constraint("limits", cost - 40.0)
        if number % 7 == 3:
            study.tell(trial, state=optuna.trial.TrialState.FAIL)
        elif number % 5 == 4:
            trial.set_user_attr("nas_attn:rung:1", [0.8 * gain, cost])
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
        else:
            trial.set_user_attr("nas_attn:rung:1", [0.8 * gain, cost])
            study.tell(trial, (gain, cost))


@pytest.mark.parametrize("case", CASES, ids=name_of)
def test_proposals_stay_as_they_are(case: tuple[str, str, int]) -> None:
    assert list(proposals(case)) == json.loads(PINS.read_text("utf-8"))[name_of(case)]


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    pins = {name_of(case): list(proposals(case)) for case in CASES}
    lines = [f"{json.dumps(name)}: {json.dumps(made)}" for name, made in pins.items()]
    PINS.write_text("{\n" + ",\n".join(lines) + "\n}\n", "utf-8")
