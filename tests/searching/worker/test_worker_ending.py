"""What a worker process tells the process that started it."""

from __future__ import annotations

import threading
import warnings
from pathlib import Path

import pytest

from nas_attn.errors import NasAttnWarning
from nas_attn.searching.worker.ending import Ending, Reading, Report


def test_an_ending_and_warnings_arrive_once_and_whole(tmp_path: Path) -> None:
    report = Report(tmp_path / "report.jsonl")
    reading = Reading(tmp_path / "report.jsonl")
    assert reading.warnings() == []
    report.warned("a line\nand another, größer")
    assert reading.warnings() == ["a line\nand another, größer"]
    with (tmp_path / "report.jsonl").open("ab") as file:
        file.write(b'{"warning": "cut o')
    assert reading.warnings() == [], "half a line is not read yet"
    with (tmp_path / "report.jsonl").open("ab") as file:
        file.write(b'ff"}\n')
    report.ended(Ending.TIME)
    assert reading.ending is None
    assert reading.warnings() == ["cut off"]
    assert reading.ending is Ending.TIME
    assert reading.warnings() == []


def test_lines_of_several_threads_do_not_mix(tmp_path: Path) -> None:
    report = Report(tmp_path / "report.jsonl")
    texts = [f"{number} " * 2000 for number in range(8)]
    threads = [threading.Thread(target=report.warned, args=(text,)) for text in texts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Reading(tmp_path / "report.jsonl").warnings()) == sorted(texts)


def test_only_our_own_warnings_are_reported(tmp_path: Path) -> None:
    report = Report(tmp_path / "report.jsonl")
    with pytest.warns(UserWarning, match="foreign"):
        _warn(report)
    assert Reading(tmp_path / "report.jsonl").warnings() == ["ours"]


def _warn(report: Report) -> None:
    with report.takes_warnings():
        warnings.warn("ours", NasAttnWarning, stacklevel=1)
        warnings.warn("foreign", UserWarning, stacklevel=1)


def test_a_report_that_cannot_be_written_ends_no_work(tmp_path: Path) -> None:
    Report(tmp_path / "gone" / "report.jsonl").ended(Ending.COMPLETE)
