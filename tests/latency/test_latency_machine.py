from __future__ import annotations

import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from torch import nn

from nas_attn import errors
from nas_attn.latency.machine import difference, fingerprint
from nas_attn.latency.ratios import open_keys
from nas_attn.latency.session import StillOpen, measure
from nas_attn.recipe import reading, recipe
from nas_attn.storage.records import Session

SECTION = recipe.LatencySection()


@pytest.mark.slow
def test_the_fingerprint_is_the_same_in_another_process() -> None:
    code = (
        "from nas_attn.latency.machine import fingerprint; from nas_attn.recipe.recipe import LatencySection; "
        "import torch; torch.set_num_threads(2); print(fingerprint(LatencySection()).id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(SECTION).id


def test_the_fingerprint_says_what_latencies_depend_on() -> None:
    found = fingerprint(SECTION)
    assert found.device == "cpu"
    assert found.name
    assert {"torch", "threads", "machine", "cpus", "instructions", "mode"} <= dict(
        found.details
    ).keys()
    assert found.details == tuple(sorted(found.details))
    assert fingerprint(recipe.LatencySection(threads=2)).id != found.id
    assert (
        fingerprint(recipe.LatencySection(batch_size=8)).id == found.id
    )  # a condition, not the machine
    command = fingerprint(recipe.LatencySection(mode="command", command="./phone.sh"))
    assert (command.device, command.name) == ("command", "./phone.sh")
    assert "cpus" not in dict(command.details)


def test_the_difference_names_what_differs_only() -> None:
    here = fingerprint(SECTION)
    details = dict(here.details) | {"torch": "1.0"}
    assert difference(replace(here, details=tuple(sorted(details.items()))), here).startswith(
        "torch 1.0 there, "
    )
    assert difference(here, here) == ""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mode": "command"}, "belong together"),
        ({"command": "./phone"}, "belong together"),
        ({"mode": "command", "command": " "}, "must name a program"),
        ({"mode": "cuda-graph"}, "takes device = 'cuda'"),
        ({"mode": "onnxruntime", "dtype": "bfloat16"}, "not 'bfloat16'"),
        ({"mode": "onnxruntme"}, "latency.mode: .*'onnxruntme'.*onnxruntime"),
    ],
)
def test_settings_that_do_not_fit_are_refused(settings: dict[str, object], says: str) -> None:
    table = {
        "name": "x",
        "space": {"name": "s", "choices": {"se": {}}},
        "backbone": {"name": "resnet8"},
        "data": {"name": "digits"},
        "latency": settings,
    }
    with pytest.raises(errors.RecipeError, match=says):
        reading.recipe_from(table, where="x.toml")


@pytest.fixture(autouse=True)
def _own_locks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NAS_ATTN_LOCK_DIR", str(tmp_path / "locks"))


def test_measuring_goes_on_with_the_neediest_until_none_is_open() -> None:
    candidates: dict[str, nn.Module] = {str(i): nn.Conv2d(3, 3, 1) for i in range(10)}
    found: list[Session] = []

    def still_open(sessions: object) -> list[str]:
        assert list(found) == sessions
        return open_keys(found, candidates, tolerance=1e-9, max_sessions=2)

    checked: StillOpen = still_open
    section = recipe.LatencySection(session_seconds=0.01)
    for session in measure(
        section,
        reference=nn.Conv2d(3, 3, 1),
        candidates=candidates,
        input_shape=(3, 4, 4),
        seed=0,
        still_open=checked,
    ):
        found.append(session)
    per_session = [[sample.key for sample in session.samples] for session in found]
    assert all(len(keys) == len(set(keys)) == 8 for keys in per_session)
    counts = [sum(key in keys for keys in per_session) for key in candidates]
    assert min(counts) == 2
    assert len(found) <= math.ceil(2 * 10 / 8) + 1
