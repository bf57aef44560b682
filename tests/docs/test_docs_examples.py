"""Examples of the documentation give what it says; all others are followed by test_docs_executed."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from documented import ROOT, files


def test_a_module_is_attached_and_the_sampler_works_in_a_study_of_ones_own(tmp_path: Path) -> None:
    for page in ("models", "optuna"):
        files(f"docs/{page}.md", tmp_path)
    code = "import runpy\nfor file in ('attach.py', 'own_study.py'): runpy.run_path(file, run_name='__main__')"
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    shape, *lines = done.stdout.splitlines()
    assert shape == "torch.Size([1, 1000])"
    lines = [line for line in lines if line.startswith("[")]
    assert any(line.startswith("[0.76") for line in lines), "the best that two can do was found: blend twice"
    assert all("'none'" in line for line in lines)
