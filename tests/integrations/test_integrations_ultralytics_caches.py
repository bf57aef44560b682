"""A cache of labels that came with somebody's images is read, and nothing in it runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas_attn.ultralytics.caches import read_cache

LABEL: dict[str, Any] = {
    "im_file": "a.jpg",
    "shape": (3, 4),
    "cls": np.zeros((2, 1), np.float32),
    "bboxes": np.full((2, 4), 0.5),
    "segments": [np.ones((5, 2), np.float32)],
    "keypoints": None,
    "normalized": True,
}
CACHE = {"labels": [LABEL], "hash": "abc", "results": (1, 0, np.int64(0), 0, 1), "version": "1.0.3"}


class Intruder:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran", "w")


def written(path: Path, content: Any) -> Path:
    """As Ultralytics writes it."""
    with path.open("wb") as file:
        np.save(file, content)
    return path


def test_a_cache_is_read_as_it_was_written(tmp_path: Path) -> None:
    table = read_cache(written(tmp_path / "labels.cache", CACHE))
    assert (table["hash"], table["results"], table["version"]) == ("abc", (1, 0, 0, 0, 1), "1.0.3")
    label = table["labels"][0]
    assert label.keys() == LABEL.keys()
    np.testing.assert_equal(label["bboxes"], LABEL["bboxes"])
    np.testing.assert_equal(label["segments"][0], LABEL["segments"][0])


@pytest.mark.parametrize(
    "content", [{**CACHE, "labels": [Intruder()]}, Intruder(), np.arange(3), ["no table"]]
)
def test_a_cache_with_more_in_it_counts_as_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: Any
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "labels.cache", content)
    with pytest.raises(FileNotFoundError):
        read_cache(path)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(FileNotFoundError):
        read_cache(path)
    with pytest.raises(FileNotFoundError):
        read_cache(tmp_path / "none.cache")
    assert not (tmp_path / "ran").exists()


@pytest.mark.extras("ultralytics")
def test_ultralytics_reads_its_caches_so_while_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.data import dataset
    from ultralytics.data.utils import load_dataset_cache_file as theirs

    from nas_attn.ultralytics.rung_trainer import left_alone

    monkeypatch.chdir(tmp_path)
    path = written(tmp_path / "labels.cache", {**CACHE, "labels": [Intruder()]})
    with left_alone(), pytest.raises(FileNotFoundError):
        dataset.load_dataset_cache_file(path)
    assert not (tmp_path / "ran").exists()
    assert dataset.load_dataset_cache_file is theirs
