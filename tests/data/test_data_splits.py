"""Splits, batches, augmentation, and the closed door to the test split."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import materials
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torchvision.transforms import v2

from nas_attn.data import loading
from nas_attn.data.augment import EpochPlan
from nas_attn.data.dataset import Dataset, Split
from nas_attn.data.pixels import Images
from nas_attn.data.splitting import amount, stratified
from nas_attn.errors import DataError, RecipeError
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Augment, DataSection
from nas_attn.recipe.tasks import TASKS
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import check_trainings

CPU = torch.device("cpu")
PLAIN: list[Augment] = []


def split_of(images: torch.Tensor, labels: torch.Tensor | None = None, classes: int = 10) -> Split:
    channels = images.shape[1]
    labels = torch.arange(len(images)) % classes if labels is None else labels
    return Split(Images.of(images), labels, classes, (0.0,) * channels, (1 / 255,) * channels)


def numbered(count: int, height: int = 4, width: int = 5) -> Split:
    """Images of which every pixel holds the image's number, normalised to themselves."""
    return split_of(
        torch.arange(count, dtype=torch.uint8)
        .view(-1, 1, 1, 1)
        .expand(count, 2, height, width)
        .contiguous()
    )


@given(
    st.lists(st.integers(2, 40), min_size=2, max_size=6), st.floats(0.05, 0.95), st.integers(0, 9)
)
@settings(max_examples=60, deadline=None)
def test_a_stratified_split_keeps_the_shares(sizes: list[int], share: float, seed: int) -> None:
    labels = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes))
    count = int(np.clip(round(share * len(labels)), len(sizes), len(labels) - len(sizes)))
    taken, left = stratified(labels, count, seed)
    assert len(taken) == count
    assert sorted([*taken, *left]) == list(range(len(labels)))
    for label, size in enumerate(sizes):
        expected = np.clip(size * count / len(labels), 1, size - 1)
        assert abs((labels[taken] == label).sum() - expected) < len(sizes)
        assert 0 < (labels[taken] == label).sum() < size
    again, _ = stratified(labels, count, seed)
    assert np.array_equal(again, taken)


def test_splits_that_cannot_be() -> None:
    with pytest.raises(DataError, match="'emu'"):
        stratified(np.array([0, 0, 0, 1]), 2, 0, ["dog", "emu"])
    with pytest.raises(DataError, match="into 1 and 5"):
        stratified(np.array([0, 0, 0, 1, 1, 1]), 1, 0)
    labels = np.arange(100) % 4
    assert amount(None, labels, "x") == 20
    assert amount(0.25, labels, "x") == 25
    assert amount(None, labels[:12], "x") == 4  # a share takes one of each class at least
    for wanted in (0, 100, 1.0, 0.0):
        with pytest.raises(DataError, match=r"data\.validation"):
            amount(wanted, labels, "data.validation")


@given(st.integers(2, 60), st.integers(1, 20), st.integers(0, 5), st.integers(0, 3))
@settings(max_examples=40, deadline=None)
def test_every_batch_has_the_same_size_the_last_one_filled_from_the_beginning(
    count: int, size: int, seed: int, epoch: int
) -> None:
    split = numbered(count)
    batches = list(split.epoch(size, seed=seed, epoch=epoch, augment=PLAIN))
    assert len(batches) == split.steps(size)
    assert {len(x) for x, _ in batches} == {size}
    seen = torch.cat([x[:, 0, 0, 0] for x, _ in batches])
    assert len(seen) == split.trained(size)
    assert sorted(seen[:count].tolist()) == list(range(count))
    assert torch.equal(seen[count:], seen[: len(seen) - count])
    assert torch.equal(torch.cat([y for _, y in batches]), seen.long() % 10)


@given(st.integers(2, 60), st.integers(1, 20), st.integers(2, 5))
@settings(max_examples=40, deadline=None)
def test_batches_of_repeated_images_are_filled_too(count: int, size: int, times: int) -> None:
    repeat = [Augment(name="repeat", times=times)]
    plan = EpochPlan.draw(count, size, repeat, seed=(0, 0), device=CPU)
    assert {len(batch) for batch in plan.batches} == {size}
    images = plan.batches
    assert len(images.unique()) == -(-count // times)


def test_batches_come_in_order_normalised_and_channels_last() -> None:
    images = torch.randint(
        0, 256, (30, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    mean, std = Images.of(images).moments(3)
    split = Split(Images.of(images), torch.arange(30) % 10, 10, mean, std)
    x = torch.cat([x for x, _ in split.batches(7)])
    reference = images.double() / 255
    assert mean == pytest.approx(reference.mean((0, 2, 3)).tolist())
    assert std == pytest.approx(reference.std((0, 2, 3), correction=0).tolist())
    expected = (reference - reference.mean((0, 2, 3), keepdim=True)) / reference.std(
        (0, 2, 3), correction=0, keepdim=True
    )
    torch.testing.assert_close(x.double(), expected, atol=1e-5, rtol=0)
    first, _ = next(split.batches(7))
    assert first.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(torch.cat([y for _, y in split.batches(7)]), split.labels)


def augmented(split: Split, *augment: Augment) -> tuple[torch.Tensor, torch.Tensor, EpochPlan]:
    """One epoch in one batch, with its plan."""
    count = len(split)
    x, y = next(split.epoch(count, seed=3, epoch=0, augment=augment))
    plan = EpochPlan.draw(count, count, augment, seed=(3, 0), device=CPU)
    return x, y, plan


def test_mirroring_and_cropping_match_a_loop() -> None:
    images = torch.randint(
        1, 256, (40, 3, 6, 7), dtype=torch.uint8, generator=torch.Generator().manual_seed(1)
    )
    x, _, plan = augmented(split_of(images), Augment(name="flip"), Augment(name="crop", padding=2))
    assert 5 < plan.mirrored.sum() < 35
    for number, source in enumerate(plan.batches[0].tolist()):
        image = images[source].numpy().astype(np.float32)
        image = image[:, :, ::-1] if plan.mirrored[0, number] else image
        padded = np.pad(image, ((0, 0), (2, 2), (2, 2)))
        top, left = plan.corner[0, number].tolist()
        crop = padded[:, top : top + 6, left : left + 7]
        np.testing.assert_array_equal(x[number].numpy(), crop)


@pytest.mark.parametrize("repeated", [[], [Augment(name="repeat", times=4)]])
def test_mixup_mixes_images_and_labels_alike(repeated: list[Augment]) -> None:
    split = numbered(20)
    x, y, plan = augmented(split, *repeated, Augment(name="mixup", alpha=1.0))
    counts, neighbours = torch.bincount(plan.batches[0]), plan.batches[0].roll(1)
    assert ({*counts.tolist()}, (plan.batches[0] != neighbours).all()) == (
        {0, 4} if repeated else {1},
        True,
    )
    (share,) = plan.blend
    source = plan.batches[0]
    expected = share * source + (1 - share) * source.roll(1)
    torch.testing.assert_close(x[:, 0, 0, 0], expected.float())
    classes = torch.eye(10)[source % 10]
    torch.testing.assert_close(y, share * classes + (1 - share) * classes.roll(1, 0))


def test_the_test_split_is_read_for_a_reason(caplog: pytest.LogCaptureFixture) -> None:
    dataset = loading.load(DataSection(name="digits-8x8"), device="cpu")
    with pytest.raises(DataError, match="stated reason"):
        dataset.read_test("  ")
    with caplog.at_level(logging.INFO, logger="nas_attn.data"):
        dataset.read_test("validation of the front")
    assert "validation of the front" in caplog.text


def test_normalisation_can_be_given() -> None:
    dataset = loading.load(DataSection(name="digits-8x8", mean=[0.5], std=[0.25]), device="cpu")
    assert (dataset.train.mean, dataset.validation.std) == ((0.5,), (0.25,))
    x, _ = next(dataset.train.batches(4))
    torch.testing.assert_close(x, (dataset.train.first(4) / 255 - 0.5) / 0.25)
    with pytest.raises(DataError, match="1 channel"):
        loading.load(DataSection(name="digits-8x8", mean=[0.5] * 3, std=[0.25] * 3), device="cpu")


def test_a_training_subset_is_stratified_and_leaves_validation_alone() -> None:
    whole = loading.load(DataSection(name="digits-8x8"), device="cpu")
    subset = loading.load(DataSection(name="digits-8x8", train_subset=100), device="cpu")
    assert torch.bincount(subset.train.labels).tolist() == [10] * 10
    assert torch.equal(subset.validation.labels, whole.validation.labels)


# DataLoader forks, as everywhere on Linux.
pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)
SMALL = {"size": 16, "fragments": 2, "train": 60, "validation": 60, "test": 60}


def digits(task: str = "classification", **section: object) -> Dataset:
    settings = {"name": "digits", "options": SMALL, "workers": 1, **section}
    return loading.load(DataSection(**settings), device="cpu", task=TASKS[task])


def named(*entries: dict[str, object]) -> list[Augment]:
    return [Augment(**entry) for entry in entries]


def mirrored_twice() -> object:
    """A transform of one's own: mirrors everything it is given."""
    return v2.RandomHorizontalFlip(p=1.0)


def nothing() -> None:
    """Not a transform."""


def test_images_are_what_torchvision_makes_of_them() -> None:
    split = digits().train
    plain = next(split.epoch(60, seed=1, epoch=0, augment=[]))
    inverted = next(
        split.epoch(60, seed=1, epoch=0, augment=named({"name": "RandomInvert", "p": 1.0}))
    )
    assert torch.equal(plain[1], inverted[1])
    pixels = [x * split.std[0] + split.mean[0] for x in (plain[0], inverted[0])]
    torch.testing.assert_close(pixels[0], 1 - pixels[1], atol=1e-5, rtol=0)
    mine = Augment(name=f"{__name__}:mirrored_twice")
    turned = next(split.epoch(60, seed=1, epoch=0, augment=[mine]))[0]
    assert torch.equal(turned, plain[0].flip(3))


def test_training_images_may_have_another_size_than_the_others() -> None:
    dataset = digits()
    augment = named({"name": "RandomResizedCrop", "size": 12}, {"name": "crop", "padding": 2})
    dataset.train.check(augment)
    assert next(dataset.train.epoch(60, seed=0, epoch=0, augment=augment))[0].shape == (
        60,
        1,
        12,
        12,
    )
    assert next(dataset.validation.batches(60))[0].shape == (60, 1, 16, 16)


def test_an_epoch_depends_on_seed_and_number_only() -> None:
    augment = named(
        {"name": "RandomResizedCrop", "size": 16},
        {"name": "RandAugment", "num_ops": 1},
        {"name": "crop", "padding": 2},
    )
    one, other = digits().train, digits(workers=1).train
    whole = list(one.epoch(8, seed=1, epoch=2, augment=augment))
    again = list(other.epoch(8, seed=1, epoch=2, augment=augment, first_batch=1))
    for before, after in zip(whole[1:], again, strict=True):
        assert all(map(torch.equal, before, after))
    assert not torch.equal(whole[0][0], next(one.epoch(8, seed=2, epoch=2, augment=augment))[0])


@pytest.mark.parametrize("mixing", [{"name": "MixUp", "alpha": 0.2}, {"name": "CutMix"}])
def test_mixed_labels_are_shares(mixing: dict[str, object]) -> None:
    either: dict[str, object] = {"name": "RandomChoice", "transforms": [mixing]}
    for augment in (named(mixing), named(either)):
        x, y = next(digits().train.epoch(60, seed=0, epoch=0, augment=augment))
        assert (x.shape, y.shape) == ((60, 1, 16, 16), (60, 10))
        torch.testing.assert_close(y.sum(1), torch.ones(60))


def test_a_mask_moves_with_its_image_and_what_comes_from_beside_does_not_count() -> None:
    split = digits("segmentation").train
    augment = named({"name": "RandomAffine", "degrees": 0.0, "translate": [0.4, 0.4]})
    before = next(split.epoch(60, seed=3, epoch=0, augment=[]))[1]
    images, masks = next(split.epoch(60, seed=3, epoch=0, augment=augment))
    assert (masks == 255).any()
    lit = images > images.amin()
    assert lit[:, 0][(masks > 0) & (masks < 255)].float().mean() > 0.95, "strokes are bright"
    assert not torch.equal(masks, before)


def test_masks_and_boxes_of_images_that_fill_a_batch_move_with_them() -> None:
    augment = named({"name": "flip"}, {"name": "crop", "padding": 2})
    masked = list(digits("segmentation").train.epoch(25, seed=3, epoch=0, augment=augment))
    assert [len(x) for x, _ in masked] == [25, 25, 25]
    images, masks = masked[-1]
    lit = images > images.amin()
    assert lit[:, 0][(masks > 0) & (masks < 255)].float().mean() > 0.95, "strokes are bright"
    split = digits("detection", options={**SMALL, "fragments": 0}, size=32).train
    images, boxes = list(split.epoch(25, seed=0, epoch=0, augment=augment[:1]))[-1]
    assert len(images) == 25
    for image, (box,) in zip(images, boxes, strict=True):
        left, top, right, bottom = (int(value) for value in box[1:])
        assert image[0, top:bottom, left:right].sum() > 0.6 * image[0].sum()


def test_boxes_move_with_their_image() -> None:
    split = digits("detection", options={**SMALL, "fragments": 0}, size=32).train
    augment = named({"name": "RandomVerticalFlip", "p": 1.0}, {"name": "RandomZoomOut", "p": 0.0})
    x, y = next(split.epoch(60, seed=0, epoch=0, augment=augment))
    for image, (box,) in zip(x, y, strict=True):
        left, top, right, bottom = (int(value) for value in box[1:])
        assert image[0, top:bottom, left:right].sum() > 0.6 * image[0].sum()


@pytest.mark.parametrize(
    ("entry", "words"),
    [
        ({"name": "RandAugmnt"}, "did you mean 'RandAugment'"),
        ({"name": "RandomErasing", "probability": 0.5}, "no argument 'probability'"),
        ({"name": "RandomErasing", "p": 7}, "RandomErasing.*cannot be made"),
        ({"name": "RandomResize", "min_size": 8, "max_size": 30}, "sizes"),
        ({"name": "Grayscale", "num_output_channels": 3}, "3x16x16.*1x16x16"),
        ({"name": "Normalize", "mean": [0.5], "std": [0.5]}, r"Normalize.*data\.mean"),
        ({"name": "RandomIoUCrop"}, "RandomIoUCrop"),
        ({"name": "RandomApply", "transforms": [{"name": "rotate"}]}, "rotate"),
        ({"name": "no_such_package.x:y"}, "no_such_package"),
        ({"name": f"{__name__}:nothing"}, "NoneType"),
    ],
)
def test_what_is_wrong_is_one_sentence_before_any_training(
    entry: dict[str, object], words: str
) -> None:
    with pytest.raises(DataError, match=words) as caught:
        digits().train.check(named(entry))
    assert "\n" not in str(caught.value)


def test_a_recipe_is_checked_when_its_data_are_loaded(tmp_path: Path) -> None:
    materials.photographs(tmp_path / "photos", side=20)
    table = {
        "name": "mine",
        "space": "small",
        "backbone": {"name": "resnet8"},
        "data": {"name": f"folder:{tmp_path / 'photos'}", "size": 16, "workers": 1},
        "training": {
            "augment": [{"name": "TrivialAugmentWide"}],
            "transforms": f"{__name__}:mirrored_twice",
        },
    }
    recipe = recipe_from(table, where="this")
    dataset = data_of(TASKS["classification"]).load(recipe, device="cpu")
    check_trainings(recipe, dataset)
    x, _ = next(dataset.train.epoch(8, seed=0, epoch=0, augment=recipe.training.augmentation))
    assert (x.shape, bool(x.isfinite().all())) == ((8, 3, 16, 16), True)
    wrong = recipe_from(
        {**table, "target": {"augment": [{"name": "CenterCrop", "sise": 8}]}}, where="this"
    )
    with pytest.raises(DataError, match="sise"):
        check_trainings(wrong, dataset)
    entries = (
        {"name": "mixup"},
        {"name": "flip", "p": 1},
        {"name": "rotate"},
        {"name": "crop", "padding": 0},
    )
    for training in (*({"augment": [entry]} for entry in entries), {"transforms": "mine.flip"}):
        with pytest.raises(RecipeError, match=r"training\.(augment|transforms)"):
            recipe_from({**table, "training": training}, where="this")


def test_workers_of_one_machine_share_its_cores_for_loading(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nas_attn.data.loading.cores", lambda: 16)

    def processes(workers_here: int, **section: Any) -> int:
        settings = DataSection(name="digits-8x8", **section)
        return loading.load(settings, device="cpu", workers=workers_here).train.workers

    assert processes(1) == 16
    assert processes(4) == 4
    assert processes(32) == 1
    assert processes(4, workers=7) == 7
