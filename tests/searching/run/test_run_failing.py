"""A fault in one candidate is that candidate's; one in every candidate stops the study."""

import re
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.errors import OperationError, RecipeError, TrainingError
from nas_attn.recipe.reading import load_recipe
from nas_attn.storage.opening import open_study
from nas_attn.system.environment import DEBUG

URL = "sqlite:///nas_attn.db"

MODULES = """
import torch
from torch import Tensor, nn

class Works(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.scale

class FailsInTraining(Works):
    def forward(self, x: Tensor) -> Tensor:
        if self.training:
            raise RuntimeError("no such kernel\\nfor this shape")
        return super().forward(x)

class _NoBackward(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x):
        return x.clone()

    @staticmethod
    def backward(ctx, grad):
        raise LookupError("no gradient here")

class FailsInBackward(Works):
    def forward(self, x: Tensor) -> Tensor:
        return _NoBackward.apply(super().forward(x)) if self.training else super().forward(x)

class Huge(Works):
    def __init__(self, channels: int) -> None:
        super().__init__(channels)
        self.table = nn.Parameter(torch.ones(1).expand(10**13))
"""

RECIPE = """
name = "faults"
objectives = ["accuracy", "params"]
backbone = { name = "resnet8", width = 4 }
data = { name = "digits", options = { train = 60, validation = 40, test = 20 } }
search = { trials = 4, confirm_seeds = 0 }
[space]
name = "faults"
sites = { include = ["stage3"] }
choices = { "stranger:Works" = {}, "stranger:FailsInTraining" = {}, "stranger:FailsInBackward" = {} }
[training]
start = "scratch"
rungs = [1]
"""


@pytest.fixture
def faults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder with `faults.toml`, whose space holds modules that fail only when they are
    trained.
    """
    (tmp_path / "faults.toml").write_text(RECIPE)
    (tmp_path / "stranger.py").write_text(textwrap.dedent(MODULES))
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    yield tmp_path
    sys.modules.pop("stranger", None)


def test_a_module_that_raises_costs_its_candidates_only_and_debug_shows_where(
    faults: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(DEBUG, "1")
    study = na.search("faults.toml", say=lambda line: None)
    assert 'stranger.py", line' in capsys.readouterr().err
    states = {str(view.placement): (view.state, view.reason) for view in study.candidates()}
    assert {text: state for text, (state, _) in states.items()} == {
        "none": "scored",
        "stage3=stranger:Works": "scored",
        "stage3=stranger:FailsInTraining": "failed",
        "stage3=stranger:FailsInBackward": "failed",
    }
    assert (
        states["stage3=stranger:FailsInTraining"][1]
        == "training it raised RuntimeError: no such kernel"
    )
    assert "LookupError: no gradient here" in states["stage3=stranger:FailsInBackward"][1]
    assert {str(view.placement) for view in study.front()} <= {"none", "stage3=stranger:Works"}


def test_what_no_memory_could_hold_is_not_tried(faults: Path) -> None:
    """Linux would kill this process, or another."""
    space = {
        "name": "huge",
        "sites": {"include": ["stage3"]},
        "choices": {"stranger:Works": {}, "stranger:Huge": {}},
    }
    study = na.search("faults.toml", overrides={"space": space}, trials=3, say=lambda line: None)
    states = {str(view.placement): (view.state, view.reason) for view in study.candidates()}
    assert {text: state for text, (state, _) in states.items()} == {
        "none": "scored",
        "stage3=stranger:Works": "scored",
        "stage3=stranger:Huge": "failed",
    }
    assert re.match(
        r"training its 10,000,\d+,\d+,\d+ parameters .*1862\d\d\.\d GB ",
        states["stage3=stranger:Huge"][1],
    )


def test_a_backbone_that_cannot_be_trained_stops_the_study(faults: Path) -> None:
    from torch import Tensor, nn

    class Broken(nn.Sequential):
        def forward(self, x: Tensor) -> Tensor:
            if self.training:
                raise RuntimeError("expected 7 dimensions")
            return super().forward(x)

    def build() -> nn.Module:
        head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10)]
        return Broken(nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3, stride=2), nn.ReLU(), *head)

    space = {"name": "any", "choices": {"stranger:Works": {}}}
    for _ in range(2):  # and likewise when it is taken up again
        with pytest.raises(
            TrainingError, match=r"bare backbone.*RuntimeError: expected 7 dimensions"
        ):
            na.search("faults.toml", model=build, overrides={"space": space}, say=lambda line: None)
    assert not open_study("faults", URL).store.scores()
    assert [row.state for row in open_study("faults", URL).store.candidates()] == ["running"]
    changes = {"space": space, "training.start": "backbone"}
    with pytest.raises(OperationError, match=r"backbone 0 .*RuntimeError: expected 7 dimensions"):
        na.search(
            "faults.toml", model=build, name="tuned", overrides=changes, say=lambda line: None
        )


def test_a_fault_in_all_that_were_tried_stops_the_study(faults: Path) -> None:
    choices = {"none": False, "stranger:FailsInTraining": {}, "stranger:FailsInBackward": {}}
    changes = {
        "search.baselines": "none",
        "search.trials": 4,
        "space": {"name": "bad", "choices": choices},
    }
    with pytest.raises(TrainingError, match="3 networks"):
        na.search("faults.toml", overrides=changes, say=lambda line: None)
    states = [row.state for row in open_study("faults", URL).store.candidates()]
    assert states == ["failed", "failed", "running"]


OWN = """
class Odd(BaseException):
    pass

def evaluate(model, run):
    if "simam" in run.placement:
        raise Odd("not on\\nthis one")
    if "eca" in run.placement:
        raise SystemExit(3)
    return {"score": 1.0 + len(run.placement), "effort": 1.0}
"""


def test_whatever_an_evaluator_raises_is_its_candidates_own(table: Path) -> None:
    (table / "table_evaluator.py").write_text(OWN)
    study = na.search(
        "table.toml", trials=6, overrides={"search.confirm_seeds": 0}, say=lambda line: None
    )
    failed = {
        str(view.placement): view.reason for view in study.candidates() if view.state == "failed"
    }
    assert study.snapshot().counts["scored"] > 1
    assert failed
    for placement, reason in failed.items():
        kind = ("Odd", "not on") if "simam" in placement else ("SystemExit", "3")
        assert reason.startswith(f"the evaluator raised {kind[0]} for '{placement}': {kind[1]}")


NEVER = "def evaluate(model, run):\n    raise KeyError('miou')\n"
NOW = "def evaluate(model, run):\n    return {'score': 1.0, 'effort': 1.0}\n"


def test_an_evaluator_that_never_works_stops_the_study_until_it_is_mended(
    table: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (table / "table_evaluator.py").write_text(NEVER)
    recipe = load_recipe("table.toml", overrides={"search.trials": 3, "search.confirm_seeds": 0})
    with pytest.raises(RecipeError, match=r"KeyError for 'none': 'miou'.*nas-attn resume"):
        na.search(recipe, say=lambda line: None)
    (table / "table_evaluator.py").write_text(f"{NOW}\n")
    monkeypatch.delitem(sys.modules, "table_evaluator")
    counts = na.search(recipe, say=lambda line: None).snapshot().counts
    assert counts["failed"] == 0
    assert sum(counts.values()) == 3


@pytest.mark.slow
def test_several_workers_stop_with_it(table: Path) -> None:
    (table / "table_evaluator.py").write_text(NEVER)
    command = [sys.executable, "-m", "nas_attn.cli.main", "search", "table.toml", "--workers", "3"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr
    assert "Traceback" not in done.stderr
    assert sum(row.state == "failed" for row in open_study("table", URL).store.candidates()) < 5


LOSES_GPU = """
import os
from pathlib import Path
from nas_attn.errors import DeviceLost

def evaluate(model, run):
    if run.placement.count("eca") == 3:
        with Path("lost.txt").open("a") as lost:
            lost.write(f"{os.getpid()}\\n")
        raise DeviceLost("this process cannot use the device any more")
    return {"score": 1.0, "effort": 1.0}
"""


@pytest.mark.slow
def test_a_worker_that_lost_its_gpu_ends_and_its_run_fails_the_third_time(table: Path) -> None:
    (table / "table_evaluator.py").write_text(LOSES_GPU)
    program = [sys.executable, "-m", "nas_attn.cli.main"]
    few = ["--trials", "5", "--set", "search.confirm_seeds=0", "--create-only"]
    subprocess.run([*program, "search", "table.toml", *few], check=True, capture_output=True)
    for _ in range(3):
        worker = subprocess.run([*program, "worker", "table"], capture_output=True, check=False)
        assert worker.returncode == 75
    whole = subprocess.run([*program, "worker", "table"], capture_output=True, check=False)
    assert whole.returncode == 0
    assert len((table / "lost.txt").read_text().split()) == 3
    opened = open_study("table", URL)
    failed = [row for row in opened.store.candidates() if row.state == "failed"]
    assert len(failed) == 1
    assert len(opened.store.candidates()) >= 5
