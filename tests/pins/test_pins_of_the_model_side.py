"""What a move of code must not change in studies: keys of networks, spaces, proposals, baselines,
seeds.
"""

from __future__ import annotations

import re

import optuna
import pytest
from pinned import KEPT, check
from table_study import table  # noqa: F401

from nas_attn import attachment, backbones
from nas_attn.attention.catalogue import ROWS
from nas_attn.errors import PlacementError
from nas_attn.recipe.reading import load_recipe, load_space
from nas_attn.recipe.recipe import BackboneSection
from nas_attn.searching.propose.sampling import DistinctSampler, distributions
from nas_attn.searching.run import taking_part
from nas_attn.space.notation import parse
from nas_attn.space.placement import Site
from nas_attn.space.search_space import SearchSpace, resolve
from nas_attn.storage.opening import create_study

PROPOSALS = 16
"""Of a search of 24: those before costs that were equal but for a processor's rounding decided."""
SPACES = ("channel", "ela", "plug_and_play", "small", "spatial_and_channel")


def sites_of(name: str, input_shape: tuple[int, int, int]) -> tuple[Site, ...]:
    network = backbones.build(BackboneSection(name=name), input_shape=input_shape, classes=10)
    return attachment.survey(network, input_shape).sites


def test_keys_and_spaces_are_as_they_were(renew: bool) -> None:
    lines = []
    for name, shape in (("resnet8", (1, 20, 20)), ("resnet20", (3, 32, 32))):
        sites = sites_of(name, shape)
        lines.append(f"# {name}: {' '.join(str(site.name) for site in sites)}")
        for kind in kinds(renew):
            for init in ("identity", "paper"):
                for text in (f"stage1={kind}", f"stage2.block1={kind} stage3@stage={kind}"):
                    lines.append(f"{text} {init}: {key_of(text, sites, init)}")
        for shipped in SPACES:
            space = SearchSpace(load_space(shipped), sites)
            lines.append(f"# {shipped}: {space.count()} placements")
            lines += [f"{site}: {' | '.join(known)}" for site, known in space.parameters.items()]
    check("keys_and_spaces.txt", "\n".join(lines), renew=renew)


def kinds(renew: bool) -> list[str]:
    """The modules of the kept file; all when it is renewed, so that a new module can wait."""
    if renew:
        return sorted(ROWS)
    kept = (KEPT / "keys_and_spaces.txt").read_text("utf-8")
    return list(dict.fromkeys(re.findall(r"(?m)^stage1=(\w+) ", kept)))


def key_of(text: str, sites: tuple[Site, ...], init: str) -> str:
    try:
        resolved = resolve(parse(text), sites, init=init)
    except PlacementError as error:
        return f"error: {error}"
    return f"{resolved.key} {resolved.placement}"


@pytest.mark.parametrize("name", ["placement", "random"])
def test_proposals_are_as_they_were(name: str, renew: bool) -> None:
    space = SearchSpace(load_space("plug_and_play"), sites_of("resnet8", (1, 20, 20)))
    sampler = DistinctSampler(name, space, seed=3, trials=24)
    study = optuna.create_study(directions=["maximize", "minimize"], sampler=sampler)
    lines = []
    for _ in range(PROPOSALS):
        trial = study.ask(distributions(space))
        lines.append(" ".join(f"{site}={choice}" for site, choice in trial.params.items()))
        worth = sum(len(v) * (i + 1) for i, v in enumerate(trial.params.values()))
        study.tell(trial, [worth, sum(v != "none" for v in trial.params.values())])
    check(f"proposals_of_{name}.txt", "\n".join(lines), renew=renew)


# a search; test_propose_proposal_pins.py keeps what is proposed
@pytest.mark.slow
@pytest.mark.usefixtures("table")
def test_the_runs_of_a_study_are_as_they_were(renew: bool) -> None:
    changes = {"search.sampler": "placement", "search.trials": 9}
    opened = create_study(load_recipe("table.toml", overrides=changes), "sqlite:///table.db")
    options = taking_part.Options(device="cpu", threads=1, say=lambda line: None)
    assert taking_part.work(opened, options) == "complete"
    lines = []
    for row in opened.store.candidates():
        trial = f"{row.trial} {row.key} {row.state} {row.baseline}: {row.placement}; {row.reason}"
        lines.append(trial)
    for one in opened.store.queue.rows():
        run = one.run
        lines.append(
            f"{one.id} {one.state} {run.key} seed {run.seed} backbone {run.backbone}"
            f" {run.protocol} {run.purpose} {run.round}"
        )
    check("runs.txt", "\n".join(lines), renew=renew)
