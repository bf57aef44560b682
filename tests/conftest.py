"""Fixtures for more than one folder."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import hypothesis
import pytest

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
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
def private_server() -> ModuleType:
    """The module that starts PostgreSQL servers; skips where there are no binaries."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgres`)")
    if os.name == "nt":
        pytest.skip("the private server is for Linux and macOS")
    module = load_script(ROOT / "runners" / "postgres" / "private_server.py")
    if module.find_binaries() is None:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    return module


@pytest.fixture(scope="session")
def open_folder() -> Iterator[Path]:
    """A folder that other users may enter, as a server must that root starts; pytest's own may not
    be entered.
    """
    folder = Path(tempfile.mkdtemp(prefix="nas_attn_tests_"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def postgres_url(private_server: ModuleType, open_folder: Path) -> Iterator[str]:
    """A private PostgreSQL server's database, for tests that make schemas of their own in it."""
    with private_server.PrivateServer(open_folder / "server", settings={"fsync": "off"}) as server:
        yield server.url()
