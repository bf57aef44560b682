"""Transforms by name: torchvision's and one's own, masks and boxes along with the images, the same at every resumption."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from nas_attn import data
from nas_attn.errors import DataError, RecipeError
from nas_attn.recipe import Augment, DataSection
from nas_attn.recipe_reading import recipe_from
from nas_attn.tasks import TASKS
from tests import materials

# DataLoader forks, as everywhere on Linux.
pytestmark = pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
SMALL = {"size": 16, "fragments": 2, "train": 60, "validation": 60, "test": 60}


def digits(task: str = "classification", **section: object) -> data.Dataset:
    settings = {"name": "digits", "options": SMALL, "workers": 1, **section}
    return data.load(DataSection(**settings), device="cpu", task=TASKS[task])


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
    inverted = next(split.epoch(60, seed=1, epoch=0, augment=named({"name": "RandomInvert", "p": 1.0})))
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
    assert next(dataset.train.epoch(60, seed=0, epoch=0, augment=augment))[0].shape == (60, 1, 12, 12)
    assert next(dataset.validation.batches(60))[0].shape == (60, 1, 16, 16)


def test_an_epoch_depends_on_seed_and_number_only() -> None:
    augment = named(
        {"name": "RandomResizedCrop", "size": 16}, {"name": "RandAugment", "num_ops": 1}, {"name": "crop", "padding": 2}
    )
    one, other = digits().train, digits(workers=2).train
    whole = list(one.epoch(8, seed=1, epoch=2, augment=augment))
    again = list(other.epoch(8, seed=1, epoch=2, augment=augment, first_batch=1))
    assert len(again) == len(whole) - 1
    for (x, y), (same, label) in zip(whole[1:], again, strict=True):
        assert torch.equal(x, same)
        assert torch.equal(y, label)
    assert not torch.equal(whole[0][0], next(one.epoch(8, seed=2, epoch=2, augment=augment))[0])


@pytest.mark.parametrize("mixing", [{"name": "MixUp", "alpha": 0.2}, {"name": "CutMix"}])
def test_mixed_labels_are_shares(mixing: dict[str, object]) -> None:
    either = {"name": "RandomChoice", "transforms": [mixing]}
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
    assert masks.unique().numel() > 2
    lit = images > images.amin()
    assert lit[:, 0][(masks > 0) & (masks < 255)].float().mean() > 0.95, "strokes are bright"
    assert not torch.equal(masks, before)


def test_boxes_move_with_their_image() -> None:
    options = {**SMALL, "fragments": 0}
    split = digits("detection", options=options, size=32).train
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
def test_what_is_wrong_is_one_sentence_before_any_training(entry: dict[str, object], words: str) -> None:
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
        "training": {"augment": [{"name": "TrivialAugmentWide"}], "transforms": f"{__name__}:mirrored_twice"},
    }
    recipe = recipe_from(table, where="this")
    dataset = TASKS["classification"].load(recipe, device="cpu")
    assert dataset is not None
    TASKS["classification"].check_trainings(recipe, dataset)
    x, _ = next(dataset.train.epoch(8, seed=0, epoch=0, augment=recipe.training.augmentation))
    assert x.shape == (8, 3, 16, 16)
    assert np.isfinite(x.numpy()).all()
    wrong = recipe_from({**table, "target": {"augment": [{"name": "CenterCrop", "sise": 8}]}}, where="this")
    with pytest.raises(DataError, match="sise"):
        TASKS["classification"].check_trainings(wrong, dataset)
    for entry in ({"name": "mixup"}, {"name": "flip", "p": 1}, {"name": "rotate"}, {"name": "crop", "padding": 0}):
        with pytest.raises(RecipeError, match=r"training\.augment"):
            recipe_from({**table, "training": {"augment": [entry]}}, where="this")
