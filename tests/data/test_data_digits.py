"""The digits that are generated: reproducible, of disjoint sources, as large as asked."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.data.digits import source_digits
from nas_attn.errors import DataError
from nas_attn.recipe.recipe import DataSection


def load(**options) -> Dataset:
    section = {"name": "digits", "options": options.pop("options", {}), **options}
    return loading.load(DataSection(**section), device="cpu")


@pytest.mark.parametrize(
    ("name", "shape", "sizes"),
    [("digits", (1, 20, 20), [6000, 5000, 5000]), ("cued-digits", (1, 24, 18), [2000, 2000, 2000])],
)
def test_the_standard_size(name: str, shape: tuple[int, ...], sizes: list[int]) -> None:
    dataset = load(name=name)
    assert dataset.input_shape == shape
    assert [
        len(dataset.train),
        len(dataset.validation),
        len(dataset.read_test("its size")),
    ] == sizes
    assert dataset.train.first(1).dtype == torch.uint8
    assert dataset.classes == tuple("0123456789")
    shares = torch.bincount(dataset.validation.labels) / sizes[1]
    assert 0.08 < shares.min() <= shares.max() < 0.12


def test_the_digits_are_scikit_learns() -> None:
    theirs, ours = load_digits(), source_digits(0).values()
    pixels = np.round(theirs.images * (255 / 16)).astype(np.uint8)
    expected = sorted(
        (image.tobytes(), label) for image, label in zip(pixels, theirs.target, strict=True)
    )
    assert (
        sorted(
            (image.tobytes(), label) for split in ours for image, label in zip(*split, strict=True)
        )
        == expected
    )


def test_equal_seeds_give_equal_images_and_others_do_not() -> None:
    small = {"train": 100, "validation": 100, "test": 100}
    one, same, other = load(options=small), load(options=small), load(options=small, seed=1)
    assert torch.equal(one.train.first(100), same.train.first(100))
    assert one.digest == same.digest
    assert one.digest != other.digest
    assert not torch.equal(one.train.first(100), one.validation.first(100))


def test_a_source_digit_is_in_one_split_only() -> None:
    sources = {
        split: {image.tobytes() for image in images}
        for split, (images, _) in source_digits(0).items()
    }
    assert sum(len(images) for images, _ in source_digits(0).values()) == 1797
    assert not sources["train"] & sources["validation"]
    assert not sources["train"] & sources["test"]
    assert not sources["validation"] & sources["test"]


def test_every_image_holds_its_whole_digit() -> None:
    options = {"size": 8, "fragments": 0, "train": 200, "validation": 50, "test": 50}
    dataset = load(options=options)  # a canvas as large as the digit: it can only be in one place
    images, labels = source_digits(0)["train"]
    known = {image.tobytes(): label for image, label in zip(images, labels, strict=True)}
    for image, label in zip(
        dataset.train.first(200)[:, 0].numpy(), dataset.train.labels.tolist(), strict=True
    ):
        assert known[image.tobytes()] == label


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        (
            "digits",
            {"fragment": 3},
            r"unknown option data\.options\.fragment.*did you mean 'fragments'",
        ),
        ("digits", {"size": 7}, r"data\.options\.size must be a whole number from 8 to 128, not 7"),
        ("digits", {"train": 100.5}, "whole number"),
        ("digits", {"fragments": True}, "whole number"),
        ("cued-digits", {"bar": 16}, "bar = 16 .*data.options.height = 24 at most 15 rows"),
        (
            "cued-digits",
            {"bars": 3},
            r"unknown option data.options.bars of 'cued-digits': did you mean 'bar'\?",
        ),
    ],
)
def test_wrong_options(name: str, options: dict, message: str) -> None:
    with pytest.raises(DataError, match=message):
        load(name=name, options=options)


def test_plain_digits() -> None:
    dataset = load(name="digits-8x8")
    assert dataset.input_shape == (1, 8, 8)
    assert [len(dataset.train), len(dataset.validation), len(dataset.read_test("sizes"))] == [
        899,
        449,
        449,
    ]
    other = load(name="digits-8x8", validation=300)
    assert [len(other.train), len(other.validation)] == [1048, 300]
    assert torch.equal(other.read_test("same").labels, dataset.read_test("same").labels)
    with pytest.raises(DataError, match=r"data\.options\."):
        load(name="digits-8x8", options={"size": 8})


SMALL = {"train": 200, "validation": 100, "test": 100}


def cued(seed: int = 0, **options: object) -> Dataset:
    return loading.load(
        DataSection(name="cued-digits", options={**SMALL, **options}, seed=seed), device="cpu"
    )


def patches(image: np.ndarray, sign: int) -> list[bytes]:
    """What may be a digit of this sign in an image that is as narrow as two digits: left or right,
    in one of two rows.
    """
    signed = sign * (image.astype(np.int64) - 128)
    return [
        signed[row : row + 8, column : column + 8].tobytes()
        for row in (15, 16)
        for column in (0, 9)
    ]


def known(seed: int, split: str, sign: int, contrast: int) -> dict[bytes, int]:
    """Source digits as they stand on plain ground -> their labels."""
    images, labels = source_digits(seed)[split]
    drawn = (
        np.clip(128 + sign * images.astype(np.int64) * (contrast / 255), 0, 255)
        .astype(np.uint8)
        .astype(np.int64)
        - 128
    )
    return {
        (sign * image).tobytes(): int(label) for image, label in zip(drawn, labels, strict=True)
    }


def test_the_bar_says_which_digit_is_the_label() -> None:
    dataset = cued(noise=0, width=17, contrast=100)
    digits = {sign: known(0, "train", sign, 100) for sign in (1, -1)}
    images, labels = dataset.train.first(200)[:, 0].numpy(), dataset.train.labels.tolist()
    for image, label in zip(images, labels, strict=True):
        sign = 1 if image[0, 0] == 255 else -1
        assert (image[:4] == (255 if sign > 0 else 1)).all()
        assert label in [
            digits[sign][patch] for patch in patches(image, sign) if patch in digits[sign]
        ]
        assert any(patch in digits[-sign] for patch in patches(image, -sign))  # the other one


def test_the_rest_of_an_image_does_not_tell_the_label() -> None:
    dataset = cued(train=4000)
    x = dataset.train.first(4000)[:, 0].double()
    white = x[:, 0, 0] > 128
    assert 0.45 < white.double().mean() < 0.55
    halves = x[:, 4:, :9].mean((1, 2)) > x[:, 4:, 9:].mean((1, 2))  # the bright one is on the left
    assert 0.45 < (halves == white).double().mean() < 0.55


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def write_mnist(folder: Path) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28)).astype(np.uint8)
    for part, count in (("train", 200), ("t10k", 60)):
        write_idx(folder / f"{part}-images-idx3-ubyte", images[:count])
        write_idx(folder / f"{part}-labels-idx1-ubyte", np.arange(count) % 10)
    return images


def test_fashion_mnist_files_in_place(tmp_path: Path) -> None:
    images = write_mnist(tmp_path / "FashionMNIST/raw")
    dataset = loading.load(
        DataSection(name="fashion-mnist", root=str(tmp_path), validation=50), device="cpu"
    )
    assert dataset.input_shape == (1, 28, 28)
    assert dataset.classes[0] == "T-shirt/top"
    assert (len(dataset.train), len(dataset.validation)) == (150, 50)
    test = dataset.read_test("whether it is read as it is")
    assert torch.equal(test.first(60), torch.from_numpy(images[:60, None]))
    assert test.labels.tolist() == [n % 10 for n in range(60)]
    assert test.mean == dataset.train.mean


def test_damaged_files_are_named(tmp_path: Path) -> None:
    write_mnist(tmp_path / "MNIST/raw")
    path = tmp_path / "MNIST/raw/train-images-idx3-ubyte"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"'mnist' is not whole at .*MNIST/raw'"):
        loading.load(DataSection(name="mnist", root=str(tmp_path)), device="cpu")


@pytest.mark.parametrize(
    ("name", "expected"), [("cifar10", "cifar-10-batches-py"), ("mnist", "MNIST/raw")]
)
def test_missing_files_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(
            variable, "http://127.0.0.1:9"
        )  # nobody listens there: a machine without a network
    with pytest.raises(DataError, match=rf"'{name}' .*{expected}' .*downloaded"):
        loading.load(DataSection(name=name, root=str(tmp_path / "empty")), device="cpu")
