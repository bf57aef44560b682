"""What an evaluator prints goes into a file, by whatever way it prints, and only while it runs."""

import ctypes
import logging
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path

import pytest
from slots import MemorySlot as Slot
from torch import nn

from nas_attn.errors import TrainingError
from nas_attn.searching.worker.stopping import interruptible
from nas_attn.space.notation import parse
from nas_attn.space.placement import ResolvedPlacement
from nas_attn.system.environment import DEBUG
from nas_attn.training.evaluators import Evaluation, EvaluatorRun, EvaluatorTrainer
from nas_attn.training.output import OutputLog, log_for, on_terminal


def run(evaluate, log: OutputLog | None, folder: Path) -> None:
    placement = ResolvedPlacement((), parse("stage1=se"), "paper", "k")
    evaluation = Evaluation("k", placement, 3, [1, 4])
    trainer = EvaluatorTrainer(evaluate, folder=folder, device="cpu", log=log)
    trainer.fit(nn.Identity(), evaluation, slot=Slot(), on_rung=bool, stop=bool)


def test_all_ways_to_print_end_in_the_file(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    said: list[str] = []
    log = OutputLog(tmp_path / "logs" / "w.log", lambda file, failure: said.append(file))
    logger = logging.getLogger("an evaluator's")

    def evaluate(model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        if not logger.handlers:
            logger.addHandler(logging.StreamHandler())
        print("by print")
        print("by stderr", file=sys.stderr)
        logger.warning("by a logger")
        os.write(1, b"by descriptor 1\n")
        os.write(2, b"by descriptor 2\n")
        ctypes.CDLL(None).printf(b"by C, held back\n")
        subprocess.run(["sh", "-c", "echo by a child; echo by its stderr >&2"], check=True)
        return {"score": 1.0}

    run(evaluate, log, tmp_path)
    print("on the terminal again")
    os.write(2, b"on its stderr, too\n")
    written = log.path.read_text()
    ways = [
        "print",
        "stderr",
        "a logger",
        "descriptor 1",
        "descriptor 2",
        "C, held back",
        "a child",
        "its stderr",
    ]
    assert [written.count(f"by {way}\n") for way in ways] == [2] * len(ways)
    assert written.count("--- ") == 2
    assert "stage1=se, seed 3, to 4 epochs" in written
    assert capfd.readouterr() == ("on the terminal again\n", "on its stderr, too\n")
    assert [Path(file).resolve() for file in said] == [log.path.resolve()], "said once"


def test_a_failure_names_the_file_and_leaves_its_traceback_there(tmp_path: Path) -> None:
    log = OutputLog(tmp_path / "w.log", lambda file, failure: None)

    def evaluate(model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        print("epoch 1 of 3")
        raise ZeroDivisionError("nothing to divide by\nsecond line")

    with pytest.raises(TrainingError, match=r"'stage1=se': nothing to divide by \(.*w\.log\)$"):
        run(evaluate, log, tmp_path)
    assert "epoch 1 of 3" in log.path.read_text()
    assert "in evaluate" in log.path.read_text()
    assert "second line" in log.path.read_text()


def test_silence_leaves_nothing_behind(tmp_path: Path) -> None:
    said: list[str] = []
    log = OutputLog(tmp_path / "w.log", lambda file, failure: said.append(file))
    run(lambda model, run: {"score": 1.0}, log, tmp_path)
    assert log.path.read_text() == ""
    path = log.path
    del log
    assert not path.exists()
    assert not said


# after tests that load OpenVINO in the same process, this signal has ended the whole process
@pytest.mark.slow
def test_the_first_interrupt_is_heard_on_the_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    stop = threading.Event()
    log = OutputLog(tmp_path / "w.log", lambda file, failure: None)
    with interruptible(stop, print), log.taking("a run"):
        print("in the file")
        os.kill(os.getpid(), signal.SIGINT)
        while not stop.is_set():
            time.sleep(0.01)
        print("in the file again")
    assert capfd.readouterr().out.startswith("stopping: ")
    assert "stopping" not in log.path.read_text()
    assert "in the file again" in log.path.read_text()
    with on_terminal():
        print("nothing to give back")
    assert capfd.readouterr().out == "nothing to give back\n"


def test_one_log_at_a_time(tmp_path: Path) -> None:
    first, second = (
        OutputLog(tmp_path / name, lambda file, failure: None) for name in ("1.log", "2.log")
    )
    with first.taking("outer"):
        with second.taking("inner"):
            print("hello")
        print("bye")
    assert "hello\nbye" in (tmp_path / "1.log").read_text()


@pytest.mark.parametrize(("verbose", "debug"), [(True, ""), (False, "1")])
def test_verbose_and_debug_leave_the_terminal_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verbose: bool, debug: str
) -> None:
    monkeypatch.setenv(DEBUG, debug)
    assert log_for(tmp_path, "a/b c", lambda file, failure: None, verbose=verbose) is None
    monkeypatch.setenv(DEBUG, "")
    log = log_for(tmp_path, "a/b c", lambda file, failure: None, verbose=False)
    assert log is not None
    assert log.path.parent == tmp_path / "logs"
