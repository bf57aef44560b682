"""Published data sets: files in place in either form, or one sentence about where they should be."""

from __future__ import annotations

import gzip
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from nas_attn import data
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection

SHARED = Path(__file__).resolve().parents[2].parent / "shared"


def write_idx(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    head = bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">i4").tobytes()
    content = head + array.astype(np.uint8).tobytes()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)


def write_mnist(folder: Path, suffix: str) -> np.ndarray:
    images = np.random.default_rng(0).integers(0, 256, (200, 28, 28)).astype(np.uint8)
    for part, count in (("train", 200), ("t10k", 60)):
        write_idx(folder / f"{part}-images-idx3-ubyte{suffix}", images[:count])
        write_idx(folder / f"{part}-labels-idx1-ubyte{suffix}", np.arange(count) % 10)
    return images


@pytest.mark.parametrize("place", [".", "FashionMNIST/raw"])
@pytest.mark.parametrize("suffix", ["", ".gz"])
def test_fashion_mnist_files_in_place(tmp_path: Path, place: str, suffix: str) -> None:
    images = write_mnist(tmp_path / place, suffix)
    dataset = data.load(DataSection(name="fashion-mnist", root=str(tmp_path), validation=50), device="cpu")
    assert dataset.input_shape == (1, 28, 28)
    assert dataset.classes[0] == "T-shirt/top"
    assert (len(dataset.train), len(dataset.validation)) == (150, 50)
    test = dataset.read_test("whether it is read as it is")
    assert torch.equal(test.first(60), torch.from_numpy(images[:60, None]))
    assert test.labels.tolist() == [n % 10 for n in range(60)]
    assert test.mean == dataset.train.mean


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    write_mnist(tmp_path, ".gz")
    path = tmp_path / "train-images-idx3-ubyte.gz"
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DataError, match=r"train-images-idx3-ubyte\.gz is damaged"):
        data.load(DataSection(name="mnist", root=str(tmp_path)), device="cpu")
    (tmp_path / "train-labels-idx1-ubyte.gz").unlink()
    write_mnist(tmp_path / "whole", "")
    (tmp_path / "whole" / "train-labels-idx1-ubyte").unlink()
    with pytest.raises(DataError, match="no train-labels-idx"):
        data.load(DataSection(name="mnist", root=str(tmp_path / "whole")), device="cpu")


@pytest.mark.parametrize(("name", "expected"), [("cifar10", "cifar-10-batches-py"), ("mnist", "MNIST/raw")])
def test_missing_files_and_no_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, expected: str
) -> None:
    for variable in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(variable, "http://127.0.0.1:9")  # nobody listens there: a machine without a network
    with pytest.raises(DataError, match=rf"'{name}' is not at '.*{expected}' and could not be downloaded there"):
        data.load(DataSection(name=name, root=str(tmp_path / "empty")), device="cpu")


@pytest.mark.slow
def test_the_original_cifar10(tmp_path: Path) -> None:
    unpack = SHARED / "data" / "cifar10" / "unpack.py"
    if not unpack.exists():
        pytest.skip(f"{unpack} is absent")
    subprocess.run([sys.executable, str(unpack), str(tmp_path)], check=True, capture_output=True)
    section = DataSection(name="cifar10", root=str(tmp_path), validation=10_000, train_subset=5_000)
    dataset = data.load(section, device="cpu")
    assert (len(dataset.train), len(dataset.validation), len(dataset.read_test("its size"))) == (5000, 10000, 10000)
    assert torch.bincount(dataset.validation.labels).tolist() == [1000] * 10
    assert dataset.train.mean == pytest.approx((0.4914, 0.4822, 0.4465), abs=0.005)
    assert dataset.train.std == pytest.approx((0.247, 0.2435, 0.2616), abs=0.005)
