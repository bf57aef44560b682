"""Large data sets of one's own lie in files of one process: what lives keeps its file, whatever
others do, and nothing of the dead stays for ever.
"""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from materials import photographs
from torch.utils.data import Dataset

from nas_attn import data
from nas_attn.data import loading
from nas_attn.data.cache import LEFT_S, cache_folder
from nas_attn.data.dataset import Dataset as OurDataset
from nas_attn.recipe.recipe import DataSection


class Greys(Dataset[Any]):
    """Each image is of one grey, its number."""

    def __len__(self) -> int:
        return 24

    def __getitem__(self, number: int) -> Any:
        if number >= len(self):
            raise IndexError
        return np.full((6, 6, 3), number, np.uint8), number % 2


def greys(split: str) -> Greys | None:
    return None if split == "validation" else Greys()


@pytest.fixture(autouse=True)
def _all_in_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data.own, "MOST_HELD_BYTES", 0)


def load_own() -> OurDataset:
    dataset = loading.load(DataSection(name=f"{__name__}:greys", workers=1), device="cpu")
    assert dataset.train.pixels.path is not None
    return dataset


def files() -> list[Path]:
    return sorted(cache_folder().glob("own-*"))


def a_week_passes() -> None:
    for path in files():
        long_ago = time.time() - LEFT_S - 60
        os.utime(path, (long_ago, long_ago))


def another_process_prepares(folder: Path) -> None:
    photographs(folder)
    code = f"""
        from nas_attn.data import loading
        from nas_attn.recipe.recipe import DataSection
        loading.load(DataSection(name="folder:{folder.as_posix()}", size=8), device="cpu")
    """
    run(code)


def run(code: str, *, status: int = 0) -> None:
    program = [sys.executable, "-c", textwrap.dedent(code)]
    assert subprocess.run(program, check=False).returncode == status


def test_a_search_of_days_keeps_its_images(tmp_path: Path) -> None:
    dataset = load_own()
    another_process_prepares(tmp_path / "photos")
    assert any(path.suffix == ".npy" for path in files())
    drawn = dataset.of_seed(7)
    greys_seen = [int(image[0, 0, 0]) for image in drawn.validation.first(4)]
    assert drawn.drawn is not None
    assert greys_seen == drawn.drawn.numbers[:4].tolist()
    del dataset, drawn
    assert not files(), "they go with their data set"


def test_a_file_that_is_gone_stays_readable() -> None:
    """The file of a process that was stopped for a week may go."""
    dataset = load_own()
    expected = dataset.of_seed(7).validation.first(4)
    dataset.of_seed(8)
    for path in files():
        # Windows keeps it, since it is open
        with suppress(PermissionError):
            path.unlink()
    assert torch.equal(dataset.of_seed(7).validation.first(4), expected)


def test_images_in_use_are_renewed() -> None:
    dataset = load_own()
    a_week_passes()
    next(iter(dataset.train.epoch(4, seed=1, epoch=1, augment=[])))
    (images,) = (path for path in files() if path.suffix == ".npy")
    assert time.time() - images.stat().st_mtime < LEFT_S


def test_the_file_of_a_killed_process_goes_a_week_later() -> None:
    killed = f"""
        import os
        from pathlib import Path
        from nas_attn.data.cache import Scratch
        scratch = Scratch(Path({str(cache_folder())!r}))
        scratch.path.write_bytes(b"images")
        scratch.path.with_name(scratch.path.name + ".12345678.part").write_bytes(b"some")
        os._exit(9)
    """
    run(killed, status=9)
    left = files()
    assert len(left) >= 2
    load_own()
    assert set(left) <= set(files()), "for a week"
    a_week_passes()
    dataset = load_own()
    assert not set(left) & set(files())
    del dataset
    assert not files()


def test_a_forked_process_removes_nothing(tmp_path: Path) -> None:
    code = f"""
        import os, sys
        from pathlib import Path
        from nas_attn.data.cache import Scratch
        scratch = Scratch(Path({str(tmp_path)!r}))
        scratch.path.write_bytes(b"images")
        if os.fork() == 0:
            sys.exit()
        os.wait()
        assert scratch.path.exists()
    """
    if not hasattr(os, "fork"):
        pytest.skip("there is no fork here")
    run(code)
    assert not list(tmp_path.glob("own-*"))
