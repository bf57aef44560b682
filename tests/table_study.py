"""Studies without training: an evaluator that looks its answer up, and a recipe for it."""

import sys
import textwrap
from pathlib import Path

import pytest

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


@pytest.fixture
def table(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with `table.toml` and its evaluator, made the working folder."""
    (tmp_path / "table.toml").write_text(RECIPE)
    (tmp_path / "table_evaluator.py").write_text(textwrap.dedent(EVALUATOR))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "table_evaluator", raising=False)  # another test's
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return tmp_path
