"""The steps of `tools/gpu_check.sh`, which prepares their environment: each is a process of its own
with a time limit, and a line of JSON says how it ended.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.rows import append_row
from gpu_check import images

ROOT = Path(__file__).resolve().parents[2]
RESULTS = "results.jsonl"
LOG = "log.txt"
SHOWN = 200  # letters of a line on the terminal
LONGEST_END_S = 10.0  # until a step that is told to end is killed


@dataclass(frozen=True)
class Step:
    """One step."""

    name: str
    words: Sequence[str]
    most_s: float
    """It is ended after so long."""
    needed_s: float
    """It is not begun with less time left."""


class Check:
    """Runs steps within a time limit."""

    def __init__(self, out: Path, seconds: float) -> None:
        self.results = out / RESULTS
        self.log = out / LOG
        self.end = time.monotonic() + seconds
        self.results.write_text("")
        self.log.write_text("")

    @property
    def left_s(self) -> float:
        return self.end - time.monotonic()

    def run(self, step: Step) -> int | None:
        """Its exit status; None: it was not begun, or did not end in time."""
        if self.left_s < step.needed_s:
            self.say(f"== {step.name}: not run, {self.left_s:.0f} s are left")
            self.note(step, "not run", why=f"{self.left_s:.0f} s were left")
            return None
        limit_s = min(step.most_s, self.left_s)
        self.say(f"== {step.name} (at most {limit_s:.0f} s)")
        began = time.monotonic()
        process = subprocess.Popen(
            [sys.executable, *step.words],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            errors="replace",
            start_new_session=True,
        )
        timer = Deadline(process, limit_s)
        assert process.stdout is not None
        with process.stdout as output:
            for line in output:
                self.say(line.rstrip())
        status = process.wait()
        timer.cancel()
        seconds = round(time.monotonic() - began, 1)
        if timer.expired:
            self.say(f"== {step.name}: cut off after {seconds:.0f} s; what it found is kept")
            self.note(step, "cut off", seconds=seconds)
            return None
        self.note(step, "done" if status == 0 else f"status {status}", seconds=seconds)
        return status

    def note(self, step: Step, ended: str, **values: object) -> None:
        append_row(self.results, {"part": "step", "subject": step.name, "ended": ended, **values})

    def say(self, line: str) -> None:
        print(line[:SHOWN], flush=True)
        with self.log.open("a", encoding="utf-8") as file:
            file.write(line + "\n")


class Deadline(threading.Timer):
    """Ends a process and those that it started, after some seconds."""

    def __init__(self, process: subprocess.Popen[str], seconds: float) -> None:
        super().__init__(seconds, self.stop)
        self.process = process
        self.expired = False
        self.daemon = True
        self.start()

    def stop(self) -> None:
        self.expired = True
        # The group is the step's own: it began a session.
        os.killpg(self.process.pid, signal.SIGTERM)
        try:
            self.process.wait(LONGEST_END_S)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)


def steps(device: str, results: Path) -> list[Step]:
    """All steps, the most telling first. Together they may take no longer than the check: a step
    that hangs costs no other one its time.
    """
    return gpu_steps(results) if device == "cuda" else cpu_steps(results)


def part(name: str, device: str, results: Path, most_s: float, needed_s: float) -> Step:
    """A part of the check, in a process of its own."""
    words = ["-m", "gpu_check", name, "--device", device, "--results", str(results)]
    return Step(name, words, most_s, needed_s)


def pytest_step(marker: str, paths: Sequence[str], most_s: float) -> Step:
    words = ["-m", "pytest", "-q", "-p", "no:cacheprovider", "--tb=short", "-W", "default"]
    return Step("tests", [*words, "-m", marker, *paths], most_s, 20)


DATA = "gpu_check.images:cifar"
LOOP = ["-m", "benchmarks.evaluation", "--data", DATA, "--root", ".", "--flip", "--rate", "0.4"]
SEARCH = ["-m", "benchmarks.workers", "--recipe", "cifar10-resnet20", "--set", f"data.name={DATA}"]
AIRBENCH = ["-m", "benchmarks.airbench", "--executions", "cuda-graph", "--seeds", "3"]


def images_of_airbench() -> list[str]:
    """Its data, and how much of CIFAR-10 this is."""
    return ["--data", DATA, "--images", str(images.originals())]


def gpu_steps(results: Path) -> list[Step]:
    to_file = ["--results", str(results)]
    loop = ["--backbone", "resnet20", "--batch-size", "512", "--epochs", "3", "--candidates"]
    loop += ["none", "se", "--device", "cuda", "--executions", "eager", "cuda-graph"]
    search = ["--device", "cuda", "--workers", "1", "4", "2"]
    return [
        part("environment", "cuda", results, 30, 5),
        part("captures", "cuda", results, 30, 15),
        pytest_step("gpu", ["tests"], 80),
        part("epochs", "cuda", results, 90, 20),
        part("modules", "cuda", results, 50, 20),
        Step("search, 1, 4 and 2 workers", [*SEARCH, *search, *to_file], 90, 50),
        part("latency", "cuda", results, 40, 15),
        Step("trainer and loop", [*LOOP, *loop, "--workers", "12", *to_file], 50, 30),
        Step("airbench", [*AIRBENCH, *images_of_airbench(), *to_file], 40, 20),
        part("profiles", "cuda", results, 60, 15),
    ]


def cpu_steps(results: Path) -> list[Step]:
    """Tries each step, on hardly any data."""
    to_file = ["--results", str(results)]
    loop = ["--backbone", "resnet8", "--batch-size", "64", "--epochs", "1", "--subset", "256"]
    loop += ["--candidates", "none", "--device", "cpu", "--executions", "eager", "--workers", "0"]
    small = ("data.train_subset=64", "data.validation=100", "training.batch_size=32")
    search = [word for setting in (*small, "backbone.name=resnet8") for word in ("--set", setting)]
    search += ["--device", "cpu", "--workers", "1", "--trials", "3"]
    airbench = ["-m", "benchmarks.airbench", "--device", "cpu", "--epochs", "1", "--subset", "64"]
    airbench += ["--batch-size", "64", "--seeds", "1", *images_of_airbench()]
    return [
        part("environment", "cpu", results, 30, 5),
        pytest_step("gpu", ["tests/gpu"], 60),
        part("epochs", "cpu", results, 60, 5),
        part("modules", "cpu", results, 60, 5),
        Step("search", [*SEARCH, *search, *to_file], 90, 5),
        part("latency", "cpu", results, 60, 5),
        Step("trainer and loop", [*LOOP, *loop, *to_file], 60, 5),
        Step("airbench", [*airbench, *to_file], 40, 5),
        part("profiles", "cpu", results, 60, 5),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("out", type=Path)
    parser.add_argument("--device", choices=("cuda", "cpu"), default="cuda")
    parser.add_argument("--seconds", type=float, default=570.0)
    arguments = parser.parse_args()
    began = time.monotonic()
    check = Check(arguments.out, arguments.seconds)
    check.say(f"images: {images.described()}")
    append_row(check.results, {"part": "data", "said": images.described()})
    wrong = []
    for step in steps(arguments.device, check.results):
        status = check.run(step)
        if status is not None and status != 0:
            wrong.append(step.name)
        if step.name == "environment" and status != 0:
            check.say("nothing else can run here: see above")
            return 1
    check.say(f"== {time.monotonic() - began:.0f} s; results in {check.results}")
    if wrong:
        check.say(
            f"not as it should be: {', '.join(wrong)} (docs/develop/gpu-check.md says what to do)"
        )
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
