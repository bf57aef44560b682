"""How the command line is found and asked: -h, python -m, completion, a folder without a terminal, copies."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from nas_attn.recipe_reading import load_recipe
from nas_attn.storage import Database


@pytest.mark.parametrize("arguments", [["-h"], ["search", "-h"], ["export", "-h"]])
def test_short_help_is_the_long_one(nas, arguments: list[str]) -> None:
    short = nas(*arguments)
    assert short.status == 0
    assert short.out == nas(*arguments[:-1], "--help").out
    assert "Usage: " in short.out


def test_python_dash_m() -> None:
    command = [sys.executable, "-m", "nas_attn", "modules", "se"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("se: ")
    wrong = subprocess.run([*command[:3], "modules", "sse"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr == "error: unknown attention type 'sse': did you mean 'se'?\n"


PROGRAM = shutil.which("nas-attn", path=str(Path(sys.executable).parent))


@pytest.mark.skipif(PROGRAM is None or shutil.which("bash") is None, reason="nas-attn or bash is not installed")
@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("nas-attn se", {"search"}),
        ("nas-attn search --dry", {"--dry-run"}),
        ("nas-attn search f", {"fashion-mnist"}),
        ("nas-attn search mi", {"mine.toml"}),
        ("nas-attn sites resnet8 --space spa", {"spatial_and_channel"}),
        ("nas-attn modules cb", {"cbam"}),
        ("nas-attn resume ta", {"table"}),
        ("nas-attn resume --storage sqlite:///nothing.db t", set()),
    ],
)
def test_the_shell_completes(table: Path, nas, typed: str, offered: set[str]) -> None:
    """With bash's own machinery, as `nas-attn --install-completion bash` sets it up."""
    assert PROGRAM is not None
    (table / "mine.toml").write_text("")
    if "resume" in typed:
        with Database("sqlite:///nas_attn.db") as database:
            database.create_study("table", recipe="{}", versions={})
    before = sorted(table.iterdir())
    script = (
        f"PATH={Path(PROGRAM).parent}:$PATH\n"
        'eval "$(nas-attn --show-completion bash)"\n'
        f"COMP_WORDS=({typed})\nCOMP_CWORD={len(typed.split()) - 1}\n"
        '_nas_attn_completion nas-attn\nprintf "%s\\n" "${COMPREPLY[@]}"'
    )
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    assert set(done.stdout.split()) == offered
    assert done.stderr == ""
    assert [path for path in sorted(table.iterdir()) if path.name != "__pycache__"] == before


@pytest.mark.parametrize("options", [[], ["--data", "cifar10"]])
def test_init_without_a_terminal_takes_the_defaults_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, options: list[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    read, write = os.pipe()  # in which nothing will ever come
    with os.fdopen(read) as nobody:
        monkeypatch.setattr(sys, "stdin", nobody)
        ended = nas("init", *options)
    os.close(write)
    assert ended.status == 0, ended.err
    backbone = "resnet20" if options else "resnet8"
    assert ("--data digits" in ended.out) is not bool(options), "the defaults that were used are named"
    assert f"--backbone {backbone}" in ended.out
    assert load_recipe("study.toml").backbone.name == backbone


def test_what_is_something_else_is_not_written_over(table: Path, nas) -> None:
    (table / "sub").mkdir()
    (table / "link").symlink_to(os.devnull)
    assert nas("search", "table.toml", "--workers", "1", "--trials", "1", "--quiet").status == 0
    before = Path("table.toml").read_bytes()
    for command in (["report", "-o"], ["export", "--trial", "0", "-o"]):
        for name, words in {
            "table.toml": "exists and is something else",
            "nas_attn.db": "exists and is something else",
            "sub": "is a folder",
            "link": "ordinary file",
        }.items():
            ended = nas(*command, name)
            assert (ended.status, words in ended.error) == (2, True), ended.err
    assert Path("table.toml").read_bytes() == before
    assert nas("status", "table").status == 0
    assert os.path.realpath("link") == os.devnull


def test_what_was_written_before_is_written_anew(table: Path, nas) -> None:
    assert nas("search", "table.toml", "--workers", "1", "--trials", "1", "--quiet").status == 0
    for _ in range(2):
        assert nas("report", "-o", "report.html").status == 0
        assert nas("export", "--trial", "0", "-o", "weights.pt").status == 0


def test_a_recipe_named_without_its_ending(table: Path, nas) -> None:
    ended = nas("search", "table")
    assert ended.status == 2
    assert "unknown recipe 'table': did you mean the file 'table.toml'?" in ended.error


def test_effects_on_something_unknown(table: Path, nas) -> None:
    assert nas("search", "table.toml", "--workers", "1", "--trials", "1", "--quiet").status == 0
    assert "did you mean 'score'?" in nas("effects", "--of", "scor").error


def test_a_copy_is_replaced_only_when_told(table: Path, nas) -> None:
    assert nas("search", "table.toml", "--workers", "1", "--trials", "1").status == 0
    assert nas("backup", "copy.db").status == 0
    before = Path("copy.db").read_bytes()
    for options in ([], ["--no-artifacts"]):
        ended = nas("backup", "copy.db", *options)
        assert ended.status == 2
        assert f"'{table / 'copy.db'}' exists: name another file, or force to replace that copy" in ended.error
        assert Path("copy.db").read_bytes() == before
    assert nas("backup", "copy.db", "--force").status == 0
