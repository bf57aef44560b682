"""Fixtures for more than one room."""

from __future__ import annotations

import importlib.util
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parent.parent


def load_script(path: Path) -> ModuleType:
    """A script of the repository that is no part of the package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A private PostgreSQL server's `postgres` database, for tests that make databases of their own in it."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgres`)")
    private_server = load_script(ROOT / "runners" / "postgres" / "private_server.py")
    if private_server.find_binaries() is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    # Not under pytest's folder: when root runs the tests, the server's user may not enter that.
    folder = Path(tempfile.mkdtemp(prefix="nas_attn_postgres_"))
    folder.chmod(0o755)
    try:
        with private_server.PrivateServer(folder / "server", settings={"fsync": "off"}) as server:
            yield server.url()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
