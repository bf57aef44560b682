"""Images with any number of bands: read as they are, and normalised band by band."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_line import Nas
from folders_made import take
from made_study import recipe
from numpy.typing import NDArray
from PIL import Image
from torch import nn

from nas_attn.data import loading
from nas_attn.data.bands import read_bands
from nas_attn.data.looks import of
from nas_attn.errors import DataError, NasAttnWarning, RecipeError
from nas_attn.recipe.reading import frozen_recipe, load_recipe
from nas_attn.recipe.recipe import DataSection, TrainingSection
from nas_attn.recipe.tasks import TASKS
from nas_attn.training.parameters import LearningRates
from nas_attn.training.trainer import Trainer

Array = NDArray[Any]
Write = Callable[[Path, Array], object]


def write_tiff(path: Path, bands: Array) -> None:
    import tifffile

    tifffile.imwrite(path, bands, photometric="minisblack", compression="deflate")


def write_planar_tiff(path: Path, bands: Array) -> None:
    import tifffile

    planes = np.moveaxis(bands, 2, 0)
    tifffile.imwrite(path, planes, photometric="minisblack", planarconfig="separate")


def write_dicom(path: Path, bands: Array, **more: Any) -> None:
    import pydicom
    from pydicom import uid

    meta = pydicom.dataset.FileMetaDataset()
    meta.MediaStorageSOPClassUID = uid.CTImageStorage
    meta.MediaStorageSOPInstanceUID = uid.generate_uid()
    meta.TransferSyntaxUID = uid.ExplicitVRLittleEndian
    file = pydicom.dataset.FileDataset(str(path), {}, file_meta=meta, preamble=bytes(128))
    file.Rows, file.Columns = bands.shape[:2]
    file.SamplesPerPixel = 1
    file.BitsAllocated = 16
    file.BitsStored = 12
    file.HighBit = 11
    file.PixelRepresentation = 0
    file.PhotometricInterpretation = "MONOCHROME2"
    file.PixelData = bands[..., 0].astype(np.uint16).tobytes()
    for name, value in more.items():
        setattr(file, name, value)
    file.save_as(path, enforce_file_format=True)


def made(dtype: str, bands: int, seed: int = 0) -> Array:
    top = 256 if dtype == "uint8" else 4096
    values = np.random.default_rng(seed).integers(0, top, (20, 24, bands))
    return values.astype(dtype)


READ: dict[str, tuple[str, Array, Write]] = {
    "array": ("npy", made("uint16", 13), np.save),
    "array of floats": ("npy", made("float64", 2) - 2000.5, np.save),
    "array with the bands first": (
        "npy",
        made("int16", 5),
        lambda path, bands: np.save(path, np.moveaxis(bands, 2, 0)),
    ),
    "array without bands": ("npy", made("uint8", 1), lambda p, bands: np.save(p, bands[..., 0])),
    "archive": ("npz", made("float32", 6), lambda path, bands: np.savez(path, image=bands)),
    "PNG": ("png", made("uint8", 4), lambda path, bands: Image.fromarray(bands).save(path)),
    "grey PNG of 16 bits": (
        "png",
        made("uint16", 1),
        lambda path, bands: Image.fromarray(bands[..., 0]).save(path),
    ),
    "JPEG": (
        "jpg",
        np.full((16, 16, 3), 90, np.uint8),
        lambda path, bands: Image.fromarray(bands).save(path, quality=100),
    ),
    "TIFF": ("tif", made("uint16", 13), write_tiff),
    "TIFF of bytes": ("tiff", made("uint8", 4), write_tiff),
    "TIFF, band by band": ("tif", made("float32", 5), write_planar_tiff),
    "DICOM": ("dcm", made("uint16", 1), write_dicom),
}


PACKAGES = {
    name: "pydicom" if name == "DICOM" else "tifffile"
    for name in ("TIFF", "TIFF of bytes", "TIFF, band by band", "DICOM")
}


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.extras(PACKAGES[name]) if name in PACKAGES else ())
        for name in READ
    ],
)
def test_values_are_those_of_the_file(tmp_path: Path, name: str) -> None:
    ending, bands, write = READ[name]
    path = tmp_path / f"a.{ending}"
    write(path, bands)
    for channels in (None, bands.shape[2]):
        read = read_bands(path, channels)
        assert read.dtype == (np.uint8 if bands.dtype == np.uint8 else np.float32)
        assert np.array_equal(read, bands.astype(read.dtype))


@pytest.mark.extras("pydicom")
def test_a_slice_is_in_its_unit_and_bright_where_much_is(tmp_path: Path) -> None:
    bands = made("uint16", 1)
    rescaled = {"RescaleSlope": "2", "RescaleIntercept": "-1024"}
    write_dicom(tmp_path / "ct.dcm", bands, **rescaled)
    assert np.array_equal(read_bands(tmp_path / "ct.dcm"), 2.0 * bands - 1024)
    white_is_zero = {"PhotometricInterpretation": "MONOCHROME1"}
    write_dicom(tmp_path / "xray.dcm", 4095 - bands, **white_is_zero)
    assert np.array_equal(read_bands(tmp_path / "xray.dcm"), bands)


def fields(
    root: Path, write: Write, ending: str, bands: int = 5, dtype: str = "uint16", each: int = 10
) -> Path:
    """A folder whose classes differ in the last band alone."""
    for number, name in enumerate(("crop", "soil")):
        (root / name).mkdir(parents=True)
        for image in range(each):
            values = made(dtype, bands, seed=2 * image + number)
            values[..., -1] = values[..., -1] // 4 + (64 if dtype == "uint8" else 1024) * number
            write(root / name / f"{image}.{ending}", values)
    return root


def loaded(root: Path, channels: int = 5, **more: Any) -> Any:
    section = DataSection(name=f"folder:{root}", channels=channels, size=20, **more)
    return loading.load(section, device="cpu")


def test_each_band_is_normalised_by_the_training_images(tmp_path: Path) -> None:
    dataset = loaded(fields(tmp_path / "d", np.save, "npy"))
    assert dataset.input_shape == (5, 20, 20)
    stored = torch.cat([images for images, _ in dataset.train.stored(4)]).double()
    # values of 12 bits, none of them scaled
    assert stored.max() > 3500
    assert torch.equal(stored, stored.round())
    mean = stored.mean((0, 2, 3)) / 255
    std = stored.std((0, 2, 3), correction=0) / 255
    assert dataset.train.mean == pytest.approx(mean.tolist())
    assert dataset.train.std == pytest.approx(std.tolist())
    x = torch.cat([x for x, _ in dataset.train.batches(4)])
    assert x.mean((0, 2, 3)).tolist() == pytest.approx([0.0] * 5, abs=1e-4)
    assert x.std((0, 2, 3), correction=0).tolist() == pytest.approx([1.0] * 5, abs=1e-4)
    # the test images with the numbers of the training images
    test = dataset.read_test("to compare")
    assert test.mean == dataset.train.mean
    again = torch.cat([images for images, _ in dataset.train.stored(4)])
    assert torch.equal(again.double(), stored)


@pytest.mark.parametrize("fit", ["resize", "letterbox"])
def test_a_network_learns_what_only_the_last_band_tells(tmp_path: Path, fit: str) -> None:
    dataset = loaded(fields(tmp_path / "d", np.save, "npy", each=30), fit=fit)
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(5, 8, 3, stride=2), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(),
        nn.Linear(8, 2),
    )  # fmt: skip
    augment = [
        {"name": "flip"},
        {"name": "crop", "padding": 2},
        {"name": "RandomAffine", "degrees": 10},
    ]
    section = TrainingSection(batch_size=8, augment=augment, precision="float32")
    (score,) = Trainer(section, dataset, device="cpu").fit(
        net, seed=0, rungs=[8], rates=LearningRates(0.05)
    )
    assert score.metrics["accuracy"] > 0.9


def test_bytes_stay_bytes(tmp_path: Path) -> None:
    dataset = loaded(fields(tmp_path / "d", np.save, "npy", 4, "uint8"), channels=4)
    (images, _), *_ = dataset.train.stored(4)
    assert images.dtype == torch.uint8
    assert images.shape[1] == 4


def test_masks_lie_on_bands(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True)
    (root / "classes.txt").write_text("soil\ncrop\n")
    for image in range(10):
        bands = made("uint16", 6, seed=image)
        mask = (bands[..., 5] > 2048).astype(np.uint8)
        np.save(root / "images" / f"{image}.npy", np.moveaxis(bands, 2, 0))
        Image.fromarray(mask).save(root / "masks" / f"{image}.png")
    section = DataSection(name=f"folder:{root}", channels=6, size=(20, 24), fit="resize")
    dataset = loading.load(section, device="cpu", task=TASKS["segmentation"])
    assert dataset.input_shape == (6, 20, 24)
    for images, masks in dataset.train.stored(4):
        assert torch.equal(masks, (images[:, 5] > 2048).long())
    augment = TrainingSection(augment=[{"name": "flip"}, {"name": "RandomVerticalFlip"}]).augment
    for x, masks in dataset.train.epoch(4, seed=0, epoch=0, augment=augment):
        bright = x[:, 5] * dataset.train.std[5] + dataset.train.mean[5] > 2048.5 / 255
        assert torch.equal(masks, bright.long())


WRONG: dict[str, tuple[Array, str]] = {
    "other bands": (made("uint16", 4), "4 bands, and data.channels is 5"),
    "no number": (np.full((20, 24, 5), np.nan, np.float32), "no finite numbers"),
    "bytes": (made("uint8", 5), "values of 8 bits, unlike those of the first training image"),
    "text": (np.full((20, 24, 5), "a"), "not plain numbers"),
    "a film": (
        made("uint16", 35).reshape(20, 24, 5, 7),
        r"the shape \(20, 24, 5, 7\), not \(height, width, bands\)",
    ),
}


@pytest.mark.parametrize("name", WRONG)
def test_an_image_with_other_bands_is_refused_or_left_out(tmp_path: Path, name: str) -> None:
    root = fields(tmp_path / "d", np.save, "npy")
    bands, said = WRONG[name]
    np.save(root / "soil" / "9.npy", bands)
    with pytest.raises(DataError, match=said):
        # wherever the division puts it
        loaded(root).read_test("to see all")
    with pytest.warns(NasAttnWarning, match=f"left out: 'soil/9.npy'; the first: .*{said}"):
        loaded(root, broken_images="skip").read_test("to see all")


def test_bands_are_those_of_a_folder() -> None:
    with pytest.raises(RecipeError, match="channels is for folder:PATH"):
        load_recipe("digits", overrides={"data.channels": 4})


def scans(root: Path) -> None:
    """Of 12 bits, in files of 16."""
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for image in range(8):
            values = made("uint16", 1, seed=image + 9 * (name == "dog"))
            Image.fromarray(values[..., 0]).save(root / name / f"{image}.png")


def test_images_of_12_bits_are_read_with_all_bits_or_not_at_all(tmp_path: Path) -> None:
    root = tmp_path / "d"
    scans(root)
    with pytest.raises(DataError, match=r"more than 8 bits: data.channels = 1 reads them all"):
        loading.load(DataSection(name=f"folder:{root}", size=20), device="cpu")
    assert take(str(root)).bands == 1
    stored = loaded(root, channels=1).train.first(99)
    assert stored.dtype == torch.float32
    assert 4000 < stored.max() < 4096


def test_a_study_of_before_is_read_without_the_bits_of_its_images() -> None:
    table = json.loads(recipe().to_json())
    table["data"]["bits"] = 16
    assert frozen_recipe(json.dumps(table), where="a study") == recipe()


AMBIGUOUS = [
    (64, 64, 200),
    (25, 25, 30),
    (64, 200, 64),
    (32, 32, 32),
    (20, 100, 30),
    (16, 32, 20),
]


@pytest.mark.parametrize("shape", AMBIGUOUS)
def test_an_array_that_can_be_read_in_two_ways_needs_the_number_of_its_bands(
    tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    np.save(tmp_path / "a.npy", np.zeros(shape, np.float32))
    with pytest.raises(ValueError, match=r"give their number, data\.channels"):
        read_bands(tmp_path / "a.npy")
    assert read_bands(tmp_path / "a.npy", shape[2]).shape == shape


def test_arrays_need_the_number_of_their_bands(tmp_path: Path) -> None:
    root = fields(tmp_path / "d", np.save, "npy")
    with pytest.raises(DataError, match=r"an array of bands: give their number, data.channels"):
        loading.load(DataSection(name=f"folder:{root}", size=20), device="cpu")


def test_arrays_beside_photographs_are_no_images(tmp_path: Path) -> None:
    root = tmp_path / "d"
    for name in ("cat", "dog"):
        (root / name).mkdir(parents=True)
        for image in range(4):
            pixels = made("uint8", 3, seed=image + 9 * (name == "dog"))
            Image.fromarray(pixels).save(root / name / f"{image}.png")
            np.save(root / name / f"{image}.npy", pixels)
    inventory = take(str(root))
    assert inventory.images == 8
    assert inventory.bands is None
    assert any("of another kind (.npy)" in line for line in inventory.described())


def test_init_proposes_the_bands_and_a_dry_run_names_them(
    tmp_path: Path, nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    fields(tmp_path / "d", np.save, "npy")
    done = nas("init", "a.toml", "--data", "folder:d", "--backbone", "resnet8")
    assert "bands: 5, read as they are" in done.out
    assert load_recipe("a.toml").data.channels == 5
    dry = nas("search", "a.toml", "--dry-run")
    assert "bands: 5, read as they are" in dry.out
    assert "not read" not in dry.out
    # said without a download
    weights = ("--backbone", "timm:resnet10t", "--target", "weights")
    done = nas("init", "b.toml", "--data", "folder:d", *weights)
    assert "trained on 3 channels, the images have 5" in done.out


def marked(root: Path) -> None:
    """Reflectances, of which a fifth of the pixels is -9999."""
    for number, name in enumerate(("maize", "wheat")):
        (root / name).mkdir(parents=True)
        for image in range(10):
            draw = np.random.default_rng(100 * number + image)
            bands = (draw.random((3, 16, 16)) * 0.3 + 0.05 * number).astype("float32")
            bands[:, draw.random((16, 16)) < 0.2] = -9999.0
            np.save(root / name / f"{image}.npy", bands)


def test_pixels_without_data_are_said_and_left_out_of_mean_and_deviation(tmp_path: Path) -> None:
    root = tmp_path / "d"
    marked(root)
    lines = "\n".join(take(str(root)).described())
    assert "range of each band: -9999 to 0.34" in lines
    assert "give data.nodata = -9999" in lines
    section = DataSection(name=f"folder:{root}", channels=3, size=16, nodata=-9999)
    known = of(section, "classes")
    assert known is not None
    assert "-9999 counts as no data" in "\n".join(known.described())
    dataset = loading.load(section, device="cpu")
    assert 0.1 < dataset.train.mean[0] * 255 < 0.3
    assert 0.05 < dataset.train.std[0] * 255 < 0.15
    x = torch.cat([x for x, _ in dataset.train.batches(4)])
    assert x.isfinite().all()
    # they are the mean for a network
    assert (x == 0).float().mean() == pytest.approx(0.2, abs=0.03)
    assert float(x.abs().max()) < 4
