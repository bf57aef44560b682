"""Makes what is published, and tries it as its users will: `make release`.

Builds the sdist and from it the wheel into dist/, checks their pages, installs the wheel into an
empty environment, searches and exports there, and runs a part of the sdist's own tests there.

    # needs the packages `build` and `twine`
    python tools/release.py
    # prints the lowest versions that pyproject.toml allows, as constraints for pip
    python tools/release.py --lowest
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
WORK = ROOT / "build" / "release"
TESTS = (
    "tests/packaging/test_packaging_imports.py",
    "tests/attention",
    "tests/space",
    "tests/cli/test_cli_commands.py",
    "tests/storage/test_storage_contract.py",
)
TRIED_BY = ("pytest", "pytest-timeout", "pytest-xdist", "hypothesis")
SMALL = (
    "data.options={train=200, validation=100, test=50}",
    "training.backbone_epochs=1",
    "latency.tolerance=0.9",
)


def main() -> int:
    """Ends with the error of the first step that fails."""
    if sys.argv[1:] == ["--lowest"]:
        print("\n".join(lowest()))
        return 0
    shutil.rmtree(WORK, ignore_errors=True)
    (WORK / "elsewhere").mkdir(parents=True)
    sdist, wheel = build()
    environment = WORK / "environment"
    venv.create(environment, with_pip=True)
    folder = environment / ("Scripts" if os.name == "nt" else "bin")
    step("install the wheel", folder / "python", "-m", "pip", "install", "--quiet", wheel)
    search(folder)
    with tarfile.open(sdist) as archive:
        archive.extractall(WORK, filter="data")
    source = WORK / sdist.name.removesuffix(".tar.gz")
    step("install what tests need", folder / "python", "-m", "pip", "install", "--quiet", *TRIED_BY)
    # Not `python -m pytest`, which would put the unpacked package before the installed one.
    step(
        "test", folder / "pytest", "-q", "-n", "auto", "-p", "no:cacheprovider", *TESTS, cwd=source
    )
    print(f"\nReady: {sdist.relative_to(ROOT)}, {wheel.relative_to(ROOT)}")
    return 0


def build() -> tuple[Path, Path]:
    """The sdist and the wheel, checked."""
    folder = ROOT / "dist"
    shutil.rmtree(folder, ignore_errors=True)
    step("build", sys.executable, "-m", "build", "--outdir", folder, ROOT)
    (sdist,), (wheel,) = folder.glob("*.tar.gz"), folder.glob("*.whl")
    step("check", sys.executable, "-m", "twine", "check", "--strict", sdist, wheel)
    return sdist, wheel


def search(folder: Path) -> None:
    """A small search and an export with what was installed."""
    program, elsewhere = folder / "nas-attn", WORK / "elsewhere"
    small = [part for setting in SMALL for part in ("--set", setting)]
    step("search", program, "search", "digits", "--trials", "9", "--json", *small, cwd=elsewhere)
    shown = subprocess.run(
        [program, "show", "--json"], cwd=elsewhere, capture_output=True, text=True, check=True
    )
    assert json.loads(shown.stdout)["candidates"]
    step("export", program, "export", cwd=elsewhere)


def step(title: str, *command: str | Path, cwd: Path = WORK) -> None:
    """Runs one, without what would show the checkout."""
    print(f"\n== {title}", flush=True)
    outside = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PYTHON", "NAS_ATTN"))
    }
    if subprocess.run(command, cwd=cwd, env=outside, check=False).returncode:
        raise SystemExit(f"error: {title} failed (above)")


def lowest() -> list[str]:
    """`name==version` of each dependency, also of the extras, but for what only developers need."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    extras = (lines for name, lines in project["optional-dependencies"].items() if name != "dev")
    lines = [*project["dependencies"], *(line for extra in extras for line in extra)]
    found = (re.fullmatch(r"([\w-]+)(?:\[[\w,]+\])?>=([\w.]+)", line) for line in lines)
    return sorted({f"{match[1]}=={match[2]}" for match in found if match})


if __name__ == "__main__":
    sys.exit(main())
