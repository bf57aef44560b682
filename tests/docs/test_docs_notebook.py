"""The notebook runs from top to bottom, and is kept without outputs."""

from __future__ import annotations

import ast
import json
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from documented import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "notebook.ipynb").read_text("utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
PROGRAM = f"{shlex.quote(sys.executable)} -m nas_attn.cli.main"
SHOWN = """
def shown(thing):
    html = getattr(thing, "_repr_html_", None)
    print("SHOWN:", type(thing).__name__, len(html() if html else repr(thing)))
"""


def as_script() -> str:
    """Its cells as a notebook runs them: `!` is a shell, `%pip` is left out, and what ends a cell is shown."""
    parts = ["import subprocess", SHOWN]
    for cell in CODE:
        text = re.sub(r"^(\s*)%pip .*$", r"\1pass", "".join(cell["source"]), flags=re.MULTILINE)
        lines = [
            f"subprocess.run({line[1:].replace('nas-attn', PROGRAM, 1)!r}, shell=True, check=True)"
            if line.startswith("!")
            else line
            for line in text.splitlines()
        ]
        tree = ast.parse("\n".join(lines))
        if isinstance(tree.body[-1], ast.Expr) and not text.startswith("!"):
            last = ast.Call(ast.Name("shown", ast.Load()), [tree.body[-1].value], [])
            tree.body[-1] = ast.Expr(last)
        parts.append(ast.unparse(ast.fix_missing_locations(tree)))
    return "\n".join(parts)


def test_it_is_kept_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    compile(as_script(), "notebook", "exec")


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_it_runs_from_top_to_bottom(tmp_path: Path) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    (tmp_path / "notebook.py").write_text(as_script(), "utf-8")
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "notebook.py"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    shown = {kind: int(size) for kind, size in re.findall(r"^SHOWN: (\w+) (\d+)$", done.stdout, re.MULTILINE)}
    assert shown["Study"] > 1000
    assert shown["Figure"] > 1000, "figures, as HTML"
    assert (tmp_path / "network.onnx").is_file()
