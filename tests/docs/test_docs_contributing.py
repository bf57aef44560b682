"""Someone adds an attention module as CONTRIBUTING says: in a copy of the repository, to the letter."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_module_is_listed_and_can_be_placed(contributed: Path) -> None:
    shown = python(
        contributed, "-m", "nas_attn.cli.main", "modules", "lct", "--channels", "64", "--set", "groups=8", "--json"
    )
    assert json.loads(shown)["resolved"] == {"groups": 8}
    assert json.loads(shown)["parameters"] == 128
    code = (
        "import nas_attn as na, torch; from nas_attn.backbones import build; from nas_attn.recipe import BackboneSection\n"
        "model = build(BackboneSection(name='resnet8'), input_shape=(3, 32, 32), classes=10).eval()\n"
        "x = torch.randn(2, 3, 32, 32); before = model(x)\n"
        "na.attach(model, 'stage2=lct stage3=lct(groups=8)', input_shape=(3, 32, 32)).eval()\n"
        "print(torch.equal(model(x), before), sum('norm.weight' in n for n in model.state_dict()))"
    )
    assert python(contributed, "-c", code).split() == ["True", "2"]


@pytest.mark.slow
def test_tests_of_the_catalogue_take_it_up(contributed: Path) -> None:
    command = ["-m", "pytest", "tests/attention", "-q", "-k", "lct or every_row", "-p", "no:cacheprovider", "-m", ""]
    shown = python(contributed, *command)
    assert " failed" not in shown
    assert int(shown.rsplit(" passed", 1)[0].split()[-1]) >= 10
