"""Folders whose folds are named in the recipe: which images are in which split."""

from __future__ import annotations

from pathlib import Path

import folders_made
import pytest
from folders_made import take

from nas_attn.data import loading
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection, GroupsSection, SplitsSection


@pytest.fixture
def divided(tmp_path: Path) -> Path:
    """The folder of FOLDS."""
    folders_made.folds(tmp_path / "d")
    return tmp_path / "d"


def test_images_of_folds_are_named_with_their_fold(divided: Path) -> None:
    section = DataSection(name=f"folder:{divided}", size=8, splits=folders_made.FOLDS)
    dataset = loading.load(section, device="cpu")
    test = dataset.read_test("a test of the folds")
    assert (len(dataset.train), len(dataset.validation), len(test)) == (15, 10, 10)
    listing = dataset.manifest.splits["train"]
    assert listing.names is not None
    assert {name.partition("/")[0] for name in listing.names} == {"fold_2", "fold_10"}
    folders_made.picture(77).save(divided / "fold_10/cat/new.png")
    again = loading.load(section, device="cpu").manifest
    assert again.described_changes(dataset.manifest.text) == "1 image added"


def test_without_folds_for_them_validation_is_split_off_and_there_is_no_test(divided: Path) -> None:
    splits_given = SplitsSection(train=["fold_0", "fold_1", "fold_2"])
    dataset = loading.load(
        DataSection(name=f"folder:{divided}", size=8, splits=splits_given), device="cpu"
    )
    assert (len(dataset.train), len(dataset.validation)) == (24, 6)
    with pytest.raises(DataError, match=r"data\.splits\.test"):
        dataset.read_test("there is none")


def test_groups_may_be_in_two_folds_of_one_split_only(divided: Path) -> None:
    groups = GroupsSection(pattern=r"^(...)")
    section = DataSection(
        name=f"folder:{divided}", size=8, splits=folders_made.FOLDS, groups=groups
    )
    folders_made.picture(91).save(divided / "fold_2/cat/xyz1.png")
    folders_made.picture(92).save(divided / "fold_10/cat/xyz2.png")
    # those of each fold are numbered on from another thousand
    for fold in ("fold_0", "fold_1", "fold_2"):
        for path in (divided / fold / "dog").iterdir():
            path.rename(path.with_name(f"{fold[-1]}d{path.name}"))
        for path in (divided / fold / "cat").glob("0*.png"):
            path.rename(path.with_name(f"{fold[-1]}c{path.name}"))
    assert len(loading.load(section, device="cpu").train) == 17
    folders_made.picture(93).save(divided / "fold_0/cat/xyz3.png")
    with pytest.raises(DataError, match=r"group 'xyz' .*'fold_(0|2|10)/.*' and 'fold_"):
        loading.load(section, device="cpu")


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"train": ["fold_7"]}, "'fold_7', which is no folder"),
        (
            {"train": ["fold_0"], "validation": ["fold_10"]},
            "validation of .* has no image of class 'dog'",
        ),
    ],
)
def test_splits_that_are_not_there_are_named(
    divided: Path, given: dict[str, list[str]], said: str
) -> None:
    section = DataSection(
        name=f"folder:{divided}", size=8, splits=SplitsSection.model_validate(given)
    )
    with pytest.raises(DataError, match=said):
        loading.load(section, device="cpu")


@pytest.mark.parametrize("outside", ["../other", "/tmp", "fold_0/../fold_1", ".hidden"])
def test_splits_name_folders_in_the_folder(divided: Path, outside: str) -> None:
    (divided / ".hidden").mkdir()
    (divided.parent / "other").mkdir()
    with pytest.raises(DataError, match="no folder in"):
        take(str(divided), splits=SplitsSection(train=[outside]))
