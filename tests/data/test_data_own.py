"""A data set of one's own: a function of the split's name that gives a torch data set."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import Dataset

from nas_attn import data
from nas_attn.data.parts import Streamed
from nas_attn.errors import DataError
from nas_attn.recipe import DataSection
from nas_attn.tasks import TASKS

# DataLoader forks, as everywhere on Linux.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")


class Items(Dataset[Any]):
    """As many items as asked, made by a function of their number."""

    classes: tuple[str, ...] = ("dark", "light")

    def __init__(self, make: Any, count: int = 12) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Any:
        return self._make(number)


def _picture(number: int, width: int = 20) -> Image.Image:
    return Image.new("RGB", (width, 16), (40 + 150 * (number % 2), number, 7))


def five_fields(split: str) -> Dataset[Any] | None:
    fields = lambda number: (_picture(number), number % 2, f"{number}.jpg", 0.5, {"patient": 3})  # noqa: E731
    return None if split == "validation" else Items(fields, 12 if split == "train" else 6)


def tables(split: str, grey: bool = False) -> Dataset[Any]:
    """As Hugging Face's data sets: a table for each row, here of tensors."""
    channels = 1 if grey else 3
    return Items(lambda number: {"image": torch.full((channels, 8, 8), number / 12), "label": torch.tensor(number % 2)})


def of_masks(split: str) -> Dataset[Any]:
    def make(number: int) -> Any:
        mask = np.zeros((16, 20), np.int64)
        mask[:, 10:] = 1
        return np.asarray(_picture(number)), mask

    return Items(make)


def of_boxes(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number), {"boxes": [[2.0, 4.0, 12.0, 10.0]], "labels": [1 + number % 2]}))


def load(function: Any, task: str = "classification", **section: Any) -> data.Dataset:
    settings = {"name": f"{__name__}:{function.__name__}", "workers": 1, **section}
    return data.load(DataSection(**settings), device="cpu", task=TASKS[task])


def test_further_fields_are_left_alone_and_a_part_is_kept_for_validation() -> None:
    found = load(five_fields, size=12)
    assert (found.classes, found.input_shape) == (("dark", "light"), (3, 12, 12))
    assert (len(found.train), len(found.validation), len(found.read_test("a test"))) == (10, 2, 6)
    assert found.train.labels.tolist() == (found.train.first(10)[:, 0, 0, 0] > 100).long().tolist()


def test_tables_of_tensors_from_0_to_1() -> None:
    found = load(tables, options={"grey": True})
    assert found.input_shape == (1, 8, 8)
    assert found.train.first(12)[:, 0, 0, 0].tolist() == [round(255 * number / 12) for number in range(12)]


def test_what_is_not_held_in_memory_gives_the_same() -> None:
    held, streamed = load(five_fields, size=12), load(five_fields, size=12, memory_share=1e-9)
    assert isinstance(streamed.train.pixels, Streamed)
    assert held.digest == streamed.digest
    assert torch.equal(held.validation.first(2), streamed.validation.first(2))


def test_masks_and_boxes() -> None:
    x, y = next(load(of_masks, "segmentation", size=8).validation.batches(2))
    assert (x.shape[2:], y.shape[1:]) == ((8, 8), (8, 8))
    assert y.unique().tolist() == [0, 1]
    x, y = next(load(of_boxes, "detection", size=40).validation.batches(2))
    assert x.shape[1:] == (3, 40, 40)
    assert y[0, 0, 1:].tolist() == [4.0, 8.0, 24.0, 20.0]


def _wrong(item: Any) -> Any:
    return lambda split: Items(lambda number: item)


no_pair, unnamed, text, outside = (
    _wrong(torch.zeros(3, 8, 8)),
    _wrong({"picture": _picture(0), "label": 1}),
    _wrong((_picture(0), "cat")),
    _wrong((torch.full((3, 8, 8), 7.0), 1)),
)


def of_sizes(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number, 20 + number), number % 2))


def fails(split: str) -> Dataset[Any]:
    raise FileNotFoundError("flowers.zip")


def a_list(split: str) -> Any:
    return iter([])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_pair", "item 0 .* is a Tensor"),
        ("unnamed", "'picture', 'label'"),
        ("text", "'cat'"),
        ("outside", "from 7 to 7"),
        ("of_sizes", r"item 1 .*data\.size"),
        ("fails", "flowers.zip"),
        ("a_list", "list_iterator"),
    ],
)
def test_what_yields_something_else_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(DataError, match=words) as caught:
        data.load(DataSection(name=f"{__name__}:{name}", workers=1), device="cpu")
    assert "\n" not in str(caught.value)
