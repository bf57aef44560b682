"""Posteriors that are kept in the user's cache."""

import compileall
import shutil
import subprocess
import sys
from pathlib import Path

from clone import ROOT

# of more runs than are drawn anew each time; prints the gain, and how many files are kept
FITTED = """
import platformdirs
from nas_attn.model import ScoredRun, fit
from nas_attn.space.notation import parse

texts = ["none", "stage1=se", "stage1=eca", "stage2=se", "stage2=eca"]
runs = [
    ScoredRun(text, seed, 0, 0.7 + 0.01 * at + 0.001 * (seed * at % 3))
    for seed in range(9)
    for at, text in enumerate(texts)
]
found = fit(runs, {text: parse(text) for text in texts}, metric="score")
kept = platformdirs.user_cache_path("nas_attn") / "posteriors"
print(found.gain("stage2=eca", "none").mean, len(list(kept.glob("*.npz"))))
"""


def test_it_needs_no_source_files(tmp_path: Path) -> None:
    """As in programs that ship bytecode alone."""
    package = tmp_path / "nas_attn"
    shutil.copytree(ROOT / "nas_attn", package, ignore=shutil.ignore_patterns("__pycache__"))
    compileall.compile_dir(package / "model", quiet=1, legacy=True)
    for source in (package / "model").glob("*.py"):
        source.unlink()
    first, again = (
        subprocess.run(
            [sys.executable, "-c", FITTED], cwd=tmp_path, capture_output=True, text=True, check=True
        ).stdout.split()
        for _ in range(2)
    )
    assert first == again
    assert 0.03 < float(first[0]) < 0.05
    assert int(again[1]) == 1
