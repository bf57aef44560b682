"""The digits that are generated: reproducible, of disjoint sources, as large as asked."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nas_attn import data
from nas_attn.data.digits import source_digits
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection


def load(**options) -> data.Dataset:
    section = {"name": "digits", "options": options.pop("options", {}), **options}
    return data.load(DataSection(**section), device="cpu")


def test_the_standard_size() -> None:
    dataset = load()
    assert dataset.input_shape == (1, 20, 20)
    assert (len(dataset.train), len(dataset.validation)) == (6000, 5000)
    assert len(dataset.read_test("its size")) == 5000
    assert dataset.train.first(1).dtype == torch.uint8
    shares = torch.bincount(dataset.validation.labels) / 5000
    assert shares.min() > 0.08
    assert shares.max() < 0.12


def test_the_digits_are_scikit_learns() -> None:
    theirs, ours = load_digits(), source_digits(0).values()
    pixels = np.round(theirs.images * (255 / 16)).astype(np.uint8)
    expected = sorted((image.tobytes(), label) for image, label in zip(pixels, theirs.target, strict=True))
    assert sorted((image.tobytes(), label) for split in ours for image, label in zip(*split, strict=True)) == expected


def test_equal_seeds_give_equal_images_and_others_do_not() -> None:
    small = {"train": 100, "validation": 100, "test": 100}
    one, same, other = load(options=small), load(options=small), load(options=small, seed=1)
    assert torch.equal(one.train.first(100), same.train.first(100))
    assert one.digest == same.digest
    assert one.digest != other.digest
    assert not torch.equal(one.train.first(100), one.validation.first(100))


def test_a_source_digit_is_in_one_split_only() -> None:
    sources = {split: {image.tobytes() for image in images} for split, (images, _) in source_digits(0).items()}
    assert sum(len(images) for images, _ in source_digits(0).values()) == 1797
    assert not sources["train"] & sources["validation"]
    assert not sources["train"] & sources["test"]
    assert not sources["validation"] & sources["test"]


def test_every_image_holds_its_whole_digit() -> None:
    options = {"size": 8, "fragments": 0, "train": 200, "validation": 50, "test": 50}
    dataset = load(options=options)  # a canvas as large as the digit: it can only be in one place
    images, labels = source_digits(0)["train"]
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for image, label in zip(dataset.train.first(200)[:, 0].numpy(), dataset.train.labels.tolist(), strict=True):
        assert known[image.tobytes()] == label


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"fragment": 3}, r"unknown option data\.options\.fragment.*did you mean 'fragments'"),
        ({"size": 7}, r"data\.options\.size must be a whole number from 8 to 128, not 7"),
        ({"train": 100.5}, "whole number"),
        ({"fragments": True}, "whole number"),
    ],
)
def test_wrong_options(options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(options=options)


def test_plain_digits() -> None:
    dataset = load(name="digits-8x8")
    assert dataset.input_shape == (1, 8, 8)
    assert [len(dataset.train), len(dataset.validation), len(dataset.read_test("sizes"))] == [899, 449, 449]
    other = load(name="digits-8x8", validation=300)
    assert [len(other.train), len(other.validation)] == [1048, 300]
    assert torch.equal(other.read_test("same").labels, dataset.read_test("same").labels)
    with pytest.raises(DataError, match="has no options"):
        load(name="digits-8x8", options={"size": 8})
