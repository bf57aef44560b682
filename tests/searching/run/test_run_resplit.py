"""A search whose seeds divide few images anew: what the study keeps, and what it can still say."""

from __future__ import annotations

import json
import shutil
import sqlite3
from contextlib import closing
from pathlib import Path

import materials
import numpy as np
import pytest
from command_line import Nas

from nas_attn.answer.answer import answer_of
from nas_attn.answer.reading import mistakes, read, snapshot
from nas_attn.data.dataset import Dataset
from nas_attn.recipe.reading import frozen_recipe, load_recipe
from nas_attn.recipe.tasks import of
from nas_attn.searching.phases.retraining import FIRST_RETRAINING
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.estimate import estimate
from nas_attn.searching.prepare.search_plan import SearchPlan
from nas_attn.searching.run import taking_part
from nas_attn.storage.opening import OpenStudy, open_study
from nas_attn.training.tasks.data import data_of

RECIPE = """
name = "few"
objectives = ["accuracy", "params"]
space = { name = "mixed", choices = { se = { reduction = [2, 4] }, eca = {}, simam = {} } }
backbone = { name = "resnet8", width = 4 }
[data]
name = "folder:photos"
size = 16
[target]
epochs = 1
[training]
batch_size = 32
seeds = 2
[search]
trials = 3
sampler = "random"
baselines = "bare"
confirm_seeds = 0
"""


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with photographs, and a search among them that has ended."""
    folder = tmp_path_factory.mktemp("few")
    materials.photographs(folder / "photos", of_each=20, misleading=0.5)
    (folder / "few.toml").write_text(RECIPE)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        opened = beginning.begin(load_recipe("few.toml"), f"sqlite:///{folder / 'nas_attn.db'}")
        options = taking_part.Options(device="cpu", threads=1, say=lambda line: None)
        assert taking_part.work(opened, options) == "complete"
    return folder


@pytest.fixture
def study(searched: Path, monkeypatch: pytest.MonkeyPatch) -> OpenStudy:
    """The study in the current folder. Nothing that a test does changes it."""
    monkeypatch.chdir(searched)
    return open_study("few", f"sqlite:///{searched / 'nas_attn.db'}")


def dataset_of(opened: OpenStudy) -> Dataset:
    dataset = data_of(of(opened.recipe)).load(opened.recipe, device="cpu")
    assert dataset is not None
    return dataset


def test_each_seed_has_one_division_for_all_networks_and_the_study_keeps_it(
    study: OpenStudy, nas: Nas
) -> None:
    assert study.recipe.data.resplit is True
    facts = read(study.store)
    seeds = {stored.score.seed for stored in facts.scores}
    assert set(facts.divisions) == seeds
    assert len(seeds) == 2
    dataset = dataset_of(study)
    for seed, labels in facts.divisions.items():
        division = dataset.of_seed(seed)
        assert division.drawn is not None
        assert labels.images is not None
        assert np.array_equal(labels.images, division.drawn.numbers)
        assert np.array_equal(labels.numbers, division.validation.labels.numpy())
        assert labels.divided == division.drawn.divided
    now = snapshot(study.store)
    assert all(view.gains for view in now.candidates if view.baseline != "none")
    # the same recipe, which leaves it open, is the study's own
    again = beginning.begin(load_recipe("few.toml"), study.url)
    assert again.recipe.data.resplit is True
    assert nas("resume", "few", "--storage", study.url, "--workers", "1").status == 0


def test_mistakes_are_those_of_the_images_that_each_run_was_scored_on(study: OpenStudy) -> None:
    now = snapshot(study.store)
    found = mistakes(study.store, answer_of(now))
    assert found is not None
    dataset = dataset_of(study)
    for key, shares in zip(found.keys, found.shares, strict=True):
        scores = [s.score for s in study.store.scores(key, with_correct=True)]
        of_class = []
        for score in scores:
            division = dataset.of_seed(score.seed).validation.labels.numpy()
            right = np.unpackbits(
                np.frombuffer(score.correct or b"", np.uint8), count=len(division)
            )
            of_class.append([right[division == label].mean() for label in range(3)])
        assert shares == pytest.approx(np.mean(of_class, axis=0))


def test_an_exported_network_is_scored_on_images_that_its_weights_have_not_seen(
    study: OpenStudy, nas: Nas
) -> None:
    assert nas("export", "few", "--placement", "1", "--storage", study.url).status == 0
    card = json.loads(Path("few.pt.json").read_text())
    seed = card["training"]["seed"]
    assert card["data"]["divided_by_seed"] == seed
    assert card["here"]["right"] == card["training"]["right"]
    found = nas("validate-export", "few.pt", "--json").json
    assert found["right"] == card["here"]["right"]


def test_a_retrained_network_is_exported_whatever_the_search_scored_on_other_images(
    study: OpenStudy, nas: Nas, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shutil.copytree(Path.cwd(), tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    assert nas("retrain", "few", "--placement", "1", "--workers", "1").status == 0
    with closing(sqlite3.connect("nas_attn.db")) as database, database:
        worse = (
            "UPDATE nas_score SET metrics = json_set(metrics, '$.accuracy', 0) WHERE protocol = ?"
        )
        assert database.execute(worse, ("target",)).rowcount
    assert nas("export", "few", "--placement", "1").status == 0
    card = json.loads(Path("few.pt.json").read_text())
    assert card["training"]["seed"] == FIRST_RETRAINING
    assert card["data"]["divided_by_seed"] == FIRST_RETRAINING


def test_a_study_from_before_keeps_its_one_division(study: OpenStudy) -> None:
    table = json.loads(study.store.recipe)
    del table["data"]["resplit"]
    before = frozen_recipe(json.dumps(table), where="a study")
    assert before.data.resplit is False
    assert load_recipe("few.toml").with_autos_of(before).data.resplit is False
    assert open_study("few", study.url).recipe.data.resplit is True


def test_a_dry_run_reckons_with_the_baselines_that_few_images_get(
    searched: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(searched)
    changes = {"search.trials": 12, "search.baselines": "all", "space": "plug_and_play"}
    recipe = load_recipe("few.toml", overrides=changes)
    url = f"sqlite:///{tmp_path / 'nas_attn.db'}"
    expected = estimate(SearchPlan(recipe, url, device="cpu"), workers=1, threads=1)
    opened = beginning.begin(recipe, url)
    assert expected.queued == len(opened.book.all()) > 8
