"""How the command line is found and asked: -h, python -m, completion, a folder without a terminal,
copies.
"""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from nas_attn import __version__
from nas_attn.recipe.reading import load_recipe
from nas_attn.storage.database import Database
from nas_attn.system.paths import DEFAULT_URL


def test_short_help_is_the_long_one(nas) -> None:
    short = nas("search", "-h")
    assert (short.status, short.out) == (0, nas("search", "--help").out)
    assert "Usage: " in short.out


def test_python_dash_m() -> None:
    program = [sys.executable, "-m", "nas_attn"]
    done = subprocess.run([*program, "--version"], capture_output=True, text=True, check=True)
    assert __version__ in done.stdout
    wrong = subprocess.run(
        [*program, "modules", "sse"], capture_output=True, text=True, check=False
    )
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert re.fullmatch(r"error: [^\n]*'sse'[^\n]*'se'\?\n", wrong.stderr)


PROGRAM = shutil.which("nas-attn", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(
    PROGRAM is None or shutil.which("bash") is None, reason="nas-attn or bash is not installed"
)
def test_the_shell_completes(tmp_path: Path) -> None:
    assert PROGRAM is not None
    script = (
        f"PATH={Path(PROGRAM).parent}:$PATH\n"
        'eval "$(nas-attn --show-completion bash)"\n'
        "COMP_WORDS=(nas-attn search --dry)\nCOMP_CWORD=2\n"
        '_nas_attn_completion nas-attn\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(
        ["bash", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    assert (done.stdout.split(), done.stderr) == (["--dry-run"], "")


def test_init_without_a_terminal_takes_the_defaults_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas
) -> None:
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()  # in which nothing will ever come
    with os.fdopen(read) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        ended = nas("init", "--data", "cifar10")
    os.close(write)
    assert ended.status == 0, ended.err
    assert "--data" not in ended.out, "only the defaults that were used are named"
    assert "--backbone resnet20" in ended.out
    assert load_recipe("study.toml").backbone.name == "resnet20"


@pytest.mark.parametrize(
    ("backbone", "optimizer"), [("torchvision:convnext_tiny", "AdamW"), ("resnet8", "SGD")]
)
def test_init_writes_an_optimizer_that_teaches_the_network(
    table: Path, nas, backbone: str, optimizer: str
) -> None:
    asked = ("--data", "digits", "--backbone", backbone, "--target", "scratch")
    assert nas("init", "mine.toml", *asked).status == 0
    assert load_recipe("mine.toml").training.optimizer == optimizer


def test_only_what_was_written_before_is_replaced(table: Path, nas) -> None:
    (table / "sub").mkdir()
    (table / "link").symlink_to(os.devnull)
    assert nas("search", "table.toml", "--workers", "1", "--trials", "1", "--quiet").status == 0
    before = Path("table.toml").read_bytes()
    for command in (["report", "-o"], ["export", "--placement", "0", "--format", "weights", "-o"]):
        for name, words in {
            "table.toml": "already exists",
            "nas_attn.db": "already exists",
            "sub": "is a folder",
            "link": "ordinary file",
        }.items():
            ended = nas(*command, name)
            assert (ended.status, words in ended.error) == (2, True), ended.err
        for _ in range(2):
            assert (
                nas(*command, "written.html" if "report" in command else "weights.pt").status == 0
            )
    assert Path("table.toml").read_bytes() == before
    assert nas("status", "table").status == 0
    assert os.path.realpath("link") == os.devnull
    assert nas("backup", "copy.db").status == 0
    copy = Path("copy.db").read_bytes()
    for options in ([], ["--no-weights"]):
        ended = nas("backup", "copy.db", *options)
        assert ended.status == 2
        assert f"'{table / 'copy.db'}' " in ended.error
        assert Path("copy.db").read_bytes() == copy
    assert nas("backup", "copy.db", "--force").status == 0


def test_a_recipe_named_without_its_ending(table: Path, nas) -> None:
    ended = nas("search", "table")
    assert ended.status == 2
    assert "'table'" in ended.error
    assert "'table.toml'" in ended.error


def test_paths_as_windows_writes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas) -> None:
    r"""Drive letters, backslashes, spaces, quotation marks: in a recipe, an option and a URL."""
    monkeypatch.chdir(tmp_path)
    photos, recipe, url = (
        r"C:\Users\Jörg's new photos",
        r"C:\my study.toml",
        r"sqlite:///D:\my studies\nas attn.db",
    )
    for number in range(20):
        picture = Path(photos, "cat" if number % 2 else "dog", f"{number}.png")
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 8), (number, 9, 9)).save(picture)
    made = nas(
        "init",
        recipe,
        "--data",
        f"folder:{photos}",
        "--backbone",
        "resnet8",
        "--name",
        "windows",
    )
    assert made.status == 0, made.err
    assert load_recipe(recipe).data.name == f"folder:{photos}"
    with Database(url) as database:
        database.create_study("windows", recipe=load_recipe(recipe).to_json(), versions={})
    assert "windows" in nas("status", "--storage", url).out


def test_create_only_makes_the_study_and_says_how_it_is_searched(table: Path, nas) -> None:
    made = nas("search", "table.toml", "--create-only", "--time", "30m", "--trials", "2")
    assert made.status == 0
    with Database(DEFAULT_URL) as database:
        assert database.study("table").settings.ends_at is None, "its workers may come later"
    assert "nas-attn worker table" in made.out
    assert "time is over" not in made.err
    assert not list(Path.cwd().glob("*.html"))
    again = nas("search", "table.toml", "--create-only", "--trials", "2", "--json").json
    assert (again["ended"], again["report"]) == ("created", None)
    assert nas("resume", "table", "--workers", "1").status == 0
