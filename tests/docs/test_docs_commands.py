"""What the pages tell a user to type exists, what they link to as well."""

from __future__ import annotations

import importlib
import re
import runpy
import shlex
import subprocess
import sys
import urllib.parse
from pathlib import Path

import pytest
import typer
import typer.main
from documented import FENCE, PAGES, ROOT, commands

from nas_attn.cli.main import app
from nas_attn.system import environment

GROUP = typer.main.get_command(app)
ASKED = sorted(set(commands("nas-attn")))
assert {"README.md", "docs/get-started/quickstart.md", "docs/how-to/run-anywhere.md"} <= {
    page for page, _ in ASKED
}


@pytest.mark.parametrize(("page", "line"), ASKED, ids=lambda text: text[:60])
def test_command_can_be_typed(page: str, line: str) -> None:
    name, *arguments = shlex.split(re.sub(r"\bN\b", "2", line.removesuffix("…")))
    if name.startswith("-"):
        assert name in {
            option
            for parameter in GROUP.get_params(typer.Context(GROUP))
            for option in parameter.opts
        }
        return
    command = GROUP.commands[name]  # type: ignore[attr-defined]
    if arguments:  # else it is only spoken of
        command.make_context(name, arguments).close()  # parsed, not run


def test_targets_of_make_exist() -> None:
    shown = subprocess.run(
        ["make", "help"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    targets = set(re.findall(r"make ([\w-]+)", shown))
    for page, line in commands("make"):
        target = next((word for word in line.split() if "=" not in word), "help")
        assert target in targets or target == "bench-NAME", f"{page}: make {line}"


NOTES = sorted((ROOT / "research").rglob("*.md"))
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]+))?\)")


def headings(page: Path) -> set[str]:
    """The places in a page that a link can name."""
    text = FENCE.sub("", page.read_text("utf-8"))
    titles = (
        re.sub(r"\]\([^)]*\)", "", title) for title in re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    )
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *NOTES], ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page: Path) -> None:
    for target, place in LINK.findall(FENCE.sub("", page.read_text("utf-8"))):
        if urllib.parse.urlparse(target).scheme:
            continue
        linked = page.parent / target if target else page
        assert linked.exists(), target
        if place and linked.suffix == ".md":
            assert place in headings(linked), f"{target}#{place}"


GONE = re.compile(r"5be68e96|1f0a14c8")
"""Behind a command: the commit that has its program."""
PROGRAM = re.compile(r"python -m ((?:benchmarks|research)(?:\.\w+)+)([^`]*`[^`]{0,32})?")


@pytest.mark.parametrize("page", [*PAGES, *NOTES], ids=lambda page: str(page.relative_to(ROOT)))
def test_a_program_that_a_page_names_is_there_or_its_commit_is_said(page: Path) -> None:
    for name, behind in PROGRAM.findall(page.read_text("utf-8")):
        path = ROOT.joinpath(*name.split("."))
        there = path.with_suffix(".py").exists() or name == "benchmarks.NAME"
        assert there or GONE.search(behind), name


@pytest.mark.parametrize(
    "name", ["write_recipe", "write_attention", "write_database", "write_glossary"]
)
def test_written_references_are_current(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "reference")
    script = importlib.import_module(name)
    assert script.PAGE.read_text("utf-8") == script.page(), "run `make docs`"


def test_pages_tell_how_many_modules_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT / "docs" / "reference")
    script = importlib.import_module("write_attention")
    for page in script.COUNTED:
        text = page.read_text("utf-8")
        assert script.NUMBER.search(text)
        assert text == script.counted(text), "run `make docs`"


def test_the_answer_in_readme_is_the_gallerys() -> None:
    gallery, readme = (
        (ROOT / page).read_text("utf-8") for page in ("docs/get-started/gallery.md", "README.md")
    )
    answer = re.findall(r"(?s)```\n((?:Take|Keep) .+?\n)```", readme)
    assert answer == re.findall(r"(?s)```text\n((?:Take|Keep) .+?\n)```", gallery)[:1] != []


def test_the_architecture_names_code_that_exists() -> None:
    code = {path.as_posix(): path.read_text("utf-8") for path in (ROOT / "nas_attn").rglob("*.py")}
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for owner, name in re.findall(r"[`(](?!nn|optuna|torch|stage2)(\w+)\.(\w+)", page):
        inside = [
            text
            for path, text in code.items()
            if re.search(rf"/{owner}\b", path) or f"class {owner}" in text
        ]
        known = any(re.search(rf"(def|class) {name}\b", text) for text in inside)
        assert known or any(f"/{owner}/{name}" in path for path in code), f"{owner}.{name}"


def test_index_of_benchmarks_names_every_page() -> None:
    index = (ROOT / "docs" / "benchmarks.md").read_text("utf-8")
    for page in (ROOT / "docs" / "benchmarks").glob("*.md"):
        assert f"](benchmarks/{page.name})" in index


def test_the_figures_of_measurements_are_drawn_from_their_tables() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "write_figures.py"))
    for name, draw in script["FIGURES"].items():
        kept = (ROOT / "docs" / "pictures" / name).read_text("utf-8")
        assert kept == draw(), "run make docs"


def test_the_gallery_needs_a_browser_and_says_so_before_its_searches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["write_gallery.py", "--run", str(tmp_path)])
    monkeypatch.setenv("BROWSER_PATH", "no-such-browser")
    script = runpy.run_path(str(ROOT / "docs" / "write_gallery.py"))
    assert script["main"]() == 1
    assert "no-such-browser" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_gallery_says_what_its_kept_studies_say_today() -> None:
    script = runpy.run_path(str(ROOT / "docs" / "write_gallery.py"))
    assert (ROOT / "docs" / "get-started" / "gallery.md").read_text("utf-8") == script["page"](), (
        "run make gallery"
    )


def test_every_picture_of_the_pages_is_drawn_by_a_command() -> None:
    gallery = runpy.run_path(str(ROOT / "docs" / "write_gallery.py"))
    figures = runpy.run_path(str(ROOT / "docs" / "write_figures.py"))
    # by experiments' own pages
    others = {"start.svg", "trial.svg"}
    drawn = {*gallery["pictures"](), *figures["FIGURES"], *others}
    assert {file.name for file in (ROOT / "docs" / "pictures").iterdir()} == drawn


def test_the_architecture_names_files_and_functions_that_are_there() -> None:
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    table = page.partition("## Where to look")[2].partition("## ")[0]
    named = re.findall(r"`([\w/]+\.py)`(?:: `(?:\w+\.)?(\w+)`)?", table)
    assert len(named) > 10
    for path, name in named:
        text = (ROOT / "nas_attn" / path).read_text("utf-8")
        assert re.search(rf"^\s*(?:def )?{name}\b", text, re.MULTILINE), (path, name)


def test_a_page_has_the_environment_variables_that_a_user_may_set() -> None:
    text = (ROOT / "docs" / "how-to" / "run-anywhere.md").read_text("utf-8")
    told = re.findall(r"^\| `(NAS_ATTN_\w+)` \|", text, re.MULTILINE)
    assert sorted(told) == sorted(environment.SETTINGS)
