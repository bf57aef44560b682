"""What lies beside an export of photographs scores it without nas_attn, on the pictures as the
study saw them.
"""

from __future__ import annotations

from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from materials import photographs
from PIL import Image

from nas_attn.data import loading
from nas_attn.data.decoding import Cut, decode
from nas_attn.data.folder import INTERPOLATIONS, named_files
from nas_attn.export import scoring
from nas_attn.recipe.recipe import DataSection
from nas_attn.recipe.sections import Fit


def test_photographs_of_all_kinds_are_seen_as_the_study_saw_them(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = Image.fromarray(rng.integers(0, 256, (61, 90, 3), dtype=np.uint8))
    files = {
        "wide.png": pixels,
        "tall.png": pixels.rotate(90, expand=True),
        "grey.png": pixels.convert("L"),
    }
    files |= {
        "clear.png": pixels.convert("RGBA"),
        "few.gif": pixels.convert("P"),
        "deep.tiff": pixels.convert("L").convert("I;16"),
    }
    for name, image in files.items():
        image.save(tmp_path / name)
    files["strip.png"] = Image.fromarray(rng.integers(0, 256, (3, 200, 3), dtype=np.uint8))
    files["strip.png"].save(tmp_path / "strip.png")
    pixels.save(tmp_path / "photo.jpg", exif=turned())
    for name in [*files, "photo.jpg"]:
        for size in (16, 33):
            assert np.array_equal(
                scoring.decode(tmp_path / name, (size, size)), decode(tmp_path / name, size)
            ), (name, size)


@pytest.mark.parametrize("interpolation", INTERPOLATIONS)
@pytest.mark.parametrize("name", ["wide.jpg", "tall.png"])
def test_photographs_are_scaled_as_the_study_scaled_them(
    tmp_path: Path, name: str, interpolation: str
) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (301, 190, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    image = image.rotate(90, expand=True) if name == "wide.jpg" else image
    image.save(tmp_path / name)
    square = (33, 33)
    ours = decode(tmp_path / name, Cut(*square, resize=41, interpolation=interpolation))
    its = scoring.decode(tmp_path / name, square, resize=41, interpolation=interpolation)
    assert np.array_equal(its, ours)
    assert not np.array_equal(its, scoring.decode(tmp_path / name, square))
    for fit in get_args(Fit):
        for size in (square, (20, 44)):
            cut = Cut(*size, fit, interpolation=interpolation)
            its = scoring.decode(tmp_path / name, size, interpolation=interpolation, fit=fit)
            assert np.array_equal(its, decode(tmp_path / name, cut)), (fit, size)


def turned() -> Image.Exif:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was held upright
    return exif


def test_the_validation_images_are_named_in_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    photographs(tmp_path / "photos", of_each=10)
    section = DataSection(name="folder:photos", size=8)
    dataset = loading.load(section, device="cpu")
    assert dataset.validation_identity is not None
    root, names = named_files(section, dataset.validation_identity)
    images = dataset.validation.first(len(names)).numpy()
    assert all(
        np.array_equal(decode(root / name, 8), image)
        for name, image in zip(names, images, strict=True)
    )
    labels = dataset.validation.labels.tolist()
    assert [dataset.classes.index(name.partition("/")[0]) for name in names] == labels
