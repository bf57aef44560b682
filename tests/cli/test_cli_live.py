"""What a person sees on a terminal while a search runs."""

import fcntl
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


@pytest.mark.slow
def test_a_terminal_shows_each_worker_in_place_and_every_event(table: Path) -> None:
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 60, 0, 0))
    command = [sys.executable, "-m", "nas_attn.cli.main", "search", "table.toml", "--workers", "1", "--trials", "3"]
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
    assert re.search(rf"  {process.pid} on cpu: ", text), text
    assert "\x1b[1A" in text, "the view stays in place"
    assert not re.search(r"\x1b\[[0-9;]*3[0-9]m", text), "NO_COLOR"
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", text)
    own = [line for line in re.split(r"[\r\n]+", plain) if " on cpu: " in line]
    assert max(map(len, own)) <= 60, "cut to the terminal's width"
    assert "front so far:" in plain
    assert "last:" in plain
    placed = [line for line in re.split(r"[\r\n]+", plain) if re.match(r"    [\d.]+  \d+  uniform \S+  stage1=", line)]
    assert placed, plain
    assert max(map(len, placed)) <= 60
