"""Prior knowledge of a search: what is expected of a type by depth, that it leads proposals, and
that it gives way.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import optuna
import pytest
from made_study import MadeStudy, recipe

from nas_attn.errors import NasAttnWarning, RecipeError
from nas_attn.model.published_gains import Situation, pooled
from nas_attn.searching.prepare.beginning import begin
from nas_attn.searching.propose.placement_sampler import PlacementSampler
from nas_attn.searching.propose.prior import expected, expected_in, known_before, published

PLACES = [f"stage{i}" for i in (1, 2, 3, 4)]


SCRATCH = Situation("classification", "backbone", "scratch", "random", "")
DETECTOR = Situation("detection", "backbone", "pretrained", "random", "")
TYPES = ("se", "eca", "cbam", "grn")


def test_published_figures_expect_more_of_late_stages_and_little_of_unknown_types() -> None:
    choices = ["none", "se(reduction=8)", "eca", "@stage=grn"]
    facts = published(pooled(), SCRATCH, TYPES)
    found = expected(facts, dict.fromkeys(PLACES, choices))
    assert found["stage4"]["se(reduction=8)"] > found["stage1"]["se(reduction=8)"]
    assert found["stage4"]["eca"] > found["stage4"]["@stage=grn"] > 0
    assert {found[site]["none"] for site in PLACES} == {0}


def test_published_figures_depend_on_task_start_form_and_place() -> None:
    """Random gates lose in pretrained backbones, and not in their necks; as the identity they
    gain.
    """
    sites = {key: ["none", "se"] for key in ["stage3", "neck1"]}
    random = expected(published(pooled(), DETECTOR, TYPES), sites)
    identity = expected(published(pooled(), replace(DETECTOR, form="identity"), TYPES), sites)
    scratch = expected(published(pooled(), SCRATCH, TYPES), sites)
    assert random["stage3"]["se"] < 0 < random["neck1"]["se"]
    assert identity["stage3"]["se"] > scratch["stage3"]["se"] > 0
    assert identity["neck1"]["se"] == 0, "no published row has it there"
    untried = replace(DETECTOR, start="scratch")
    assert published(pooled(), untried, TYPES) == ()


def test_facts_of_earlier_versions_are_still_read() -> None:
    old = json.dumps([["se", 0.1, 0.2, 1.0], ["se", 0.9, 0.6, 1.0]])
    found = expected_in({key: ["none", "se"] for key in ["stage1", "stage2", "neck1"]}, old)
    assert found is not None
    assert found["neck1"]["se"] >= found["stage2"]["se"] > found["stage1"]["se"] > 0


def test_earlier_studies_say_what_helped(tmp_path: Path) -> None:
    made = MadeStudy(tmp_path)
    made.candidate("none", baseline="none", seeds=3)
    for site in ("stage1", "stage2", "stage3"):
        for choice in ("cbam(reduction=16, spatial_kernel_size=7)", "ela(kernel_size=7)"):
            made.candidate(f"{site}={choice}", seeds=3)
    made.candidate("stage1=se(reduction=8)")
    following = recipe(name="next", search={"prior": "studies"})
    found = expected_in(
        {"stage2": ["none", "cbam(reduction=4)", "ela(variant=T)"]},
        known_before(following, made.database),
    )
    assert found is not None
    assert found["stage2"]["cbam(reduction=4)"] > 0 > found["stage2"]["ela(variant=T)"]
    with pytest.warns(NasAttnWarning, match="studies"):
        nothing = known_before(
            recipe(search={"prior": "studies"}), made.database
        )  # it is the only one itself
    assert expected_in({"stage2": ["none", "se"]}, nothing) is None
    assert nothing is not None, "what is stored is not looked for again when the study is resumed"


def test_a_study_keeps_its_prior(tmp_path: Path) -> None:
    known = recipe(search={"prior": "published"}, training={"start": "scratch", "init": "identity"})
    opened = begin(known, f"sqlite:///{tmp_path / 's.db'}")
    kept = opened.store.settings.prior
    assert kept is not None
    assert {fact[4] for fact in json.loads(kept)} == {"backbone"}
    with pytest.raises(RecipeError, match="prior"):
        recipe(search={"prior": "published", "sampler": "tpe"})


def test_where_nothing_like_it_is_published_it_says_so(tmp_path: Path) -> None:
    untried = recipe(
        search={"prior": "published"},
        task={"name": "detection"},
        backbone={"name": "torchvision:fasterrcnn_mobilenet_v3_large_320_fpn"},
        objectives=["map50", "latency"],
        training={"start": "scratch"},
    )
    with pytest.warns(NasAttnWarning, match="published"):
        nothing = known_before(untried, MadeStudy(tmp_path).database)
    assert expected_in({"stage2": ["none", "se"]}, nothing) is None
    assert nothing is not None, "what is stored is not looked for again when the study is resumed"


def test_a_prior_saves_runs_and_a_wrong_one_gives_way() -> None:
    """One problem without a prior, with the truth as prior, and with its opposite: what the last
    proposals of 20 miss.
    """
    choices, sites = ("none", "se", "eca", "cbam"), [f"stage{i}" for i in range(1, 7)]
    among: dict[str, optuna.distributions.BaseDistribution] = dict.fromkeys(
        sites, optuna.distributions.CategoricalDistribution(choices)
    )

    def missed(seed: int, sign: float) -> float:
        rng = np.random.default_rng(seed)
        gains = {
            site: {c: 0.0 if c == "none" else float(rng.normal()) for c in choices}
            for site in sites
        }
        prior: Any = None
        if sign:
            prior = {site: {c: sign * gain for c, gain in of.items()} for site, of in gains.items()}
        study = optuna.create_study(
            direction="maximize", sampler=PlacementSampler(seed=seed, prior=prior)
        )
        true = []
        for _ in range(20):
            trial = study.ask(among)
            true.append(sum(gains[site][choice] for site, choice in trial.params.items()))
            study.tell(trial, true[-1] + float(rng.normal()))
        return sum(max(of.values()) for of in gains.values()) - float(np.mean(true[10:]))

    without, right, opposite = (
        np.mean([missed(seed, sign) for seed in range(5)]) for sign in (0.0, 1.0, -1.0)
    )
    assert right < 0.7 * without
    assert opposite < 1.1 * without
