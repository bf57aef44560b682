"""The wheel, and an environment outside the checkout that it is installed in."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


def outside(**more: str) -> dict[str, str]:
    """The environment without what would show the checkout, with one thread."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "NAS_ATTN"))
    }
    return {**kept, "OMP_NUM_THREADS": "1", **more}


@dataclass(frozen=True)
class Installed:
    """A virtual environment with nas_attn in it, and a folder to work in."""

    environment: Path
    folder: Path

    @property
    def python(self) -> Path:
        return self.environment / "bin" / "python"

    def run(self, *command: str, timeout: float = 240) -> str:
        """Standard output of a command of this environment; fails with all output where the command
        does.
        """
        program = [str(self.environment / "bin" / command[0]), *command[1:]]
        done = subprocess.run(
            program,
            cwd=self.folder,
            env=outside(),
            timeout=timeout,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"
        return done.stdout


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from the source archive as an index would do it."""
    pytest.importorskip("build", reason="build is not installed (extra `dev`)")
    pytest.importorskip("hatchling", reason="hatchling is not installed (extra `dev`)")
    folder = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(
        command, cwd=folder, env=outside(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (made,) = folder.glob("*.whl")
    return made


@pytest.fixture(scope="session")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Installed:
    """The wheel in an environment that sees the libraries of this one, but not the checkout."""
    environment = tmp_path_factory.mktemp("wheel") / "environment"
    venv.create(environment, with_pip=False)
    pip = [
        sys.executable,
        "-m",
        "pip",
        "--python",
        str(environment / "bin" / "python"),
        "--disable-pip-version-check",
    ]
    subprocess.run(
        [*pip, "install", "--quiet", "--no-deps", "--no-index", str(wheel)],
        env=outside(),
        check=True,
    )
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    # A folder named in a .pth file is searched, but its own .pth files (that of an editable
    # checkout) are not read.
    (environment / "lib" / version / "site-packages" / "libraries.pth").write_text(
        "\n".join(sorted(libraries))
    )
    return Installed(environment, tmp_path_factory.mktemp("elsewhere"))
