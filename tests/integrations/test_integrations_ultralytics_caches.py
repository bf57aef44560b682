"""A cache of labels that came with somebody's images is not read, so that nothing in it runs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest


class Intruder:
    """Code in a pickle."""

    def __reduce__(self) -> tuple[object, tuple[str, str]]:
        return open, ("ran", "w")


@pytest.mark.extras("ultralytics")
def test_ultralytics_reads_no_caches_while_it_trains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ultralytics.data import dataset
    from ultralytics.data.utils import load_dataset_cache_file as theirs

    from nas_attn.ultralytics.rung_trainer import left_alone

    monkeypatch.chdir(tmp_path)
    path = tmp_path / "labels.cache"
    with path.open("wb") as file:
        # as Ultralytics writes it
        np.save(file, {"labels": [Intruder()]})  # type: ignore[arg-type]
    with left_alone(), pytest.raises(FileNotFoundError):
        dataset.load_dataset_cache_file(path)
    assert not (tmp_path / "ran").exists()
    assert dataset.load_dataset_cache_file is theirs
