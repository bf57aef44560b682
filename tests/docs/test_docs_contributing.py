"""Someone adds an attention module as CONTRIBUTING says: in a copy of the repository, to the letter."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from documented import ROOT, blocks, files

PAGE = "CONTRIBUTING.md"


def piece(name: str) -> str:
    """The block that begins with `# NAME`, without that line."""
    (text,) = (b.text for b in blocks() if b.page == PAGE and b.text.startswith(f"# {name}\n"))
    return text.partition("\n")[2]


def insert(path: Path, before: str, text: str) -> None:
    content = path.read_text("utf-8")
    assert content.count(before) == 1
    path.write_text(content.replace(before, text + before), "utf-8")


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the page's module in it."""
    folder = tmp_path_factory.mktemp("contributor")
    for part in ("nas_attn", "search_spaces", "studies", "tests/attention", "pyproject.toml"):
        if (ROOT / part).is_dir():
            shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / part, folder / part)
    files(PAGE, folder)
    rows = folder / "nas_attn" / "attention" / "rows" / "channel.py"
    insert(rows, "ROWS = (\n", piece("rows: function") + "\n\n")
    rows.write_text(rows.read_text("utf-8").replace("ROWS = (\n", "ROWS = (\n" + piece("rows: row")), "utf-8")
    numpy = folder / "tests" / "attention" / "attention_in_numpy.py"
    insert(numpy, "REFERENCES: ", piece("numpy: function") + "\n\n")
    numpy.write_text(numpy.read_text("utf-8").replace("    for f in (\n", "    for f in (\n        lct,\n"), "utf-8")
    return folder


def python(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(folder), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_module_is_listed_and_can_be_placed(copy: Path) -> None:
    shown = python(copy, "-m", "nas_attn.cli.main", "modules", "lct", "--channels", "64", "--set", "groups=8", "--json")
    assert json.loads(shown)["resolved"] == {"groups": 8}
    assert json.loads(shown)["parameters"] == 128
    code = (
        "import nas_attn as na, torch; from nas_attn.backbones import build; from nas_attn.recipe import BackboneSection\n"
        "model = build(BackboneSection(name='resnet8'), input_shape=(3, 32, 32), classes=10).eval()\n"
        "x = torch.randn(2, 3, 32, 32); before = model(x)\n"
        "na.attach(model, 'stage2=lct stage3=lct(groups=8)', input_shape=(3, 32, 32)).eval()\n"
        "print(torch.equal(model(x), before), sum('norm.weight' in n for n in model.state_dict()))"
    )
    assert python(copy, "-c", code).split() == ["True", "2"]


@pytest.mark.slow
def test_tests_of_the_catalogue_take_it_up(copy: Path) -> None:
    command = ["-m", "pytest", "tests/attention", "-q", "-k", "lct or every_row", "-p", "no:cacheprovider", "-m", ""]
    shown = python(copy, *command)
    assert " failed" not in shown
    assert int(shown.rsplit(" passed", 1)[0].split()[-1]) >= 10
