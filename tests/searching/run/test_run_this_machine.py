"""A worker started by hand: it stands for one on each GPU, and goes on if it loses its GPU."""

from __future__ import annotations

import re

import pytest
import torch
from command_line import Nas

from nas_attn.recipe.reading import load_recipe
from nas_attn.storage.opening import create_study

URL = "sqlite:///nas_attn.db"


def begun(trials: int) -> None:
    changes = {"search.trials": trials, "search.confirm_seeds": 0}
    create_study(load_recipe("table.toml", overrides=changes), URL)


# two processes; how GPUs are shared out is asked in test_worker_devices.py
@pytest.mark.slow
@pytest.mark.usefixtures("table")
def test_a_worker_started_by_hand_stands_for_one_on_each_gpu(
    nas: Nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    begun(3)
    # the workers themselves find no GPU
    ended = nas("worker", "table")
    assert ended.status != 0
    assert {"cuda:0", "cuda:1"} <= set(re.findall(r"cuda:\d", ended.out + ended.err))
