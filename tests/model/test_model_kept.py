"""A posterior is drawn once for the same runs, whatever becomes of the file that holds it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import platformdirs
import pytest
import runs_made as made

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
