"""A copy of the repository in which someone has done what docs/contributing says, to the letter."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from documented import ROOT, blocks, files

PAGES = "docs/contributing/"


def piece(name: str) -> str:
    """The block that begins with `# NAME`, without that line."""
    (text,) = (
        b.text for b in blocks() if b.page.startswith(PAGES) and b.text.startswith(f"# {name}\n")
    )
    return text.partition("\n")[2]


def insert(path: Path, before: str, text: str) -> None:
    content = path.read_text("utf-8")
    places = content.count(before)
    assert places == 1, (
        f"{path.name} has {places} times {before!r}, before which the page's rows go"
    )
    path.write_text(content.replace(before, text + before), "utf-8")


@pytest.fixture(scope="session")
def contributed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository with the page's module in it."""
    folder = tmp_path_factory.mktemp("contributor")
    parts = ("nas_attn", "search_spaces", "studies", "pyproject.toml")
    tests = ("tests/attention", "tests/training/tasks", "tests/detector.py", "tests/segmenter.py")
    for part in (*parts, *tests):
        if (ROOT / part).is_dir():
            shutil.copytree(
                ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__")
            )
        else:
            shutil.copy(ROOT / part, folder / part)
    # A conftest puts its folder on the path, as in the repository.
    (folder / "tests" / "conftest.py").touch()
    for page in sorted((ROOT / PAGES).glob("*.md")):
        files(f"{PAGES}{page.name}", folder)
    catalogue = folder / "nas_attn" / "attention" / "catalogue.py"
    insert(catalogue, '    Row("eca"', piece("rows: row"))
    numpy = folder / "tests" / "attention" / "attention_in_numpy.py"
    insert(numpy, "def se(", piece("numpy: function") + "\n\n")
    _other_rows(folder / "nas_attn")
    return folder


def _other_rows(package: Path) -> None:
    """A data set, a sampler, a cost, a metric, a latency mode and a task."""
    wiring = package / "wiring.py"
    insert(wiring, '    DataSet("digits-8x8"', piece("wiring: data_set"))
    insert(wiring, '    Sampler(\n        "tpe"', piece("wiring: sampler"))
    insert(wiring, '    Cost(\n        "params"', piece("wiring: cost"))
    insert(package / "recipe" / "sections.py", "    max_parameters", piece("limits: key"))
    insert(wiring, '    LatencyMode("compile"', piece("wiring: latency_mode"))
    insert(wiring, '    TaskRow(\n        "segmentation"', piece("wiring: task"))
    for metrics in ("wiring: metric", "wiring: metrics of a task"):
        insert(wiring, '    Metric(\n        "macro_f1"', piece(metrics))
    insert(
        package / "training/tasks/classification.py",
        '        "macro_f1",\n',
        piece("tasks: metric"),
    )
    insert(
        package / "training/tasks/class_scores.py",
        '        "macro_f1": float(',
        piece("scores: metric"),
    )
