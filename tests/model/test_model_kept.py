"""A posterior is drawn once for the same runs, whatever becomes of the file that holds it."""

from __future__ import annotations

import compileall
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import platformdirs
import pytest
import runs_made as made
from clone import ROOT

from nas_attn.model import fit
from nas_attn.model.variances import Nodes, forget


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    return platformdirs.user_cache_path("nas_attn") / "posteriors"


def nodes(seed: int = 0) -> Nodes:
    """Of 44 runs, in a process that remembers nothing."""
    rng = np.random.default_rng(seed)
    texts = made.placements(11, rng)
    runs = made.runs(made.additive(texts, rng, 0.01), rng, noise=0.006, seeds=4)
    forget()
    model = fit(runs, texts, metric="score")
    assert model is not None
    return model._solution.nodes


def test_a_posterior_is_read_again_as_it_was_drawn(own_cache: Path) -> None:
    drawn = nodes()
    (file,) = own_cache.iterdir()
    again = nodes()
    assert np.array_equal(again.noise, drawn.noise)
    assert np.array_equal(again.draws.rho, drawn.draws.rho)
    with np.load(file) as arrays:
        other = dict(arrays)
    np.savez(file, **{**other, "node_noise": drawn.noise + 1.0})
    assert np.array_equal(nodes().noise, drawn.noise + 1.0), "it comes from the file"


def test_other_runs_are_another_posterior(own_cache: Path) -> None:
    assert not np.array_equal(nodes(0).noise, nodes(1).noise)
    assert len(list(own_cache.iterdir())) == 2


@pytest.mark.parametrize("damage", [b"", b"PK\x03\x04 no archive", None])
def test_a_damaged_file_is_drawn_again(own_cache: Path, damage: bytes | None) -> None:
    drawn = nodes()
    (file,) = own_cache.iterdir()
    content = file.read_bytes()
    file.write_bytes(content[:-200] if damage is None else damage)
    assert np.array_equal(nodes().noise, drawn.noise)
    assert np.array_equal(nodes().noise, drawn.noise)
    assert file.read_bytes()[:4] == content[:4], "it is whole again"


def test_a_folder_that_cannot_be_written_costs_time_only(own_cache: Path) -> None:
    own_cache.parent.mkdir(parents=True)
    own_cache.write_text("a file")
    drawn = nodes()
    assert np.array_equal(nodes().noise, drawn.noise)


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
