"""What a worker process tells the process that started it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from nas_attn.errors import ExitStatus, NasAttnWarning
from nas_attn.searching.run.local import Child
from nas_attn.searching.run.worker_process import Told
from nas_attn.searching.worker.ending import Ending


def child(program: str, report: Path, said: list[str]) -> Child:
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    return Child(Told("worker 1", str(report), {}), process, said.append)


def test_a_warning_of_several_workers_is_said_once_and_every_other_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(NasAttnWarning, "said", {"known here"})
    said: list[str] = []
    for number in range(2):
        program = "print('a line'); print('warning: known here'); print('warning: größer')"
        one = child(program, tmp_path / str(number), said)
        one.process.wait()
        one._reader.join()
        one.close()
    assert said == ["a line", "warning: größer", "a line"]


def test_a_worker_that_does_not_say_why_it_ended_has_failed(tmp_path: Path) -> None:
    left = child("", tmp_path / "left", [])
    ended = child("", tmp_path / "ended", [])
    (tmp_path / "ended").write_text(Ending.TIME)
    assert (left.ending, left.status) == (None, ExitStatus.FAILED)
    assert (ended.ending, ended.status) == (Ending.TIME, ExitStatus.DONE)
    for one in (left, ended):
        one.close()
