"""Studies without training: an evaluator that looks its answer up, and a recipe for it."""

import shutil
import sys
import textwrap
from pathlib import Path

import pytest

import nas_attn as na

RECIPE = """
name = "table"
objectives = ["score", "-effort"]
space = { name = "table", choices = { se = { reduction = [2, 4] }, eca = {}, simam = {} } }
backbone = { name = "resnet8", width = 8 }
data = { name = "external", input_shape = [1, 12, 12], classes = 4 }
[training]
start = "scratch"
rungs = [1, 2]
evaluator = "table_evaluator:evaluate"
[search]
trials = 14
sampler = "tpe"
confirm_seeds = 1
"""

EVALUATOR = """
import os, time, zlib
from pathlib import Path

WORTH = {"none": 0.0, "se": 2.0, "eca": 3.0, "gam": 3.0, "simam": -1.0}

def evaluate(model, run):
    with open("calls.txt", "a") as calls:
        calls.write(f"{run.placement}|{run.seed}|{run.rung}|{os.getpid()}\\n")
    seconds = os.environ.get("TABLE_SECONDS", "0").split(",")  # of each rung, or of both
    time.sleep(float(seconds[min(run.rung, len(seconds) - 1)]))
    if "fail" in os.environ.get("TABLE_FAIL", "") and "simam" in run.placement:
        return {"score": float("nan"), "effort": 0.0}
    parts = [] if run.placement == "none" else run.placement.split(" stage")
    score = sum(WORTH[part.split("=")[1].split("(")[0]] for part in parts)
    noise = zlib.crc32(f"{run.placement}{run.seed}".encode()) % 100 / 500
    return {"score": score * run.epochs + noise, "effort": float(len(parts))}
"""


def begin_in(folder: Path, patch: pytest.MonkeyPatch) -> None:
    """Writes `table.toml` and its evaluator into a folder, and makes it the working folder."""
    (folder / "table.toml").write_text(RECIPE)
    (folder / "table_evaluator.py").write_text(textwrap.dedent(EVALUATOR))
    patch.chdir(folder)
    patch.syspath_prepend(str(folder))
    # another test's
    patch.delitem(sys.modules, "table_evaluator", raising=False)
    patch.setenv("OMP_NUM_THREADS", "1")


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `table.toml` and its evaluator, made the working folder."""
    begin_in(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture(scope="session")
def one_candidate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a search of one candidate, which no test changes."""
    folder = tmp_path_factory.mktemp("one_candidate")
    with pytest.MonkeyPatch.context() as patch:
        begin_in(folder, patch)
        na.search("table.toml", trials=1, say=lambda line: None)
    return folder


@pytest.fixture
def table_of_one(table: Path, one_candidate: Path) -> Path:
    """The working folder, with a finished search of one candidate of its own."""
    shutil.copytree(one_candidate, table, dirs_exist_ok=True)
    return table
