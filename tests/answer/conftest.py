"""The usual made study, for all tests that only read it."""

from __future__ import annotations

import pytest
from command_line import nas  # noqa: F401
from made_study import usual
from table_study import table  # noqa: F401

from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot


@pytest.fixture(scope="session")
def now(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    """Twelve searched candidates, baselines, latencies; some pruned, one infeasible, one failed,
    one running.
    """
    return snapshot(usual(tmp_path_factory.mktemp("usual")).store)
