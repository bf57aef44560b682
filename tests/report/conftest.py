"""A finished study, made once for all tests of its report."""

import pytest
from command_line import nas  # noqa: F401
from made_study import usual
from table_study import table  # noqa: F401

from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(usual(tmp_path_factory.mktemp("usual"), searched=24).store)
