"""Images that belong together stand on one side of every split."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from nas_attn import data
from nas_attn.data.splitting import divided
from nas_attn.errors import DataError, RecipeError
from nas_attn.recipe import DataSection, Recipe
from nas_attn.recipe_reading import recipe_from

PATTERN = {"pattern": r"^(p\d+)_"}


@pytest.fixture(autouse=True)
def _own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def picture(path: Path, patient: int, shot: int) -> None:
    """All pixels of the first row are the patient's number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(100 * patient + shot).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    pixels[0] = patient
    Image.fromarray(pixels).save(path)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """Twelve patients with two to five pictures, each in one of two classes."""
    root = tmp_path / "photos"
    for patient in range(12):
        for shot in range(2 + patient % 4):
            picture(root / ("ill", "well")[patient % 2] / f"p{patient}_{shot}.png", patient, shot)
    return root


def load(root: Path, groups: dict[str, str] | None, **options: object) -> data.Dataset:
    section = DataSection.model_validate({"name": f"folder:{root}", "size": 8, "groups": groups, **options})
    return data.load(section, device="cpu")


def patients(split: data.Split) -> set[int]:
    return set(split.first(len(split))[:, 0, 0, 0].tolist())


def apart(dataset: data.Dataset) -> bool:
    splits = [patients(s) for s in (dataset.train, dataset.validation, dataset.read_test("a test of the groups"))]
    return sum(map(len, splits)) == len(set.union(*splits)) == 12


def test_no_patient_is_on_two_sides(photos: Path, tmp_path: Path) -> None:
    assert not apart(load(photos, None)), "else this test could not fail"
    assert all(apart(load(photos, PATTERN, seed=seed)) for seed in range(5))
    lines = [f"{p.relative_to(photos).as_posix()},{p.name.split('_')[0]}" for p in sorted(photos.rglob("*.png"))]
    (tmp_path / "groups.csv").write_text("\n".join(["image,group", *lines]))
    by_file = load(photos, {"file": str(tmp_path / "groups.csv")})
    assert apart(by_file)
    assert by_file.digest == load(photos, PATTERN).digest


def test_folders_of_ones_own_that_share_a_group_are_refused(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for split, whose in (("train", range(6)), ("val", range(6, 10)), ("test", range(9, 12))):
        for patient in whose:
            picture(root / split / ("ill", "well")[patient % 2] / f"p{patient}_{split}.png", patient, 0)
    with pytest.raises(DataError, match=r"group 'p9' of data.groups .*'val/.*' and 'test/.*'"):
        load(root, PATTERN)
    (root / "test" / "well" / "p9_test.png").rename(root / "val" / "well" / "p9_2.png")
    load(root, PATTERN)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_groups_no_one_is_divided_and_every_class_is_in_both(draw: st.DataObject) -> None:
    groups = draw.draw(st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=8, max_size=40))
    groups += [(1, label) for label in range(3) for _ in range(2)]
    labels = np.concatenate([np.full(size, label) for size, label in groups])
    names = np.concatenate([np.full(size, f"g{i}") for i, (size, _) in enumerate(groups)])
    share = draw.draw(st.floats(0.1, 0.5))
    taken, left = divided(labels, max(3, round(share * len(labels))), 0, ["a", "b", "c"], names)
    assert sorted([*taken, *left]) == list(range(len(labels)))
    assert not {*names[taken]} & {*names[left]}
    assert {*labels[taken]} == {*labels[left]} == {0, 1, 2}
    assert abs(len(taken) - share * len(labels)) <= 3 * 9


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("image;group\na;b", "begin with the line 'image,group'"),
        ("image,group\np0_0.png", "line 2: 'p0_0.png'"),
        ("image,group\np0_0.png,a\np0_0.png,b", "line 3: 'p0_0.png' .*'a' .*'b'"),
        ("image,group\np0_0.png,a", "'ill/p0_1.png'"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_sentence(photos: Path, tmp_path: Path, text: str | None, message: str) -> None:
    if text is not None:
        (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        load(photos, {"file": str(tmp_path / "groups.csv")})


def test_a_pattern_that_misses_an_image_and_one_group_per_class_are_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="does not match 'p"):
        load(photos, {"pattern": r"^q(\d+)"})
    with pytest.raises(DataError, match=r"all .* images of class 'ill' are of one group"):
        load(photos, {"pattern": "^(p)"})


def recipe(**groups: str) -> Recipe:
    table = {"name": "x", "space": "small", "backbone": {"name": "resnet8"}}
    return recipe_from({**table, "data": {"name": "folder:photos", "groups": groups}}, where="x.toml")


def test_recipes_say_what_is_wrong() -> None:
    with pytest.raises(RecipeError, match=r"x.toml: data.groups: pattern '\('"):
        recipe(pattern="(")
    for both in ({}, {"file": "a", "pattern": "b"}):
        with pytest.raises(RecipeError, match="give one of file = "):
            recipe(**both)
    with pytest.raises(RecipeError, match=r"groups.* 'digits'"):
        recipe_from(
            {
                "name": "x",
                "space": "small",
                "backbone": {"name": "resnet8"},
                "data": {"name": "digits", "groups": PATTERN},
            },
            where="x.toml",
        )
    assert recipe(**PATTERN).to_json() == Recipe.model_validate_json(recipe(**PATTERN).to_json()).to_json()
