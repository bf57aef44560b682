"""A GPU for tests that count what it does: the stub everywhere, and a real one where there is
one.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch
from real_cuda import Cuda, RealCuda
from stubbed_cuda import installed


@pytest.fixture
def real_cuda(monkeypatch: pytest.MonkeyPatch) -> RealCuda:
    cuda = RealCuda()
    replay = torch.cuda.CUDAGraph.replay
    capture = torch.cuda.graph

    def counted_replay(graph: torch.cuda.CUDAGraph) -> None:
        cuda.calls["replay"] += 1
        replay(graph)

    class CountedCapture(capture):  # type: ignore[misc, valid-type]
        def __enter__(self) -> None:
            cuda.modes.append(getattr(self, "capture_error_mode", "global"))
            super().__enter__()

    monkeypatch.setattr(torch.cuda.CUDAGraph, "replay", counted_replay)
    monkeypatch.setattr(torch.cuda, "graph", CountedCapture)
    return cuda


@pytest.fixture(params=["stub", pytest.param("gpu", marks=pytest.mark.gpu)])
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    """The test runs on the stub, and once more on a GPU."""
    if request.param == "gpu":
        yield request.getfixturevalue("real_cuda")
        return
    with installed() as stubbed:
        yield stubbed
