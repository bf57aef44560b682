"""The usual made study, for all tests that only read it."""

from __future__ import annotations

import pytest
from made_study import usual

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.study.reading import snapshot


@pytest.fixture(scope="session")
def now(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Twelve searched candidates, baselines, latencies; some pruned, one infeasible, one failed,
    one running.
    """
    return snapshot(usual(tmp_path_factory.mktemp("usual")).store)
