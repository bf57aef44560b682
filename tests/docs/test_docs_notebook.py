"""The notebook runs from top to bottom, and is kept without outputs."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
from documented import ROOT

NOTEBOOK = json.loads((ROOT / "docs" / "get-started" / "notebook.ipynb").read_text("utf-8"))
CODE = [cell for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]


def as_script() -> str:
    """Its cells without Jupyter: `!` is a shell, `%pip` is left out."""
    text = "\n".join("".join(cell["source"]) for cell in CODE)
    text = re.sub(r"^(\s*)%pip .*$", r"\1pass", text, flags=re.MULTILINE)
    return "import subprocess\n" + re.sub(
        "^!(.*)$",
        lambda found: f"subprocess.run({found[1]!r}, shell=True, check=True)",
        text,
        flags=re.MULTILINE,
    )


def test_it_is_kept_without_outputs() -> None:
    assert (NOTEBOOK["nbformat"], NOTEBOOK["nbformat_minor"]) == (4, 5)
    assert len({cell["id"] for cell in NOTEBOOK["cells"]}) == len(NOTEBOOK["cells"])
    assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in CODE)
    compile(as_script(), "notebook", "exec")


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.filterwarnings("ignore")  # Jupyter's own
def test_it_runs_from_top_to_bottom(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("onnxscript", "onnxruntime"):
        pytest.importorskip(package, reason="the onnx extra is not installed")
    for name, first in {"PYTHONPATH": ROOT, "PATH": Path(sys.executable).parent}.items():
        monkeypatch.setenv(
            name, f"{first}{os.pathsep}{os.environ.get(name, '')}".rstrip(os.pathsep)
        )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    if find_spec("nbclient") is None or find_spec("ipykernel") is None:
        subprocess.run([sys.executable, "-c", as_script()], cwd=tmp_path, check=True)
    else:
        import nbclient
        import nbformat

        book = nbformat.read(ROOT / "docs" / "get-started" / "notebook.ipynb", 4)
        nbclient.NotebookClient(
            book, timeout=3600, resources={"metadata": {"path": str(tmp_path)}}
        ).execute()
        outputs = (
            output.get("data", {}) for cell in book.cells for output in cell.get("outputs", [])
        )
        kinds = [kind for data in outputs for kind in data if kind != "text/plain"]
        assert kinds == [
            "text/html",
            *["application/vnd.plotly.v1+json"] * 2,
        ], "the study, two figures"
    assert (tmp_path / "network.onnx").is_file()
