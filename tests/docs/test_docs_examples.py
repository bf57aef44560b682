"""The examples of the documentation do what it says, run as a user would: from files in a folder of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from documented import ROOT, files

from nas_attn.recipe_reading import load_recipe, load_space

QUICK = ["latency.session_seconds=0.2", "latency.max_sessions=2", "search.confirm_seeds=1", "training.rungs=[1, 2]"]
ON_ONE_CORE = """
import os, random, sys
os.sched_setaffinity(0, {random.choice(sorted(os.sched_getaffinity(0)))})
os.execv(sys.executable, [sys.executable, *sys.argv[1:]])
"""


def run(folder: Path, *arguments: str) -> str:
    """Standard output of Python with these arguments in a folder, on one core, as other tests run beside it."""
    done = subprocess.run(
        [sys.executable, "-c", ON_ONE_CORE, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def nas_attn(folder: Path, *arguments: str) -> str:
    return run(folder, "-m", "nas_attn.cli.main", *arguments)


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the files that these pages show."""
    folder = tmp_path_factory.mktemp("examples")
    for page in ("evaluator", "models", "optuna", "spaces"):
        files(f"docs/{page}.md", folder)
    return folder


@pytest.mark.slow
def test_segmentation_by_mean_iou(examples: Path) -> None:
    settings = [word for setting in QUICK for word in ("--set", setting)]
    command = ["search", "discs.toml", "--trials", "6", "--workers", "1", "--threads", "1", "--json", *settings]
    answer = json.loads(nas_attn(examples, *command))
    assert answer["ended"] == "complete"
    assert answer["objectives"] == ["miou", "latency"]
    trained = [c for c in answer["candidates"] if c["state"] == "scored"]
    assert len(trained) >= 4  # the baselines are never pruned
    assert all(0.2 < c["values"][0] < 1 for c in trained)
    assert nas_attn(examples, "resume", "discs", "--quiet", "--workers", "1").count("miou") >= 1


def test_functions_as_model_and_evaluator(examples: Path) -> None:
    lines = run(examples, "search_discs.py").splitlines()
    assert lines[-1].startswith("(")
    assert " none" in " ".join(lines)


def test_attaching(examples: Path) -> None:
    assert run(examples, "attach.py").strip() == "torch.Size([1, 1000])"


def test_the_sampler_in_a_study_of_ones_own(examples: Path) -> None:
    lines = [line for line in run(examples, "own_study.py").splitlines() if line.startswith("[")]
    assert any(line.startswith("[0.76") for line in lines), "the best that two can do was found: blend twice"
    assert all("'none'" in line for line in lines)


def test_space_of_ones_own(examples: Path) -> None:
    space = json.loads(nas_attn(examples, "sites", "resnet14", "--space", "my_space.toml", "--json"))
    assert load_space(str(examples / "my_space.toml")).name == "my_space"
    assert all(not site.startswith("stage1") for site in space["sites"])
    assert all("se(" in value or value == "none" for value in space["sites"]["stage2.block1"])


def test_recipe_of_the_evaluator(examples: Path) -> None:
    assert load_recipe(str(examples / "discs.toml")).training.evaluator == "segmentation:evaluate"
