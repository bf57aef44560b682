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
from stubbed_cuda import StubbedCuda, installed

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
def gpu_is_there() -> bool:
    """Whether torch has a CUDA device, before any test hides it."""
    import torch

    return torch.cuda.is_available()


@pytest.fixture(autouse=True)
def gpu_for_those_that_ask(
    request: pytest.FixtureRequest, gpu_is_there: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Tests marked `gpu` are skipped without a GPU. All others see none, nor do their processes, so
    that they do the same on every machine.
    """
    if request.node.get_closest_marker("gpu") is not None:
        if not gpu_is_there:
            pytest.skip("needs a CUDA GPU; torch sees none here")
        return
    if gpu_is_there:
        import torch

        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
        monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)


@pytest.fixture
def stub() -> Iterator[StubbedCuda]:
    """`torch.cuda` over CPU tensors, as in torch 2.11."""
    with installed() as cuda:
        yield cuda


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
