"""Images with masks: made here and from folders, split, mirrored and cropped together, wrong ones
named.
"""

from __future__ import annotations

from pathlib import Path

import folders_made
import numpy as np
import pytest
import torch
from PIL import Image

from nas_attn.cli.init import proposed_task
from nas_attn.data import loading
from nas_attn.data.dataset import Dataset
from nas_attn.data.looks import of
from nas_attn.errors import DataError, NasAttnWarning
from nas_attn.recipe.recipe import Augment, DataSection
from nas_attn.recipe.tasks import TASKS

DIGITS = DataSection(
    name="digits", options={"size": 16, "train": 60, "validation": 30, "test": 20, "fragments": 3}
)


def load(section: DataSection) -> Dataset:
    return loading.load(section, device="cpu", task=TASKS["segmentation"])


def pair(
    folder: Path, name: str, *, size: tuple[int, int] = (24, 20), mode: str = "L", value: int = 1
) -> None:
    """A gray image whose left part is bright, and a mask that says so; its last row is not
    counted.
    """
    for inside in ("images", "masks"):
        (folder / inside).mkdir(parents=True, exist_ok=True)
    width, height = size
    mask = np.zeros((height, width), dtype=np.uint8)
    mask[:, : width // 3] = value
    mask[-1] = 255
    Image.fromarray(np.where(mask == value, 255, 40).astype(np.uint8)).save(
        folder / "images" / f"{name}.png"
    )
    Image.fromarray(mask).convert(mode).save(folder / "masks" / f"{name}.png")


def names(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    (root / "classes.txt").write_text("ground\nroad\n")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    names(tmp_path / "roads")
    for number in range(10):
        pair(tmp_path / "roads", str(number), size=(24 + number, 20))
    return tmp_path / "roads"


def test_the_digits_masks_lie_on_the_digits_and_the_images_are_those_of_the_classification() -> (
    None
):
    masked, labelled = load(DIGITS), loading.load(DIGITS, device="cpu")
    assert masked.classes == ("background", *labelled.classes)
    assert masked.input_shape == labelled.input_shape == (1, 16, 16)
    assert torch.equal(masked.train.first(60), labelled.train.first(60))
    (stored, y), (_, label) = (
        next(masked.validation.stored(30)),
        next(labelled.validation.stored(30)),
    )
    assert y.shape == (30, 16, 16)
    for mask, digit in zip(y, label, strict=True):
        assert set(mask.unique().tolist()) == {0, int(digit) + 1}
    assert stored[:, 0][y > 0].min() >= 64
    assert masked.train.mean == labelled.train.mean


def test_an_image_and_its_mask_are_mirrored_and_cropped_alike_and_nothing_is_counted_beside(
    root: Path,
) -> None:
    split = load(DataSection(name=f"folder:{root}", size=20)).train
    augment = [Augment(name="flip"), Augment(name="crop", padding=3)]
    epochs = [list(split.epoch(4, seed=1, epoch=n, augment=augment)) for n in range(4)]
    cropped = False
    for x, y in (batch for batches in epochs for batch in batches):
        bright = (x[:, 0] * split.std[0] + split.mean[0]) > 0.9
        assert torch.equal(bright & (y != 255), y == 1)
        beside = (y == 255).all(1)  # columns
        assert not x.permute(0, 3, 1, 2)[beside].any()
        cropped |= bool(beside.any())
    assert cropped
    again = list(split.epoch(4, seed=1, epoch=3, augment=augment, first_batch=1))
    assert all(
        torch.equal(a, b)
        for one, two in zip(again, epochs[3][1:], strict=True)
        for a, b in zip(one, two, strict=True)
    )


def test_masks_keep_their_values_whatever_the_size(root: Path) -> None:
    """Palette and black and white masks too; the folder is split for the person, and the test split
    is another one.
    """
    pair(root, "palette", mode="P")
    pair(root, "white", mode="1", value=255)
    found = load(DataSection(name=f"folder:{root}", size=13))
    assert (len(found.train), len(found.validation), len(found.read_test("test"))) == (8, 2, 2)
    assert torch.cat([y.unique() for _, y in found.train.batches(4)]).unique().tolist() == [
        0,
        1,
        255,
    ]
    assert found.classes == ("ground", "road")


def coloured(folder: Path, name: str, *colours: tuple[int, int, int]) -> None:
    """A mask as `pair` makes it, whose values 0 and 1 have these colours in a palette."""
    pair(folder, name)
    mask = np.zeros((20, 24), np.uint8)
    mask[:, :8] = 1
    image = Image.fromarray(mask).convert("P")
    image.putpalette([part for colour in colours for part in colour])
    image.save(folder / "masks" / f"{name}.png")


GROUND, ROAD, UNUSED = (0, 0, 0), (128, 64, 128), (9, 9, 9)


def test_splits_in_folders(tmp_path: Path) -> None:
    names(tmp_path / "roads")
    for split, count in (("train", 4), ("val", 2)):
        for number in range(count):
            pair(tmp_path / "roads" / split, str(number))
    found = load(DataSection(name=f"folder:{tmp_path / 'roads'}", size=16))
    assert (len(found.train), len(found.validation)) == (4, 2)
    assert "no test split" in found.missing_test
    with pytest.raises(DataError, match="test'"):
        found.read_test("test")


def test_what_is_wrong_with_a_folder_is_said(root: Path) -> None:
    section = DataSection(name=f"folder:{root}", size=16)
    pair(root, "colours", mode="RGB")
    pair(root, "number", value=7)
    with pytest.raises(DataError, match=r"2 images .* with their masks, .* RGB, not gray"):
        load(section)
    with pytest.warns(NasAttnWarning, match="left out: .*colours.png.*number.png"):
        load(section.model_copy(update={"broken_images": "skip"}))
    for name in ("colours", "number", "3"):
        (root / "masks" / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"3 of 12 images .*: 'masks/3.png', 'masks/colours.png'"):
        load(section)
    (root / "classes.txt").write_text("ground\nroad\nsky\n")
    for name in ("colours", "number", "3"):
        (root / "images" / f"{name}.png").unlink()
    with pytest.raises(DataError, match=r"training split .*class 'sky' .*0 to 2"):
        load(section)
    (root / "classes.txt").unlink()
    with pytest.raises(DataError, match=r"classes.txt'"):
        load(section)
    with pytest.raises(DataError, match=r"'mnist' .*folder:PATH"):
        load(DataSection(name="mnist"))


def masked(root: Path) -> Dataset:
    section = DataSection(name=f"folder:{root}", size=20, broken_images="skip")
    return loading.load(section, device="cpu", task=TASKS["segmentation"])


def test_a_class_that_no_mask_has_is_said_before_it_is_refused(tmp_path: Path) -> None:
    folders_made.white_masks(tmp_path / "d")
    section = DataSection(name=f"folder:{tmp_path / 'd'}", size=20)
    inventory = of(section, "masks")
    assert inventory is not None
    assert "class 'road'; the value 255" in "\n".join(inventory.described())
    with pytest.raises(DataError, match="class 'road'"):
        masked(tmp_path / "d")


def test_what_lies_in_the_place_of_a_mask_is_named(tmp_path: Path) -> None:
    folders_made.with_masks(tmp_path / "d")
    for path in (tmp_path / "d/masks").iterdir():
        path.rename(path.with_suffix(".jpg"))
    with pytest.raises(DataError, match=r"no mask: .*'\d.jpg'"):
        masked(tmp_path / "d")


@pytest.mark.parametrize(
    ("how", "said"),
    [({"mode": "RGB"}, "its mask is RGB"), ({"size": (33, 77)}, "its mask is 33x77")],
)
def test_masks_that_do_not_fit_are_named(tmp_path: Path, how: dict[str, object], said: str) -> None:
    folders_made.with_masks(tmp_path / "d", **how)  # type: ignore[arg-type]
    with pytest.raises(DataError, match=said):
        masked(tmp_path / "d")


def test_validation_masks_without_a_class_are_refused(tmp_path: Path) -> None:
    """Their mean IoU would be no number."""
    names(tmp_path / "roads")
    for number in range(6):
        pair(tmp_path / "roads/train", str(number))
        pair(tmp_path / "roads/val", str(number))
    for path in (tmp_path / "roads/val/masks").iterdir():
        Image.fromarray(np.full((20, 24), 255, np.uint8)).save(path)
    with pytest.raises(DataError, match=r"validation split .* has no pixel of class 'ground'"):
        load(DataSection(name=f"folder:{tmp_path / 'roads'}", size=16))


@pytest.mark.parametrize(
    ("image", "mask", "pattern"),
    [
        ("images/{}.png", "masks/{}_mask.png", "masks/{stem}_mask.png"),
        ("images/a/{}.png", "masks/a/seg_{}.png", "masks/{folder}/seg_{stem}.png"),
        ("scans/{}.png", "scans/{}_mask.png", "{folder}/{stem}_mask.png"),
        ("JPEGImages/{}.png", "SegmentationClass/{}.png", "SegmentationClass/{stem}.png"),
    ],
)
def test_masks_are_found_by_a_pattern(tmp_path: Path, image: str, mask: str, pattern: str) -> None:
    names(tmp_path / "roads")
    usual, root = tmp_path / "usual", tmp_path / "roads"
    for number in range(10):
        pair(usual, f"r{number}", size=(24 + number, 20))
        for place, kind in ((image, "images"), (mask, "masks")):
            there = root / place.format(f"r{number}")
            there.parent.mkdir(parents=True, exist_ok=True)
            there.write_bytes((usual / kind / f"r{number}.png").read_bytes())
    names(usual)
    wanted = load(DataSection(name=f"folder:{usual}", size=16))
    found = load(DataSection(name=f"folder:{root}", size=16, masks=pattern))
    for mine, its in ((found.train, wanted.train), (found.validation, wanted.validation)):
        for (x, y), (other_x, other_y) in zip(mine.batches(4), its.batches(4), strict=True):
            assert torch.equal(x, other_x)
            assert torch.equal(y, other_y)
    (root / mask.format("r7")).unlink()
    with pytest.raises(DataError, match=r"1 of 10 images of .* have no mask: .*r7"):
        load(DataSection(name=f"folder:{root}", size=16, masks=pattern))


def test_init_proposes_a_pattern_for_masks_that_are_called_otherwise(tmp_path: Path) -> None:
    root = tmp_path / "roads"
    names(root)
    for number in range(10):
        pair(root, f"r{number}")
        (root / f"masks/r{number}.png").rename(root / f"masks/r{number}_mask.png")
    proposal = proposed_task(f"folder:{root}")
    assert (proposal.task, proposal.masks) == ("segmentation", "masks/{folder}/{stem}_mask.png")
    assert len(load(DataSection(name=f"folder:{root}", size=16, masks=proposal.masks)).train) > 0
    with pytest.raises(DataError, match=r"no mask.* with data\.masks"):
        load(DataSection(name=f"folder:{root}", size=16))


@pytest.mark.parametrize("pattern", ["masks/mask.png", "masks/{name}.png", "masks/{stem}.jpg"])
def test_a_pattern_without_the_images_name_is_refused(pattern: str) -> None:
    with pytest.raises(ValueError, match="masks = "):
        DataSection(name="folder:x", masks=pattern)


def test_a_class_of_few_masks_is_not_left_out_of_training(root: Path) -> None:
    section = DataSection(name=f"folder:{root}", size=16)
    plain = load(section)
    (root / "classes.txt").write_text("ground\nroad\nbridge\n")
    assert plain.validation.listing.names is not None
    for name in plain.validation.listing.names:
        path = root / "masks" / Path(name).name
        mask = np.array(Image.open(path))
        mask[:, -6:] = 2
        Image.fromarray(mask).save(path)
    assert 2 in torch.cat([y.unique() for _, y in load(section).train.batches(4)])
    # a division that leaves no class out stays as it was
    for path in (root / "masks").iterdir():
        mask = np.array(Image.open(path))
        mask[:, -6:] = 2
        Image.fromarray(mask).save(path)
    again = load(section)
    assert again.validation.listing.names.tolist() == plain.validation.listing.names.tolist()
