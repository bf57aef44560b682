"""A study of a few seconds."""

from __future__ import annotations

from pathlib import Path

import pytest
from table_study import table  # noqa: F401

TINY = """\
name = "tiny"
objectives = ["accuracy", "params"]
space = { name = "tiny", choices = { se = { reduction = [4, 8] }, simam = {} } }
backbone = { name = "resnet8", width = 4 }
data = { name = "digits-8x8" }
[training]
start = "scratch"
rungs = [1]
batch_size = 256
[search]
trials = 2
baselines = "bare"
confirm_seeds = 0
"""


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    path = tmp_path / "tiny.toml"
    path.write_text(TINY)
    return path
