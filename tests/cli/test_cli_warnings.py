"""A warning is given once, however many processes work on the study."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

RECIPE = """
name = "photos"
objectives = ["accuracy", "params"]
space = { name = "photos", choices = { se = { reduction = [2] } } }
[backbone]
name = "resnet8"
width = 4
[data]
name = "folder:photos"
size = 8
broken_images = "skip"
[training]
start = "scratch"
rungs = [1]
batch_size = 4
[search]
trials = 2
confirm_seeds = 0
"""


@pytest.fixture
def photos(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of images, one of which is none, and a recipe."""
    random = np.random.default_rng(0)
    for name in ("bee", "cat"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        for number in range(12):
            pixels = random.integers(0, 255, (8, 8, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "photos" / name / f"{number:02}.png")
    (tmp_path / "photos" / "bee" / "00.png").write_text("no image")
    (tmp_path / "photos.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_images_that_cannot_be_read_are_named_once(photos: Path, nas, workers: str) -> None:
    for command in (["search", "photos.toml"], ["resume", "--trials", "3"]):
        ended = nas(*command, "--workers", workers, "--device", "cpu")
        assert ended.status == 0, ended.err
        lines = [line for line in ended.err.splitlines() if "cannot be read" in line]
        assert len(lines) == 1, ended.err
        assert "warning: 1 image of 'photos' cannot be read, left out: 'bee/00.png'" in lines[0]
