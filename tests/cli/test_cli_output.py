"""What a person sees while a search runs: each worker in place on a terminal, and an evaluator's own
output.
"""

import fcntl
import json
import os
import pty
import re
import select
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest

import nas_attn as na

TALKS = """

def evaluate(model, run):
    print("by print")
    if "simam" in run.placement:
        raise ValueError("not this one")
    return {"score": float(len(run.placement)), "effort": 1.0}
"""


def test_what_an_evaluator_prints_is_no_part_of_the_result(table: Path, nas) -> None:
    (table / "table_evaluator.py").write_text(TALKS)
    done = nas("--json", "search", "table.toml", "--workers", "1", "--trials", "4")
    assert done.status == 0
    assert json.loads(done.out)
    assert done.err.count("by print") >= 4
    (failed,) = [
        view for view in na.open_study(name="table").candidates() if view.state == "failed"
    ]
    assert failed.reason.endswith("not this one")


@pytest.mark.slow
def test_a_terminal_shows_each_worker_in_place_and_every_event(table: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    command = [
        sys.executable,
        "-m",
        "nas_attn.cli.main",
        "search",
        "table.toml",
        "--workers",
        "1",
        "--trials",
        "3",
    ]
    process = subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=slave,
        stdin=slave,
        env={**os.environ, "TABLE_SECONDS": "1.5", "NO_COLOR": "1", "TERM": "xterm-256color"},
    )
    os.close(slave)
    seen = b""
    while select.select([master], [], [], 120)[0]:
        try:
            part = os.read(master, 65536)
        except OSError:  # the other end is closed
            break
        if not part:
            break
        seen += part
    os.close(master)
    text = seen.decode(errors="replace")
    assert process.wait(timeout=60) == 0, text
    assert "trial 0 " in text, "events pass above the view"
    assert "\x1b[2K" in text, "the view stays in place"
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text), "NO_COLOR"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    own = [line for line in re.split(r"[\r\n]+", plain) if "/3 candidates" in line]
    assert max(map(len, own)) <= 60, "cut to the terminal's width"
