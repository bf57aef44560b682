"""A finished study, made once for all tests of its report."""

import pytest
from made_study import usual

from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot


@pytest.fixture(scope="session")
def made(tmp_path_factory: pytest.TempPathFactory) -> Snapshot:
    return snapshot(usual(tmp_path_factory.mktemp("usual"), searched=24).store)
