"""The command line in this process: the same `main` as the program's. Folders of tests take the
fixture `nas` from here.
"""

import json
import os
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from nas_attn.cli import main
from nas_attn.system import environment


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def error(self) -> str:
        """The one sentence of a command that failed."""
        lines = [line for line in self.err.splitlines() if line.startswith("error: ")]
        assert len(lines) == 1, self.err
        assert "Traceback" not in self.err + self.out
        return lines[0]


Nas = Callable[..., Ended]


@pytest.fixture
def nas(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> Nas:
    """Runs `nas-attn ARGUMENTS` here."""
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setenv(environment.DEBUG, "")

    def run(*arguments: str) -> Ended:
        monkeypatch.setattr(sys, "argv", ["nas-attn", *arguments])
        capfd.readouterr()
        status = 0
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            try:
                main.program()
            except SystemExit as ended:
                status = int(ended.code or 0)
        os.environ[environment.DEBUG] = ""
        captured = capfd.readouterr()
        return Ended(status, captured.out, captured.err)

    return run
