"""Commands in a real pseudo-terminal of a given width."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

COLOURS = re.compile(r"\x1b\[[0-9;?]*[a-zA-Z]")
END = "\x1e"
"""Printed after each command."""
RUN = f"""
import fcntl, json, struct, sys, termios
from nas_attn.cli.main import program
for columns, command in json.loads(sys.argv[1]):
    fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", 50, columns, 0, 0))
    sys.argv = ["nas-attn", *command]
    try:
        program()
    except SystemExit as end:
        assert not end.code, (command, end.code)
    sys.stdout.write({END!r})
    sys.stdout.flush()
"""


def typed(commands: Sequence[tuple[int, Sequence[str]]], folder: Path) -> list[str]:
    """What each command prints on a terminal with so many columns, without colours. All run in one
    process, which loads the libraries once.

    Args:
        commands: (columns, words of the command).
    """
    import json
    import pty

    ours, theirs = pty.openpty()
    environment = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES")
    }
    process = subprocess.Popen(
        [sys.executable, "-c", RUN, json.dumps(commands)],
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
        cwd=folder,
        env=environment | {"TERM": "xterm-256color"},
    )
    os.close(theirs)
    text = _read(ours)
    assert process.wait() == 0, text
    plain = COLOURS.sub("", text).replace("\r\n", "\n")
    return plain.split(END)[:-1]


def _read(number: int) -> str:
    """All that comes out of a terminal until its last program has closed it."""
    pieces = []
    while True:
        try:
            piece = os.read(number, 65536)
        except OSError:
            # so Linux says that nobody holds the other end
            break
        if not piece:
            break
        pieces.append(piece)
    os.close(number)
    return b"".join(pieces).decode()
