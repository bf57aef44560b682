"""A data set of one's own: a function of the split's name that gives a torch data set."""

from __future__ import annotations

import importlib
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch.utils.data import DataLoader, Dataset, IterableDataset

from nas_attn import data, errors
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset as OurDataset
from nas_attn.data.pixels import Feed
from nas_attn.data.samples import Samples
from nas_attn.recipe import recipe, tasks

# DataLoader forks, as everywhere on Linux.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


class Items(Dataset[Any]):
    """As many items as asked, made by a function of their number."""

    classes: tuple[str, ...] = ("dark", "light")

    def __init__(self, make: Any, count: int = 12) -> None:
        self._make, self._count = make, count

    def __len__(self) -> int:
        return self._count

    def __getitem__(self, number: int) -> Any:
        return self._make(number)


class Unnamed(Items):
    """Whose classes have no names."""

    classes = ()


def _picture(number: int, width: int = 20) -> Image.Image:
    return Image.new("RGB", (width, 16), (40 + 150 * (number % 2), number, 7))


def five_fields(split: str) -> Dataset[Any] | None:
    def fields(number: int) -> tuple[object, ...]:
        return _picture(number), number % 2, f"{number}.jpg", 0.5, {"patient": 3}

    return None if split == "validation" else Items(fields, 12 if split == "train" else 6)


def tables(split: str, grey: bool = False) -> Dataset[Any]:
    """As Hugging Face's data sets: a table for each row, here of tensors."""
    channels = 1 if grey else 3
    return Items(
        lambda number: {
            "image": torch.full((channels, 8, 8), number / 12),
            "label": torch.tensor(number % 2),
        }
    )


def of_masks(split: str) -> Dataset[Any]:
    def make(number: int) -> Any:
        mask = np.zeros((16, 20), np.int64)
        mask[:, 10:] = 1
        return np.asarray(_picture(number)), mask

    return Items(make)


def of_boxes(split: str) -> Dataset[Any]:
    return Items(
        lambda number: (
            _picture(number),
            {"boxes": [[2.0, 4.0, 12.0, 10.0]], "labels": [1 + number % 2]},
        )
    )


def load(function: Any, task: str = "classification", **section: Any) -> OurDataset:
    settings = {"name": f"{__name__}:{function.__name__}", "workers": 1, **section}
    return loading.load(recipe.DataSection(**settings), device="cpu", task=tasks.TASKS[task])


def test_arrays_may_have_labels_of_any_integer_type() -> None:
    images, labels = np.zeros((4, 8, 8), np.uint8), np.array([0, 1, 0, 1], np.uint8)
    numbers = torch.from_numpy(Samples.of(images, labels).labels)
    assert torch.nn.functional.cross_entropy(torch.zeros(4, 2), numbers).isfinite()
    with pytest.raises(errors.DataError, match=r"integer label for each.*\(4, 1\)"):
        Samples.of(images, labels[:, None])


def test_further_fields_are_left_alone_and_a_part_is_kept_for_validation() -> None:
    found = load(five_fields, size=12)
    assert (found.classes, found.input_shape) == (("dark", "light"), (3, 12, 12))
    assert (len(found.train), len(found.validation), len(found.read_test("a test"))) == (10, 2, 6)
    assert found.train.labels.tolist() == (found.train.first(10)[:, 0, 0, 0] > 100).long().tolist()


def test_floats_between_bytes_are_kept_as_they_are() -> None:
    found = load(tables, options={"grey": True})
    assert found.input_shape == (1, 8, 8)
    kept = found.train.first(12)[:, 0, 0, 0]
    assert kept.tolist() == pytest.approx([255 * number / 12 for number in range(12)], rel=1e-6)
    x = torch.cat([x for x, _ in found.train.batches(4)])
    assert (float(x.mean()), float(x.std(correction=0))) == pytest.approx((0, 1), abs=1e-4)


def bytes_as_floats(split: str) -> Dataset[Any]:
    return Items(lambda n: (torch.full((3, 8, 8), 20 * n + n % 3) / 255, n % 2))


def test_floats_that_were_bytes_are_bytes_again() -> None:
    kept = load(bytes_as_floats).train.first(12)
    assert kept.dtype == torch.uint8
    assert kept[:, 0, 0, 0].tolist() == [20 * number + number % 3 for number in range(12)]


def of_12_bits(split: str) -> Dataset[Any]:
    return Items(lambda n: (np.full((8, 8, 2), 300 * n, np.uint16), n % 2))


def scans(split: str) -> Dataset[Any]:
    return Items(lambda n: (Image.fromarray(np.full((8, 8), 300 * n, np.uint16)), n % 2))


@pytest.mark.parametrize("function", [of_12_bits, scans])
def test_values_of_more_than_8_bits_are_kept_as_they_are(function: Any) -> None:
    found = load(function, size=6)
    assert found.train.first(12)[:, 0, 0, 0].tolist() == [300 * number for number in range(12)]


def channels_first(split: str) -> Dataset[Any]:
    return Items(lambda n: (np.zeros((3, 32, 32), np.uint8), n % 2))


def test_an_array_with_its_channels_first_is_refused_with_the_way_out() -> None:
    with pytest.raises(
        errors.DataError, match=r"\(3, 32, 32\): .* an array .* a tensor \(C, H, W\)"
    ):
        load(channels_first)


def test_photographic_transforms_see_floats_from_0_to_1() -> None:
    found = load(tables)
    augment = [recipe.Augment.model_validate({"name": "ColorJitter", "brightness": [0.5, 0.5]})]
    x = torch.cat([x for x, _ in found.train.epoch(12, seed=0, epoch=0, augment=augment)])
    seen = x * found.train.std[0] + found.train.mean[0]
    assert float(seen.max()) == pytest.approx(0.5 * 11 / 12, rel=1e-3)


def of_five(split: str) -> Dataset[Any]:
    return Items(
        lambda number: {
            "id": 7,
            "image": _picture(number),
            "patient": 3,
            "label": number % 2,
            "where": "x",
        }
    )


def test_what_is_kept_in_a_file_gives_the_same(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    held = load(of_five, size=12)
    monkeypatch.setattr(data.own, "MOST_HELD_BYTES", 0)
    mapped = load(of_five, size=12)
    assert mapped.train.pixels.path is not None
    assert held.digest == mapped.digest
    assert torch.equal(held.validation.first(2), mapped.validation.first(2))
    assert list((tmp_path / "cache").rglob("own-*.npy"))
    del mapped
    assert not list((tmp_path / "cache").rglob("own-*.npy")), "it goes with its data set"


def on_disk(split: str, folder: str) -> Any:
    return importlib.import_module("datasets").load_from_disk(folder).get(split)


@pytest.mark.extras("datasets")
@pytest.mark.slow
def test_a_hugging_face_data_set_on_disk(tmp_path: Path) -> None:
    import datasets as hub

    features = hub.Features(
        {"image": hub.Image(), "label": hub.ClassLabel(names=["dark", "light"])}
    )
    rows = {"image": [_picture(n) for n in range(12)], "label": [n % 2 for n in range(12)]}
    hub.DatasetDict({"train": hub.Dataset.from_dict(rows, features=features)}).save_to_disk(
        tmp_path / "kept"
    )
    found = load(on_disk, options={"folder": str(tmp_path / "kept")}, size=12, workers=2)
    assert (found.classes, found.input_shape, len(found.train)) == (
        ("dark", "light"),
        (3, 12, 12),
        10,
    )
    assert found.train.labels.tolist() == (found.train.first(10)[:, 0, 0, 0] > 100).long().tolist()


def test_a_fit_without_a_size_is_refused() -> None:
    for function, task in ((tables, "classification"), (of_masks, "segmentation")):
        with pytest.raises(errors.DataError, match=r"data\.fit = 'resize' .* give data\.size"):
            load(function, task, fit="resize")


def test_masks_and_boxes() -> None:
    x, y = next(load(of_masks, "segmentation", size=8).validation.batches(2))
    assert (x.shape[2:], y.shape[1:]) == ((8, 8), (8, 8))
    assert y.unique().tolist() == [0, 1]
    x, y = next(load(of_boxes, "detection", size=40).validation.batches(2))
    assert x.shape[1:] == (3, 40, 40)
    assert y[0, 0, 1:].tolist() == [4.0, 8.0, 24.0, 20.0]
    with pytest.raises(errors.DataError, match="mask"):
        load(tables, "segmentation")


def masks_times(split: str, factor: float) -> Dataset[Any]:
    """Classes 0, 1 and 2, times a factor."""
    rows = np.arange(8)[:, None].repeat(8, 1) % 3
    return Unnamed(lambda number: (_picture(number).resize((8, 8)), factor * rows))


@pytest.mark.parametrize(
    ("factor", "words"),
    [
        (1 / 255, r"^item 0 .* 0\.003922 in a mask, .* 0 to 254"),
        (0.5, r"^item 0 .* 0\.5 in a mask"),
        (128.0, "^item 0 .* 256 in a mask"),
        (-1.0, "^item 0 .* -1 in a mask"),
        (0.0, "only class 0"),
    ],
)
def test_masks_of_other_values_are_refused_not_cut(factor: float, words: str) -> None:
    """As of ToTensor, which divides by 255."""
    with pytest.raises(errors.DataError, match=words):
        load(masks_times, "segmentation", options={"factor": factor})


def masks_without_a_class(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number).resize((8, 8)), np.full((8, 8), 255)))


def test_validation_has_no_class_that_training_has_not() -> None:
    with pytest.raises(errors.DataError, match="validation has labels up to number 2"):
        load(more_masks, "segmentation")


def test_masks_need_a_counted_pixel() -> None:
    with pytest.raises(errors.DataError, match=r"no class: .* 255 "):
        load(masks_without_a_class, "segmentation")


def _wrong(item: Any) -> Any:
    return lambda split: Items(lambda number: item)


no_pair, unnamed, text, number_first = (
    _wrong(torch.zeros(3, 8, 8)),
    _wrong({"picture": _picture(0), "label": 1}),
    _wrong((_picture(0), "cat")),
    _wrong((7, _picture(0), 1)),
)


def text_later(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number), "cat" if number == 7 else 1))


def negative(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number), number % 4 - 1))


def one_class(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number), 0))


def more_classes(split: str) -> Dataset[Any]:
    """Validation images have a class that no training image has."""
    classes = 3 if split == "validation" else 2
    return Items(lambda number: (_picture(number), number % classes))


def more_masks(split: str) -> Dataset[Any]:
    value = 2 if split == "validation" else 1
    return Items(lambda number: (_picture(number), np.arange(320).reshape(16, 20) % 2 * value))


def batches(split: str) -> DataLoader[Any]:
    return DataLoader(Items(lambda number: (torch.zeros(3, 8, 8), number % 2)), 5)


def tensors_of_arrays(split: str) -> Dataset[Any]:
    return Items(lambda number: (torch.zeros(8, 8, 3), number % 2))


class Stream(IterableDataset[Any]):
    """Has a length, and no items by number."""

    def __len__(self) -> int:
        return 10

    def __iter__(self) -> Iterator[Any]:
        return iter([(_picture(number), number % 2) for number in range(10)])


def stream(split: str) -> Dataset[Any]:
    return Stream()


def several_labels(split: str) -> Dataset[Any]:
    """As of X-rays with several findings each."""
    return Items(lambda number: (_picture(number), torch.tensor([1.0, 0.0, 1.0])))


def findings(split: str) -> Dataset[Any]:
    """Labels of 0 and 1, as numbers, truth values or tensors; every fourth item has none."""
    forms = (torch.tensor, np.array, list, lambda bits: torch.tensor(bits).bool())
    return Unnamed(lambda n: (_picture(n), forms[n % 3]([n % 2, n // 2 % 2, int(n == 5)])))


def named_findings(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number), torch.tensor([number % 2, 1.0 * (number < 3)])))


def ages(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: {"image": _picture(number), "label": 20.5 + number})


def places(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number), np.array([number, -2.5 * number])))


def two_findings(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number), [0, 2] if number == 3 else [1, 0]))


def no_number(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number), "old" if number == 3 else 7.0))


def not_finite(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number), float("nan") if number == 3 else 7.0))


def unequal(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number), [1, 0, 1] if number == 3 else [1, 0]))


def others(split: str) -> Dataset[Any]:
    columns = 3 if split == "validation" else 2
    return Unnamed(lambda number: (_picture(number), [number] * columns))


def constant(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number), 7.0))


def too_few_names(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number), [number, 1, 0]))


@pytest.mark.parametrize(
    ("function", "task", "classes", "third"),
    [
        (findings, "multi-label", ("0", "1", "2"), [0, 1, 0]),
        (named_findings, "multi-label", ("dark", "light"), [0, 1]),
        (ages, "regression", ("0",), [22.5]),
        (places, "regression", ("dark", "light"), [2, -5]),
    ],
)
def test_items_may_have_several_labels_or_numbers(
    function: Any, task: str, classes: tuple[str, ...], third: list[float]
) -> None:
    dataset = load(function, task)
    assert dataset.classes == classes
    _, y = next(dataset.train.batches(12))
    assert (y.dtype, tuple(y.shape)) == (torch.float32, (12, len(classes)))
    assert y[2].tolist() == third


@pytest.mark.parametrize(
    ("function", "task", "words"),
    [
        (two_findings, "multi-label", r"^item 3 .* label \[0, 2\], not 0 or 1"),
        (no_number, "regression", "^item 3 .* 'old', not a number"),
        (no_number, "multi-label", "^item 0 .* 7.0, not 0 or 1"),
        (not_finite, "regression", "^item 3 .* nan, not a number"),
        (unequal, "multi-label", "^item 3 .* 3 numbers .* item 0 2"),
        (others, "regression", "validation has labels up to number 2, .* up to 1"),
        (too_few_names, "regression", "names 2 labels in classes, but its items have 3"),
        (constant, "regression", "has the value 7 of '0' for all"),
    ],
)
def test_wrong_labels_or_numbers_are_one_sentence(function: Any, task: str, words: str) -> None:
    with pytest.raises(errors.DataError, match=words) as caught:
        load(function, task)
    assert "\n" not in str(caught.value)


def partly_known(split: str) -> Dataset[Any]:
    """Every fourth item says nothing of the first label, every sixth nothing at all."""

    def bits(number: int) -> list[Any]:
        if number % 6 == 5:
            return [-1, -1.0]
        return [-1 if number % 4 == 3 else number % 2, number // 2 % 2]

    return Unnamed(lambda number: (_picture(number), bits(number)))


def partly_numbers(split: str) -> Dataset[Any]:
    return Unnamed(lambda number: (_picture(number), None if number == 3 else 20.5 + number))


def partly_classes(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number), -1 if number == 3 else number % 2))


def partly_drawn(split: str) -> Dataset[Any]:
    rows = np.arange(64).reshape(8, 8) % 3 - 1
    return Items(lambda number: (_picture(number).resize((8, 8)), rows))


@pytest.mark.filterwarnings("ignore:.* left out. nothing is known:nas_attn.errors.NasAttnWarning")
def test_what_nobody_knows_of_an_item_is_left_out() -> None:
    for function, task in ((partly_known, "multi-label"), (partly_classes, "classification")):
        with pytest.raises(errors.DataError, match=r"^item [35] "):
            load(function, task)
    found = load(partly_known, "multi-label", unknown=[-1])
    # of twelve items of each split, two are left out, and of two one label
    targets = torch.cat([y for part in (found.train, found.validation) for _, y in part.batches(9)])
    assert (len(targets), int(targets.isnan().sum())) == (20, 4)
    assert found.moments is not None
    known = found.train.targets
    assert known is not None
    assert found.moments[0].tolist() == pytest.approx(known.nanmean(0).tolist())
    numbers = load(partly_numbers, "regression", unknown=[""])
    assert (len(numbers.train), len(numbers.validation)) == (11, 11)
    classes = load(partly_classes, unknown=["-1"])
    assert classes.classes == ("dark", "light")
    assert sorted(classes.train.labels.tolist()) == [0] * 6 + [1] * 5
    drawn = load(partly_drawn, "segmentation", unknown=["-1"])
    _, y = next(drawn.train.batches(1))
    assert y.unique().tolist() == [0, 1, 255]
    with pytest.raises(errors.DataError, match=r"data\.unknown is for .* 255 stands for"):
        load(of_boxes, "detection", unknown=["-1"], size=40)


def of_sizes(split: str) -> Dataset[Any]:
    return Items(lambda number: (_picture(number, 20 + number), number % 2))


def fails(split: str) -> Dataset[Any]:
    raise FileNotFoundError("flowers.zip")


def a_list(split: str) -> Any:
    return iter([])


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no_pair", "item 0 .* a Tensor"),
        ("unnamed", "'picture', 'label'"),
        ("text", "'cat'"),
        ("text_later", "^item 7 .*'cat'"),
        ("negative", "^item 0 .* -1, .* from 0"),
        ("one_class", "only class 0"),
        ("more_classes", "validation has labels up to number 2, .* up to 1"),
        ("number_first", "for an image a int .7."),
        ("of_sizes", r"item 1 .*data\.size"),
        ("fails", "flowers.zip"),
        ("a_list", "list_iterator"),
        ("tensors_of_arrays", r"the shape .8, 8, 3.: .* a tensor .C, H, W."),
        ("stream", "gave a Stream .* a length and an item for each number"),
        ("batches", "gave a DataLoader .* evaluator"),
        ("several_labels", "^item 0 .* several labels .* 'multi-label', .* 'regression'"),
    ],
)
def test_what_yields_something_else_is_one_sentence(name: str, words: str) -> None:
    with pytest.raises(errors.DataError, match=words) as caught:
        loading.load(recipe.DataSection(name=f"{__name__}:{name}", workers=1), device="cpu")
    assert "\n" not in str(caught.value)


def test_what_no_other_process_can_have_is_read_in_this_one() -> None:
    """Where processes are not forked (Windows, macOS, Python 3.14), a data set with a lambda cannot
    be sent to them.
    """
    before = multiprocessing.get_start_method()
    multiprocessing.set_start_method("spawn", force=True)
    try:
        feed = Feed(Items(lambda number: torch.tensor(number)), 2)
        assert [batch.tolist() for batch in feed([[3, 1], [2]])] == [[3, 1], [2]]
    finally:
        multiprocessing.set_start_method(before, force=True)
