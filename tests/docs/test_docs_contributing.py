"""Someone adds a module, a data set, a sampler, a cost, a metric, a latency mode and a task as
the pages of docs/contributing say, to the letter.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest


def python(folder: Path, *arguments: str) -> str:
    env = {**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, *arguments]
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


END = "\x1e"
"""Printed after each command."""
RUN = f"""
import json, sys
from nas_attn.cli.main import app
for command in json.loads(sys.argv[1]):
    app(command, standalone_mode=False)
    print({END!r}, flush=True)
"""
ATTACHING = """
import nas_attn as na
import torch
from nas_attn.backbones import build
from nas_attn.recipe.recipe import BackboneSection

model = build(BackboneSection(name="resnet8"), input_shape=(3, 32, 32), classes=10).eval()
x = torch.randn(2, 3, 32, 32)
before = model(x)
na.attach(model, "stage2=lct stage3=lct(groups=8)", input_shape=(3, 32, 32)).eval()
print(torch.equal(model(x), before), sum("norm.weight" in name for name in model.state_dict()))
"""


OWN = "def depth(network):\n    return sum(1 for _ in network.model.modules())\n"
SETTINGS = {
    "data.name": "stripes",
    "data.options": "{}",
    "search.sampler": "one_change",
    "search.trials": "2",
    "search.baselines": "bare",
    "search.confirm_seeds": "0",
    "latency.mode": "traced",
    "latency.tolerance": "0.9",
    "latency.session_seconds": "0.1",
    "training.start": "scratch",
    "training.rungs": "[1]",
    "backbone.width": "4",
    "objectives": '["worst_class", "energy", "my_costs:depth", "latency", "above_chance"]',
}
"""Of a search with all that is new."""


@dataclass(frozen=True)
class Printed:
    """What the commands of someone print who has added all of it."""

    module: Any
    """Of the module, as JSON."""
    front: Any
    """Of the search, as JSON."""
    attached: list[str]


@pytest.fixture(scope="module")
def printed(contributed: Path, tmp_path_factory: pytest.TempPathFactory) -> Printed:
    """All commands run in one process, which loads the libraries once."""
    (contributed / "my_costs.py").write_text(OWN)
    url = f"sqlite:///{tmp_path_factory.mktemp('study')}/a.db"
    options = [part for name, value in SETTINGS.items() for part in ("--set", f"{name}={value}")]
    search = f"search digits --workers 1 --threads 1 --quiet --storage {url}"
    commands = [
        ["modules", "lct", "--channels", "64", "--set", "groups=8", "--json"],
        [*search.split(), *options],
        f"show digits --storage {url} --json".split(),
    ]
    shown = python(contributed, "-c", RUN + ATTACHING, json.dumps(commands))
    module, _, front, attached = shown.split(END)
    return Printed(json.loads(module), json.loads(front), attached.split())


def test_module_is_listed_and_can_be_placed(printed: Printed) -> None:
    assert printed.module["resolved"] == {"groups": 8}
    assert printed.module["parameters"] == 128
    assert printed.attached == ["True", "2"]


def test_data_set_sampler_cost_metric_and_latency_mode_work_in_a_search(printed: Printed) -> None:
    candidates = printed.front["candidates"]
    costs = [one["cost"] for one in candidates]
    assert all(0 < cost["energy"] < 1e-3 and cost["my_costs:depth"] > 10 for cost in costs)
    # no latency on a busy machine
    assert all(0 <= one["values"][0] <= 1 and (one["values"][3] or 1) > 0 for one in candidates)


def test_the_code_of_the_page_passes_its_own_checks(contributed: Path) -> None:
    pytest.importorskip("ruff", reason="ruff is not installed")
    python(contributed, "-m", "ruff", "check", "--no-cache", "nas_attn")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_tests_of_the_catalogue_take_it_up(contributed: Path) -> None:
    command = [
        "-m",
        "pytest",
        "tests/attention",
        "-q",
        "-k",
        "lct or every_row",
        "-p",
        "no:cacheprovider",
        "-m",
        "",
    ]
    shown = python(contributed, *command)
    assert " failed" not in shown
    assert int(shown.rsplit(" passed", 1)[0].split()[-1]) >= 10


# pytest in a process of its own; the contract is asked of all rows in tests/training/tasks
@pytest.mark.slow
def test_a_task_keeps_to_the_contract_of_tasks(contributed: Path) -> None:
    command = "-m pytest tests/training/tasks -q -k ordinal -p no:cacheprovider"
    shown = python(contributed, *command.split())
    assert " failed" not in shown
    assert int(shown.rsplit(" passed", 1)[0].split()[-1]) >= 8
