"""What a user installs: the wheel, in an environment of its own, in a folder that is not the
checkout.
"""

from __future__ import annotations

import json
import subprocess
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

from nas_attn import __version__

ROOT = Path(__file__).resolve().parents[2]
TINY = "data.options={train=200, validation=100, test=50}"


def files(folder: str, pattern: str) -> set[str]:
    return {str(path.relative_to(ROOT / folder)) for path in (ROOT / folder).rglob(pattern)}


def test_wheel_holds_the_package_and_what_ships_with_it(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert {f"nas_attn/{name}" for name in files("nas_attn", "*.py")} <= names
    assert "nas_attn/py.typed" in names, "type checkers read our annotations only with it"
    for kind in ("search_spaces", "studies"):
        shipped = {f"nas_attn/_shipped/{kind}/{name}" for name in files(kind, "*.toml")}
        assert shipped <= names
    others = {
        name
        for name in names
        if not name.startswith(("nas_attn/", f"nas_attn-{__version__}.dist-info/"))
    }
    assert not others


# what the wheel holds is asked above, and `make release` tries it
@pytest.mark.slow
def test_what_is_installed_finds_its_files_and_plans_a_search(installed: Any) -> None:
    code = (
        "import nas_attn\n"
        "from nas_attn.recipe.reading import load_recipe, load_space, shipped\n"
        "print(nas_attn.__file__)\n"
        "print(*(load_recipe(name).name for name in shipped('studies')))\n"
        "print(*(load_space(name).name for name in shipped('search_spaces')))"
    )
    place, studies, spaces = installed.run("python", "-c", code).splitlines()
    assert Path(place).is_relative_to(installed.environment)
    assert set(studies.split()) == {path.stem for path in (ROOT / "studies").glob("*.toml")}
    assert set(spaces.split()) == {path.stem for path in (ROOT / "search_spaces").glob("*.toml")}
    found = json.loads(
        installed.run("nas-attn", "search", "digits", "--dry-run", "--json", "--set", TINY)
    )
    assert found["study"] == "digits"
    assert found["placements"] == 8**3
    assert found["epoch_s"] > 0
    assert not list(installed.folder.iterdir())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_clean_install_searches(wheel: Path, tmp_path: Path) -> None:
    """Everything from the wheel and the package index, as `pip install` does it on a new
    machine.
    """
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=True)
    bin_, elsewhere = environment / "bin", tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(
        [bin_ / "python", "-m", "pip", "install", "--quiet", wheel], cwd=elsewhere, check=True
    )
    small = [
        "--set",
        TINY,
        "--set",
        "training.backbone_epochs=1",
        "--trials",
        "9",
        "--workers",
        "2",
        "--json",
    ]
    command = [str(bin_ / "nas-attn"), "search", "digits", *small]
    done = subprocess.run(command, cwd=elsewhere, capture_output=True, text=True, check=True)
    answer = json.loads(done.stdout)
    assert answer["ended"] == "complete"
    assert (elsewhere / "nas_attn.db").is_file()
    assert Path(answer["report"]).is_file()
