"""The documentation site: its references name everything there is, and it is built without a
warning.
"""

import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
from documented import ROOT

import nas_attn
from nas_attn.cli.main import COMMANDS

SITE = runpy.run_path(str(ROOT / "docs" / "write_site.py"))


def test_the_references_name_everything_there_is() -> None:
    commands, python = SITE["commands"](), SITE["python"]()
    names = [name for panel in COMMANDS.values() for name in panel]
    for name in names:
        assert f"## nas-attn {name}\n\n```text\nUsage: nas-attn {name} " in commands
    assert "--max-latency-ratio" in commands
    for name in set(nas_attn.__all__) - {"__version__"}:
        assert f"## na.{name}\n" in python
    assert "### Study.plot_front\n" in python


@pytest.mark.slow
def test_it_is_built_without_a_warning(tmp_path: Path) -> None:
    pytest.importorskip("mkdocs", reason="mkdocs-material is not installed (extra `dev`)")
    command = [sys.executable, str(ROOT / "docs" / "write_site.py")]
    variables = {**os.environ, "SITE": str(tmp_path / "site")}
    built = subprocess.run(command, env=variables, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    assert (tmp_path / "site" / "docs" / "reference" / "commands.html").is_file()
