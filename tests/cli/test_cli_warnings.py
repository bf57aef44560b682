"""A warning is given once, however many processes work on the study."""

from pathlib import Path

import pytest
from materials import photographs

RECIPE = """
name = "photos"
objectives = ["accuracy", "params"]
space = { name = "photos", choices = { se = { reduction = [2] } } }
backbone = { name = "resnet8", width = 4 }
search = { trials = 2, confirm_seeds = 0 }
data = { name = "folder:photos", size = 8, broken_images = "skip" }
[training]
start = "scratch"
rungs = [1]
batch_size = 4
"""


@pytest.mark.parametrize("workers", ["1", pytest.param("2", marks=pytest.mark.slow)])
def test_images_that_cannot_be_read_are_named_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, workers: str
) -> None:
    photographs(tmp_path / "photos", of_each=8, side=8)
    (tmp_path / "photos" / "cat" / "000.jpg").write_text("no image")
    (tmp_path / "photos.toml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    for command in (["search", "photos.toml"], ["resume", "--trials", "3"]):
        ended = nas(*command, "--workers", workers, "--device", "cpu")
        assert ended.status == 0, ended.err
        (line,) = [line for line in ended.err.splitlines() if "cannot be read" in line]
        assert line.startswith("warning: 1 image of 'photos' ")
        assert "'cat/000.jpg'" in line
