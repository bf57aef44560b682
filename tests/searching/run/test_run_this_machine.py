"""A worker started by hand: it stands for one on each GPU, and goes on if it loses its GPU."""

from __future__ import annotations

import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest
import torch
from command_line import Nas

from nas_attn.recipe.reading import load_recipe
from nas_attn.storage.opening import create_study, open_study

URL = "sqlite:///nas_attn.db"


def begun(trials: int) -> None:
    changes = {"search.trials": trials, "search.confirm_seeds": 0}
    create_study(load_recipe("table.toml", overrides=changes), URL)


LOSES_GPU = """
import os, uuid
from pathlib import Path
from nas_attn.errors import DeviceLost

PROCESS = uuid.uuid4().hex

def evaluate(model, run):
    with Path("calls.txt").open("a") as calls:
        calls.write(f"{os.getpid()} {PROCESS} {run.placement}\\n")
    if run.placement.count("eca") == 3:
        raise DeviceLost("this process cannot use the device any more")
    return {"score": 1.0, "effort": 1.0}
"""


@pytest.mark.slow
def test_a_worker_that_lost_its_gpu_goes_on_as_another_process(table: Path) -> None:
    (table / "table_evaluator.py").write_text(LOSES_GPU)
    begun(5)
    command = [sys.executable, "-m", "nas_attn", "worker", "table"]
    subprocess.run(command, check=True, timeout=240)
    opened = open_study("table", URL)
    assert len(opened.store.workers.former()) >= 4
    calls = [line.split(maxsplit=2) for line in (table / "calls.txt").read_text().splitlines()]
    assert len({number for number, _, _ in calls}) == 1, "who started it finds it by its number"
    lost = [process for _, process, placement in calls if placement.count("eca") == 3]
    assert len(set(lost)) == len(lost) == 3
    states = Counter(row.state for row in opened.store.candidates())
    assert states["failed"] == 1
    assert states["running"] == 0
    assert states.total() >= 5


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
