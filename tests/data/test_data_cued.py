"""Digits with a cue: what the bar says is the label, and nothing else in the image tells it."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from nas_attn import data
from nas_attn.data.digits import source_digits
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection

SMALL = {"train": 200, "validation": 100, "test": 100}


def load(seed: int = 0, **options: object) -> data.Dataset:
    return data.load(DataSection(name="cued-digits", options={**SMALL, **options}, seed=seed), device="cpu")


def patches(image: np.ndarray, sign: int) -> list[bytes]:
    """What may be a digit of this sign in an image that is as narrow as two digits: left or right, in one of two rows."""
    signed = sign * (image.astype(np.int64) - 128)
    return [signed[row : row + 8, column : column + 8].tobytes() for row in (15, 16) for column in (0, 9)]


def known(seed: int, split: str, sign: int, contrast: int) -> dict[bytes, int]:
    """Source digits as they stand on plain ground -> their labels."""
    images, labels = source_digits(seed)[split]
    drawn = (
        np.clip(128 + sign * images.astype(np.int64) * (contrast / 255), 0, 255).astype(np.uint8).astype(np.int64) - 128
    )
    return {(sign * image).tobytes(): int(label) for image, label in zip(drawn, labels, strict=True)}


def test_the_standard_size() -> None:
    dataset = data.load(DataSection(name="cued-digits"), device="cpu")
    assert dataset.input_shape == (1, 24, 18)
    assert (len(dataset.train), len(dataset.validation)) == (2000, 2000)
    assert len(dataset.read_test("its size")) == 2000
    assert dataset.classes == tuple("0123456789")
    shares = torch.bincount(dataset.validation.labels) / 2000
    assert shares.min() > 0.08
    assert shares.max() < 0.12


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_bar_says_which_digit_is_the_label(split: str) -> None:
    dataset = load(noise=0, width=17, contrast=100)
    part = dataset.train if split == "train" else dataset.validation
    digits = {sign: known(0, split, sign, 100) for sign in (1, -1)}
    images, labels = part.first(200)[:, 0].numpy(), part.labels.tolist()
    for image, label in zip(images, labels, strict=True):
        sign = 1 if image[0, 0] == 255 else -1
        assert (image[:4] == (255 if sign > 0 else 1)).all()
        assert label in [digits[sign][patch] for patch in patches(image, sign) if patch in digits[sign]]
        assert any(patch in digits[-sign] for patch in patches(image, -sign))  # the other one


def test_the_rest_of_an_image_does_not_tell_the_label() -> None:
    dataset = load(train=4000)
    x = dataset.train.first(4000)[:, 0].double()
    white = x[:, 0, 0] > 128
    assert 0.45 < white.double().mean() < 0.55
    halves = x[:, 4:, :9].mean((1, 2)) > x[:, 4:, 9:].mean((1, 2))  # the bright one is on the left
    assert 0.45 < (halves == white).double().mean() < 0.55


def test_options_change_size_and_difficulty() -> None:
    assert load(height=40, width=40).input_shape == (1, 40, 40)
    bare = load(bar=0, noise=0).train.first(200)
    assert (bare[:, 0, :10] == 128).all()  # without a bar nothing says it
    faint = load(cue=5, noise=0).train.first(200)
    assert set(faint[:, 0, :4].flatten().tolist()) == {123, 133}


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"bar": 16}, "data.options.bar = 16 .*data.options.height = 24 at most 15 rows"),
        ({"width": 16}, "data.options.width must be a whole number from 17 to 128, not 16"),
        ({"contrast": 0.5}, "data.options.contrast must be a whole number from 1 to 127, not 0.5"),
        ({"bars": 3}, "unknown option data.options.bars of 'cued-digits': did you mean 'bar'?"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], words: str) -> None:
    with pytest.raises(DataError, match=words.replace("(", r"\(").replace("?", r"\?")):
        load(**options)
