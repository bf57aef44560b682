"""A user's folder of photographs: any size and mode, split for them, broken ones named, decoded
once.
"""

from __future__ import annotations

import copy
import importlib.util
import os
import time
import tracemalloc
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from folders_made import take
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageOps

from nas_attn.data import decoding, loading
from nas_attn.data import folder as folders
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.decoding import Cut, Source
from nas_attn.data.splitting import divided
from nas_attn.errors import DataError, NasAttnWarning, RecipeError
from nas_attn.recipe.reading import frozen_recipe, recipe_from
from nas_attn.recipe.recipe import Augment, DataSection, Recipe


def decode(path: Path, how: Cut | int) -> Any:
    return decoding.decode(Source(path), Cut(how, how) if isinstance(how, int) else how)


def photograph(
    path: Path, *, mode: str = "RGB", size: tuple[int, int] = (40, 30), seed: int = 0
) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (4, 5, 3)).astype(np.uint8)
    Image.fromarray(noise).resize(size).convert(mode).save(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Three classes of ten images each, of several sizes, formats and modes."""
    root = tmp_path / "photos"
    modes = [
        ("RGB", "jpg"),
        ("L", "jpg"),
        ("RGBA", "png"),
        ("P", "png"),
        ("1", "png"),
        ("CMYK", "jpg"),
        ("LA", "png"),
    ]
    for label in ("ant", "bee", "cat"):
        for number in range(10):
            mode, suffix = modes[number % len(modes)]
            size = (20 + 7 * number, 90 - 8 * number)
            photograph(root / label / f"{number}.{suffix}", mode=mode, size=size, seed=number)
    (root / "ant" / "notes.txt").write_text("not an image")
    return root


def load(root: Path, **options) -> Dataset:
    return loading.load(DataSection(name=f"folder:{root}", size=16, **options), device="cpu")


def images_of(dataset: Dataset) -> torch.Tensor:
    return dataset.train.first(len(dataset.train))


def test_one_set_of_class_folders_is_split_in_three(folder: Path) -> None:
    dataset = load(folder)
    assert dataset.classes == ("ant", "bee", "cat")
    assert dataset.input_shape == (3, 16, 16)
    test = dataset.read_test("a test of the split")
    assert (len(dataset.train), len(dataset.validation), len(test)) == (19, 5, 6)
    assert torch.bincount(test.labels).tolist() == [2, 2, 2]
    again = load(folder)
    assert again.digest == dataset.digest
    assert torch.equal(images_of(again), images_of(dataset))
    assert load(folder, seed=1).digest != dataset.digest


def test_own_splits_are_used(folder: Path, tmp_path: Path) -> None:
    root = tmp_path / "with_splits"
    for split, first, last in (("train", 0, 6), ("val", 6, 8), ("test", 8, 10)):
        for label in ("ant", "bee"):
            for source in sorted((folder / label).glob("*.*g"))[first:last]:
                target = root / split / label / source.name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(source.read_bytes())
    dataset = load(root)
    assert (len(dataset.train), len(dataset.validation), len(dataset.read_test("its size"))) == (
        12,
        4,
        4,
    )
    with pytest.raises(DataError, match=r"data\.validation"):
        load(root, validation=2)
    for image in (root / "val" / "bee").iterdir():
        image.unlink()
    with pytest.raises(DataError, match=r"validation of .* no image of class 'bee'"):
        load(root)


def test_a_very_long_strip_is_decoded_in_little_memory(tmp_path: Path) -> None:
    Image.new("RGB", (60_000, 1), "white").save(tmp_path / "strip.png")
    Image.new("RGB", (9, 9), "white").save(tmp_path / "usual.png")
    decode(tmp_path / "usual.png", 64)  # imports what it needs
    tracemalloc.start()
    made = decode(tmp_path / "strip.png", 64)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert made.shape == (3, 64, 64)
    assert (made == 255).all()
    assert peak < 2**26


def test_heic_is_read_where_the_plugin_is_and_named_where_not(tmp_path: Path) -> None:
    for name in ("ant", "bee"):
        for number in range(5):
            photograph(tmp_path / name / f"{number}.png", seed=number)
    heic = tmp_path / "ant/photo.heic"
    if importlib.util.find_spec("pillow_heif") is None:
        heic.write_bytes(b"x")
        inventory = take(str(tmp_path))
        assert inventory.images == 10
        assert "reads only with pillow-heif (.heic)" in "\n".join(inventory.described())
        return
    folders.image_endings()  # registers the plugin
    photograph(heic, seed=9)
    assert take(str(tmp_path)).images == 11
    assert decode(heic, 8).shape == (3, 8, 8)


def test_transparency_lies_on_white_exif_turns_and_the_middle_is_kept(tmp_path: Path) -> None:
    Image.new("RGBA", (16, 16), (255, 0, 0, 0)).save(tmp_path / "clear.png")
    turned = Image.new("RGB", (32, 16), "black")
    turned.paste("white", (0, 0, 16, 16))
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned by 90 degrees: left becomes up
    turned.resize((32, 16)).save(tmp_path / "turned.png", exif=exif)
    wide = Image.new("RGB", (90, 30), "black")
    wide.paste("white", (30, 0, 60, 30))
    wide.save(tmp_path / "wide.png")
    for white, size in (("clear", 16), ("wide", 30)):
        assert (decode(tmp_path / f"{white}.png", size) == 255).all()
    square = decode(tmp_path / "turned.png", 16)
    assert square[:, :7].min() == 255
    assert square[:, 9:].max() == 0


@pytest.mark.parametrize("ending", ["png", "jpg", "webp", "tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_images_are_turned_once_in_every_format(
    tmp_path: Path, ending: str, orientation: int
) -> None:
    """Pillow turns a TIFF when it reads it, and no other format."""
    quarters = Image.new("RGB", (48, 32), "black")
    quarters.paste("red", (0, 0, 24, 16))
    quarters.paste("blue", (24, 0, 48, 16))
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = tmp_path / f"photo.{ending}"
    quarters.save(path, exif=exif, quality=95)
    quarters.save(tmp_path / "plain.png", exif=exif)
    with Image.open(tmp_path / "plain.png") as opened:
        ImageOps.exif_transpose(opened).save(tmp_path / "shown.png")
    off = np.abs(decode(path, 16).astype(int) - decode(tmp_path / "shown.png", 16))
    assert off.mean() < 20


def test_a_broken_image_is_named_or_skipped(folder: Path) -> None:
    before = load(folder)
    broken = folder / "bee" / "0.jpg"
    broken.write_bytes(broken.read_bytes()[:300])
    (folder / "cat" / "zero.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"'.*(bee/0\.jpg|cat/zero\.png)'.*skip"):
        load(folder)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        skipped = load(folder, broken_images="skip")
        total = (
            len(skipped.train)
            + len(skipped.validation)
            + len(skipped.read_test("how many are left"))
        )
    assert total == 29
    said = " ".join(
        str(warning.message) for warning in caught if warning.category is NasAttnWarning
    )
    assert "bee/0.jpg" in said
    assert "cat/zero.png" in said
    assert skipped.digest != before.digest


def test_images_are_decoded_once(folder: Path, tmp_path: Path) -> None:
    load(folder)
    for prepared in (tmp_path / "cache").rglob("*.npy"):  # what only the cache can give
        np.load(prepared, mmap_mode="r+")[:] = 77
    again = images_of(load(folder))
    assert torch.equal(again, torch.full_like(again, 77))


def test_a_changed_or_damaged_cache_is_made_anew(folder: Path, tmp_path: Path) -> None:
    first = load(folder)
    expected = images_of(first).clone()
    for damaged in ("*.json", "*.npy"):
        entries = sorted((tmp_path / "cache").rglob(damaged))
        assert entries
        for entry in entries:
            content = entry.read_bytes()[:100]
            entry.unlink()
            entry.write_bytes(content)
        assert torch.equal(images_of(load(folder)), expected)
    for path in (folder / "ant").glob("*.jpg"):
        photograph(path, seed=99)
    assert not torch.equal(images_of(load(folder)), expected)


def test_a_cache_that_cannot_be_written_is_said_and_gives_the_same(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mapped = load(folder)
    (tmp_path / "file").write_text("in the way")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with pytest.warns(NasAttnWarning, match="cannot be saved"):
        resident = load(folder)
    assert mapped.train.pixels.path is not None
    assert resident.train.pixels.path is None
    assert (mapped.train.mean, mapped.train.std, mapped.digest) == (
        resident.train.mean,
        resident.train.std,
        resident.digest,
    )
    augment = [Augment(name="flip"), Augment(name="crop", padding=2)]
    for epoch in (0, 1):
        options: dict[str, Any] = {"seed": 4, "epoch": epoch, "augment": augment}
        options["first_batch"] = epoch
        pairs = zip(
            resident.train.epoch(8, **options), mapped.train.epoch(8, **options), strict=True
        )
        assert all(torch.equal(x, x2) and torch.equal(y, y2) for (x, y), (x2, y2) in pairs)
    next(iter(mapped.train.batches(4)))  # left in the middle
    again = copy.deepcopy(
        mapped.train.pixels
    )  # as a process that loads gets it, where none is forked
    assert torch.equal(again.item(3), resident.train.pixels.item(3))


def test_the_shorter_side_may_be_larger_than_the_square(folder: Path) -> None:
    """As published weights are validated: scaled to 24, the middle 16 by 16 kept."""
    photograph(folder / "ant" / "0.jpg", size=(48, 36))
    (found,) = load(
        folder, options={"resize": 24, "interpolation": "bicubic"}, train_subset=3
    ).train.first(1)
    assert found.shape == (3, 16, 16)
    with Image.open(folder / "ant" / "0.jpg") as image:
        expected = np.asarray(
            image.resize((32, 24), Image.Resampling.BICUBIC).crop((8, 4, 24, 20))
        ).transpose(2, 0, 1)
    made = decode(folder / "ant" / "0.jpg", Cut(16, 16, resize=24, interpolation="bicubic"))
    assert np.abs(made.astype(int) - expected).max() <= 1
    with pytest.raises(DataError, match=r"resize = 8 .*data\.size = 16"):
        load(folder, options={"resize": 8})
    with pytest.raises(DataError, match="'bicubic'"):
        load(folder, options={"interpolation": "bicubik"})


def test_what_is_not_there_is_said(tmp_path: Path, folder: Path) -> None:
    with pytest.raises(DataError, match=r"'.*nowhere'"):
        load(tmp_path / "nowhere")
    (tmp_path / "flat").mkdir()
    with pytest.raises(DataError, match=r"\b0 class"):
        load(tmp_path / "flat")
    for path in sorted((folder / "bee").iterdir())[1:]:
        path.unlink()
    with pytest.raises(DataError, match="every class needs"):
        load(folder)


def test_what_nobody_reads_is_dropped_from_the_cache(folder: Path, tmp_path: Path) -> None:
    load(folder)
    (old,) = (tmp_path / "cache").rglob("*.json")
    other = old.with_name("other.json")
    other.write_bytes(b"")
    for path, days in ((old, 70), (other, 10)):
        os.utime(path, (time.time() - days * 86_400,) * 2)
    photograph(folder / "ant" / "new.jpg")
    load(folder)
    assert not old.exists()
    assert other.exists()


PATTERN = {"pattern": r"^(p\d+)_"}


def picture(path: Path, patient: int, shot: int) -> None:
    """All pixels of the first row are the patient's number."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = (
        np.random.default_rng(100 * patient + shot).integers(0, 256, (8, 8, 3)).astype(np.uint8)
    )
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


def grouped(root: Path, groups: dict[str, str] | None, **options: object) -> Dataset:
    section = DataSection.model_validate(
        {"name": f"folder:{root}", "size": 8, "groups": groups, **options}
    )
    return loading.load(section, device="cpu")


def patients(split: Split) -> set[int]:
    return set(split.first(len(split))[:, 0, 0, 0].tolist())


def apart(dataset: Dataset) -> bool:
    splits = [
        patients(s)
        for s in (dataset.train, dataset.validation, dataset.read_test("a test of the groups"))
    ]
    return sum(map(len, splits)) == len(set.union(*splits)) == 12


def test_no_patient_is_on_two_sides(photos: Path, tmp_path: Path) -> None:
    assert not apart(grouped(photos, None)), "else this test could not fail"
    assert all(apart(grouped(photos, PATTERN, seed=seed)) for seed in range(5))
    lines = [
        f"{p.relative_to(photos).as_posix()},{p.name.split('_')[0]}"
        for p in sorted(photos.rglob("*.png"))
    ]
    (tmp_path / "groups.csv").write_text("\n".join(["image,group", *lines]))
    by_file = grouped(photos, {"file": str(tmp_path / "groups.csv")})
    assert apart(by_file)
    assert by_file.digest == grouped(photos, PATTERN).digest


def test_folders_of_ones_own_that_share_a_group_are_refused(photos: Path, tmp_path: Path) -> None:
    root = tmp_path / "split"
    for split, whose in (("train", range(6)), ("val", range(6, 10)), ("test", range(9, 12))):
        for patient in whose:
            picture(
                root / split / ("ill", "well")[patient % 2] / f"p{patient}_{split}.png", patient, 0
            )
    with pytest.raises(DataError, match=r"group 'p9' of data.groups .*'val/.*' and 'test/.*'"):
        grouped(root, PATTERN)
    (root / "test" / "well" / "p9_test.png").rename(root / "val" / "well" / "p9_2.png")
    grouped(root, PATTERN)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_whatever_the_groups_no_one_is_divided_and_every_class_is_in_both(
    draw: st.DataObject,
) -> None:
    groups = draw.draw(
        st.lists(st.tuples(st.integers(1, 9), st.integers(0, 2)), min_size=8, max_size=40)
    )
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
        ("picture,group\na,b", "has no column 'image'"),
        ("image,group\np0_0.png", "line 2 has 1 cell"),
        ("image,group\np0_0.png,a\np0_0.png,b", "line 3 gives an image another group"),
        ("image,group\np0_0.png,a", "'ill/p0_1.png'"),
        (None, "cannot be read"),
    ],
)
def test_a_wrong_file_is_one_sentence(
    photos: Path, tmp_path: Path, text: str | None, message: str
) -> None:
    if text is not None:
        (tmp_path / "groups.csv").write_text(text)
    with pytest.raises(DataError, match=message):
        grouped(photos, {"file": str(tmp_path / "groups.csv")})


def test_a_pattern_that_misses_an_image_and_one_group_per_class_are_refused(photos: Path) -> None:
    with pytest.raises(DataError, match="has no group for 'ill/p"):
        grouped(photos, {"pattern": r"^q(\d+)"})
    with pytest.raises(DataError, match=r"class 'ill'"):
        grouped(photos, {"pattern": "^(p)"})


def recipe(**groups: str) -> Recipe:
    table = {"name": "x", "space": "small", "backbone": {"name": "resnet8"}}
    return recipe_from(
        {**table, "data": {"name": "folder:photos", "groups": groups}}, where="x.toml"
    )


def test_recipes_say_what_is_wrong() -> None:
    with pytest.raises(RecipeError, match=r"x.toml: data.groups: pattern '\('"):
        recipe(pattern="(")
    for both in ({}, {"file": "a", "pattern": "b"}):
        with pytest.raises(RecipeError, match=r"file = .*pattern = "):
            recipe(**both)
    table = {"name": "x", "space": "small", "backbone": {"name": "resnet8"}}
    for wrong, said in (
        ({"name": "digits", "splits": {"train": ["a"]}}, r"splits.* 'digits'"),
        ({"name": "folder:x", "splits": {"train": ["a"], "test": ["a"]}}, "'a' is named twice"),
        ({"name": "folder:x", "splits": {"train": []}}, r"data\.splits\.train"),
    ):
        with pytest.raises(RecipeError, match=said):
            recipe_from({**table, "data": wrong}, where="x.toml")
    with pytest.raises(RecipeError, match=r"groups.* 'digits'"):
        recipe_from({**table, "data": {"name": "digits", "groups": PATTERN}}, where="x.toml")
    kept = recipe(**PATTERN).to_json()
    assert frozen_recipe(kept, where="a study").to_json() == kept
