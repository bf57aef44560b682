"""Divisions of small data that each seed draws anew."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import materials
import numpy as np
import pytest

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.splitting import divided
from nas_attn.errors import DataError, RecipeError
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.tasks import of
from nas_attn.training.tasks.data import data_of


@dataclass(frozen=True)
class Named:
    """The files of a data set's splits."""

    train: frozenset[str]
    validation: frozenset[str]

    @classmethod
    def of(cls, dataset: Dataset) -> Named:
        return cls(files(dataset.train), files(dataset.validation))


def files(split: Split) -> frozenset[str]:
    assert split.listing is not None
    assert split.listing.names is not None
    return frozenset(split.listing.names.tolist())


def section(folder: Path, **more: object) -> DataSection:
    return DataSection.model_validate({"name": f"folder:{folder}", "size": 16, **more})


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    materials.photographs(tmp_path / "photos", of_each=20)
    return tmp_path / "photos"


def test_each_seed_divides_the_images_anew_and_never_touches_those_of_the_test(
    folder: Path,
) -> None:
    dataset = loading.load(section(folder), device="cpu")
    test = files(dataset.read_test("a test of ours"))
    divisions = [dataset.of_seed(seed) for seed in range(6)]
    named = [Named.of(division) for division in divisions]
    everything = Named.of(dataset).train | Named.of(dataset).validation
    assert len({one.validation for one in named}) == 6
    for division, one in zip(divisions, named, strict=True):
        assert one.train | one.validation == everything
        assert not one.train & one.validation
        assert not (one.train | one.validation) & test
        of_class = np.bincount(division.validation.labels.numpy())
        assert np.array_equal(of_class, np.bincount(dataset.validation.labels.numpy()))
        assert division.train.mean == dataset.train.mean
    assert len({division.digest for division in divisions}) == 6


def test_a_seed_has_the_same_division_in_every_process_and_its_own_numbers(folder: Path) -> None:
    first = loading.load(section(folder), device="cpu")
    again = loading.load(section(folder), device="cpu")
    mine = first.of_seed(7)
    assert mine.digest == again.of_seed(7).digest
    assert mine.drawn is not None
    assert first.whole is not None
    all_images = first.whole()
    assert mine.drawn.divided == len(all_images) == len(mine.train) + len(mine.validation)
    assert all_images.listing is not None
    assert all_images.listing.names is not None
    named = all_images.listing.names[mine.drawn.numbers]
    assert frozenset(named.tolist()) == files(mine.validation)


@pytest.mark.parametrize(
    ("few", "resplit", "drawn"),
    [(True, "auto", True), (False, "auto", False), (False, True, True), (True, False, False)],
)
def test_by_default_few_validation_images_are_drawn_anew(
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    few: bool,
    resplit: bool | str,
    drawn: bool,
) -> None:
    if not few:
        monkeypatch.setattr("nas_attn.data.loading.FEW_VALIDATED", 10)
    dataset = loading.load(section(folder, resplit=resplit), device="cpu")
    assert (dataset.divide is not None) is drawn
    assert (dataset.of_seed(3) is dataset) is not drawn


def test_a_split_of_the_users_own_stays(tmp_path: Path) -> None:
    for split in ("train", "val"):
        materials.photographs(tmp_path / "photos" / split, of_each=8)
    dataset = loading.load(section(tmp_path / "photos"), device="cpu")
    assert dataset.of_seed(5) is dataset
    with pytest.raises(DataError, match=r"data\.resplit"):
        loading.load(section(tmp_path / "photos", resplit=True), device="cpu")


def test_groups_stay_together_in_each_division() -> None:
    random = np.random.default_rng(0)
    # groups of all sizes, which would always be taken in the same order
    groups = np.repeat(np.arange(30), np.arange(1, 31)).astype(str)
    labels = random.integers(0, 3, len(groups))
    validated = []
    for seed in range(8):
        taken, left = divided(labels, 93, (0, seed), ("a", "b", "c"), groups)
        assert not set(groups[taken]) & set(groups[left])
        assert abs(len(taken) - 93) < 30
        validated.append(frozenset(groups[taken]))
    assert len(set(validated)) == 8
    times = np.array([sum(str(group) in one for one in validated) for group in range(25, 30)])
    assert 0 < times.sum() < 8 * 5, "large groups are on either side"


def rejected(changes: Iterable[tuple[str, object]]) -> str:
    table = {
        "name": "study",
        "space": "small",
        "backbone": {"name": "resnet8"},
        "data": {"name": "folder:photos", "resplit": True},
    }
    for name, value in changes:
        table[name] = value  # type: ignore[assignment]
    with pytest.raises(RecipeError, match=r"data\.resplit") as raised:
        recipe_from(table, where="here")
    return str(raised.value)


def test_a_backbone_that_has_seen_the_images_is_not_scored_on_them(folder: Path) -> None:
    assert rejected([("training", {"start": "backbone", "backbone_epochs": 2, "rungs": [1]})])
    recipe = recipe_from(
        {
            "name": "study",
            "space": "small",
            "backbone": {"name": "resnet8"},
            "data": {"name": f"folder:{folder}", "size": 16},
            "training": {"start": "backbone", "backbone_epochs": 2, "rungs": [1]},
        },
        where="here",
    )
    dataset = data_of(of(recipe)).load(recipe, device="cpu")
    assert dataset is not None
    assert dataset.divide is None
