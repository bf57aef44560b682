"""Fixtures for more than one folder."""

from __future__ import annotations

import gc
import importlib.util
import os
import re
import shutil
import site
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import clone
import hypothesis
import pytest
from browser import CHROMIUM
from stubbed_cuda import StubbedCuda, installed

hypothesis.settings.register_profile(
    "any machine", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("any machine")
ROOT = clone.ROOT
# Beside all that torch loads, looking for garbage as often as by default takes a tenth of the time,
# and less often half of that.
gc.set_threshold(20_000, 10, 50)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--row",
        metavar="NAME",
        help="Only the tests of one row: a module, sampler, latency mode, cost, metric, task, format.",
    )


WATCH = pytest.StashKey[clone.Watch]()
HOME = pytest.StashKey[Path]()
USERS = re.compile(r"XDG_\w+_HOME|TORCH_HOME|HF_HOME|YOLO_CONFIG_DIR|NAS_ATTN_STORAGE\w*")
"""Variables that name the user's own folders and databases."""


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Gives this process, and those that it starts, a home of their own, before any test file is
    read: what a test imports may write there.
    """
    if not hasattr(config, "workerinput"):
        config.stash[WATCH] = clone.Watch()
    # what git and pip were told, and packages of the user, are needed all the same
    for name, file in (
        ("GIT_CONFIG_GLOBAL", ".gitconfig"),
        ("PIP_CONFIG_FILE", ".config/pip/pip.conf"),
    ):
        if (Path.home() / file).is_file():
            os.environ.setdefault(name, str(Path.home() / file))
    os.environ.setdefault("PYTHONUSERBASE", site.getuserbase())
    for name in filter(USERS.fullmatch, list(os.environ)):
        del os.environ[name]
    config.stash[HOME] = Path(tempfile.mkdtemp(prefix="nas_attn_home_"))
    os.environ["HOME"] = str(config.stash[HOME])


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Counts an error where the run changed the clone, or, on a CI machine, the user's folders; with
    workers, once all have ended.

    Tests have homes of their own. So what appears in the user's folders elsewhere is most likely
    another program's, such as a search in another terminal: it is only said.
    """
    config = session.config
    watch = config.stash.get(WATCH, None)
    terminal = config.pluginmanager.get_plugin("terminalreporter")
    changed = watch.changed() if watch else []
    if terminal is None:
        return
    others = [] if os.environ.get("CI") else [path for path in changed if not clone.has(path)]
    wrong = [path for path in changed if path not in others]
    if others:
        files = "\n  ".join(others)
        terminal.section("files of the user that changed meanwhile")
        terminal.write_line(f"  {files}")
        terminal.write_line("Tests have homes of their own, so another program wrote them.")
    if not wrong:
        return
    files = "\n  ".join(wrong)
    reason = (
        f"Changed while the tests ran:\n  {files}\n"
        "A test writes in its own folder only. If it was you (a search, an editor), all is well."
    )
    report = pytest.TestReport(
        nodeid="the clone and the user's folders",
        location=("", None, "the clone and the user's folders"),
        keywords={},
        outcome="failed",
        longrepr=reason,
        when="teardown",
    )
    terminal.stats.setdefault("error", []).append(report)
    if session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_unconfigure(config: pytest.Config) -> None:
    gc.unfreeze()
    if HOME in config.stash:
        shutil.rmtree(config.stash[HOME], ignore_errors=True)


WALKS_OVER_ROWS = re.compile(
    r"\b(ROWS|TASK_ROWS|COSTS|METRICS|SAMPLERS|LATENCY_MODES|DATA_SETS|BACKBONE_SOURCES"
    r"|INTEGRATIONS|FORMATS|RECORDED)\b"
)
"""In a file whose tests are made from the rows of a table, or from what is recorded of them."""


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """With `--row`, only files are read that name the row, or walk over rows."""
    row = config.getoption("--row")
    if row is None or collection_path.suffix != ".py":
        return None
    text = collection_path.read_text("utf-8")
    if WALKS_OVER_ROWS.search(text) or re.search(rf"\b{re.escape(row)}\b", text):
        return None
    return True


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keeps the tests that have the row, or its name, among their parameters."""
    row = config.getoption("--row")
    if row is None:
        return
    kept = [item for item in items if row in _names(item)]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(kept)])
    items[:] = kept


def pytest_collection_finish() -> None:
    """What is there before the first test stays to the end: the garbage collector, which each
    session of latencies calls, need not look through it.
    """
    gc.collect()
    gc.freeze()


def _names(item: pytest.Item) -> set[str]:
    """What the parameters of a test are called."""
    callspec = getattr(item, "callspec", None)
    if callspec is None:
        return set()
    values = callspec.params.values()
    return {str(getattr(value, "name", value)) for value in values} | {callspec.id}


def load_script(path: Path) -> ModuleType:
    """A script of the repository that is no part of the package, as a module."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


@dataclass(frozen=True)
class Gpu:
    """Whether there is a GPU, and what hides it: the session's fixtures see none, either."""

    there: bool
    patch: pytest.MonkeyPatch

    def hide(self) -> None:
        import torch

        self.patch.setenv("CUDA_VISIBLE_DEVICES", "")
        self.patch.setattr(torch.cuda, "is_available", lambda: False)
        self.patch.setattr(torch.cuda, "device_count", lambda: 0)


def is_there(name: str) -> bool:
    """Whether a package, or Chromium, is installed."""
    if name == "chromium":
        return CHROMIUM is not None
    return importlib.util.find_spec(name) is not None


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skips tests marked `extras` without their packages. A run of these alone, as by
    `make test-extras`, is for machines that have them; Chromium is not to be had everywhere.
    """
    alone = item.config.getoption("markexpr") == "extras"
    for marker in item.iter_markers("extras"):
        for name in marker.args:
            if is_there(name):
                continue
            if alone and name != "chromium":
                pytest.fail(f"{name} is not installed")
            pytest.skip(f"{name}, which users may have, is not installed: make test-extras")


@pytest.fixture(scope="session", autouse=True)
def ultralytics_settings(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Ultralytics keeps its settings in a folder of the tests, and installs nothing."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_CONFIG_DIR", str(tmp_path_factory.mktemp("ultralytics")))
        patch.setenv("YOLO_AUTOINSTALL", "false")
        yield


@pytest.fixture(scope="session", autouse=True)
def gpu() -> Iterator[Gpu]:
    """The machine's GPU, hidden from tests and from processes that they start."""
    import torch

    with pytest.MonkeyPatch.context() as patch:
        gpu = Gpu(torch.cuda.is_available(), patch)
        if gpu.there:
            gpu.hide()
        yield gpu


@pytest.fixture(scope="session", autouse=True)
def _between_tests(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Fixtures of files and of the session do not begin in the clone, either, and have a cache of
    their own.
    """
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("between_tests")
        patch.chdir(folder)
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        yield


@pytest.fixture(autouse=True)
def _own_folder(tmp_path: Path, _between_tests: None) -> Iterator[None]:
    """Each test runs in `tmp_path`, with a cache of its own in `tmp_path / "cache"`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tmp_path)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        yield


@pytest.fixture(autouse=True)
def gpu_for_those_that_ask(request: pytest.FixtureRequest, gpu: Gpu) -> Iterator[None]:
    """Tests marked `gpu` see the GPU, and are skipped without one. All others do the same on every
    machine.
    """
    if request.node.get_closest_marker("gpu") is None:
        yield
        return
    if not gpu.there:
        pytest.skip("needs a CUDA GPU; torch sees none here")
    gpu.patch.undo()
    yield
    gpu.hide()


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
