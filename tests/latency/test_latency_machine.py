from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import pytest

from nas_attn.errors import RecipeError
from nas_attn.latency import difference, fingerprint
from nas_attn.recipe import LatencySection
from nas_attn.recipe_reading import recipe_from

SECTION = LatencySection()


def test_the_fingerprint_is_the_same_in_another_process() -> None:
    code = (
        "from nas_attn.latency import fingerprint; from nas_attn.recipe import LatencySection; "
        "import torch; torch.set_num_threads(2); print(fingerprint(LatencySection()).id)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == fingerprint(SECTION).id


def test_the_fingerprint_says_what_latencies_depend_on() -> None:
    found = fingerprint(SECTION)
    assert found.device == "cpu"
    assert found.name
    assert {"torch", "threads", "machine", "cpus", "instructions", "mode"} <= dict(found.details).keys()
    assert found.details == tuple(sorted(found.details))
    assert fingerprint(LatencySection(threads=2)).id != found.id
    assert fingerprint(LatencySection(batch_size=8)).id == found.id  # a condition, not the machine


def test_a_command_stands_for_the_device_that_it_measures() -> None:
    found = fingerprint(LatencySection(mode="command", command="./phone.sh"))
    assert (found.device, found.name) == ("command", "./phone.sh")
    assert "cpus" not in dict(found.details)


def test_the_difference_names_what_differs_only() -> None:
    here = fingerprint(SECTION)
    details = dict(here.details) | {"torch": "1.0"}
    assert difference(replace(here, details=tuple(sorted(details.items()))), here).startswith("torch 1.0 there, ")
    assert difference(here, here) == ""


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"mode": "command"}, "belong together"),
        ({"command": "./phone"}, "belong together"),
        ({"mode": "command", "command": " "}, "must name a program"),
        ({"mode": "cuda-graph"}, "takes device = 'cuda'"),
        ({"mode": "onnxruntime", "dtype": "bfloat16"}, "not 'bfloat16'"),
        ({"mode": "tensorrt"}, "latency.mode: .*'tensorrt'.*eager"),
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
    with pytest.raises(RecipeError, match=says):
        recipe_from(table, where="x.toml")
