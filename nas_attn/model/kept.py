"""Posteriors in the user's cache, so that a second command on an unchanged study draws nothing.

A file's name is a digest of the runs, of the code that draws and of NumPy's version, so what is
read was drawn for the same question in the same way. Files are written whole.
"""

from __future__ import annotations

import hashlib
import inspect
import zipfile
import zlib
from collections.abc import Hashable, Sequence
from contextlib import suppress
from dataclasses import fields
from functools import cache
from pathlib import Path

import numpy as np
import platformdirs

from nas_attn._version import __version__
from nas_attn.model import coding, hypotheses, priors, variances
from nas_attn.model.assembling import Data
from nas_attn.model.coding import Shape
from nas_attn.model.hypotheses import Draws
from nas_attn.model.variances import Nodes, posterior
from nas_attn.system.paths import whole_file

# fewer runs take no longer than the file
FEWEST_KEPT_RUNS = 40
# files of 20 KB; the oldest go
MOST_FILES = 500


def kept_posterior(data: Data, shapes: Sequence[Shape]) -> Nodes:
    """Returns the posterior of the variances from the user's cache, or draws it and keeps it."""
    if len(data.value) < FEWEST_KEPT_RUNS:
        return posterior(data, shapes)
    file = _file((data.content, tuple(shapes)))
    with suppress(OSError, EOFError, ValueError, LookupError, zipfile.BadZipFile, zlib.error):
        return _read(file, data.coding.shapes(shapes))
    nodes = posterior(data, shapes)
    # a folder that cannot be written costs time, nothing else
    with suppress(OSError):
        _write(file, nodes)
    return nodes


def _file(question: Hashable) -> Path:
    digest = hashlib.blake2b(repr((question, np.__version__)).encode(), digest_size=16)
    digest.update(_code())
    return platformdirs.user_cache_path("nas_attn") / "posteriors" / f"{digest.hexdigest()}.npz"


@cache
def _code() -> bytes:
    """The text of all that decides what is drawn; in programs without its files, the version."""
    modules = (coding, hypotheses, priors, variances)
    try:
        return "".join(map(inspect.getsource, modules)).encode()
    except OSError:
        return __version__.encode()


def _read(file: Path, shapes: Sequence[Shape]) -> Nodes:
    # NumPy leaves a file open that it cannot read
    with file.open("rb") as content, np.load(content, allow_pickle=False) as arrays:
        draws = Draws(*(arrays[field.name] for field in fields(Draws)))
        return Nodes(shapes, draws, arrays["node_weight"], arrays["node_noise"])


def _write(file: Path, nodes: Nodes) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    arrays = {field.name: getattr(nodes.draws, field.name) for field in fields(Draws)}
    with whole_file(file) as out:
        np.savez(out, node_weight=nodes.weight, node_noise=nodes.noise, **arrays)
    by_age = sorted(file.parent.glob("*.npz"), key=lambda file: file.stat().st_mtime)
    for old in by_age[:-MOST_FILES]:
        old.unlink(missing_ok=True)
