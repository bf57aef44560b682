"""What the commands are called, what their options mean, and which studies there are."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import optuna
import pytest
import typer.main
from command_line import Nas

from nas_attn.cli.commands import COMMON_PANEL, FORMER_OPTIONS, PANELS
from nas_attn.cli.main import FORMER_NAMES, app
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage.database import Database
from nas_attn.storage.opening import open_study

URL = "sqlite:///nas_attn.db"
MEANINGS = {
    "--also": "one more placement",
    "--backbone": "the network",
    "--force": "an existing file is replaced",
    "--max-latency-ratio": "a limit, in times the bare backbone's latency",
    "--name": "the study's name",
    "--output": "the file that is written",
    "--seeds": "runs of each network",
    "--space": "a search space",
    "--trials": "candidates in all",
    "--workers": "how many workers",
    "--yes": "no questions",
}
"""Options whose help differs between commands, since each says more of the same."""


def commands(group: Any = None) -> Iterator[tuple[str, Any]]:
    """(name, command) of all commands, those of groups and former names included."""
    for name, command in (group or typer.main.get_command(app)).commands.items():
        if hasattr(command, "commands"):
            yield from commands(command)
        else:
            yield name, command


def test_an_option_means_the_same_in_all_commands() -> None:
    helps: defaultdict[str, set[str]] = defaultdict(set)
    kinds: defaultdict[str, set[tuple[bool, bool]]] = defaultdict(set)
    for name, command in commands():
        for option in command.params:
            if option.param_type_name == "option" and name not in FORMER_NAMES:
                long = max(option.opts, key=len)
                helps[long].add(option.help)
                kinds[long].add((option.is_flag, option.multiple))
    assert {name for name, texts in helps.items() if len(texts) > 1} == set(MEANINGS)
    assert not [name for name, kind in kinds.items() if len(kind) > 1]


def test_former_names_still_work_and_no_help_shows_them(nas: Nas) -> None:
    assert "validate" in FORMER_NAMES
    shown = nas("--help").out
    assert not [name for name in FORMER_NAMES if f"  {name} " in shown]
    everything = dict(commands())
    for name, former in FORMER_OPTIONS.items():
        options = {text for option in everything[name].params for text in option.opts}
        options |= {text for option in everything[name].params for text in option.secondary_opts}
        assert set(former.values()) <= options
        assert not set(former) & options - {"--placement"}
    assert "reduction=8" in nas("modules", "se", "--set", "reduction=8").out
    assert "reduction=8" in nas("modules", "se", "--set=reduction=8").out
    assert "--knob" in nas("modules", "se", "--set", "reduction").error
    assert "no study" in nas("validate").error or "does not exist" in nas("validate").error


def test_the_main_options_come_first_in_the_help(nas: Nas) -> None:
    shown = nas("search", "--help").out
    headings = [line[:-1] for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings[0] == "Arguments"
    assert headings[1:] == [panel for panel in PANELS if panel in headings]
    assert shown.index("--trials") < shown.index("--workers") < shown.index("--json")
    assert shown.index(COMMON_PANEL) < shown.index("--help")


def begin(name: str) -> None:
    recipe = load_recipe(
        "table.toml", overrides={"name": name, "search.trials": 2, "search.confirm_seeds": 0}
    )
    taking_part.work(beginning.begin(recipe, URL), taking_part.Options(say=lambda line: None))


def files(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def test_a_deleted_study_leaves_nothing_and_harms_no_other(table: Path, nas: Nas) -> None:
    begin("other")
    kept = files(table)
    begin("table")
    assert nas("studies", "list").out == nas("status").out
    assert len(nas("studies", "list", "--json").json) == 2
    before = open_study("other", URL).store.state()
    refused = nas("studies", "delete", "table")
    assert refused.status == 2
    assert "--yes" in refused.error
    done = nas("studies", "delete", "table", "--yes", "--json")
    assert done.json["study"] == "table"
    assert done.json["files"] > 0
    assert [study.name for study in Database(URL).studies()] == ["other"]
    assert optuna.get_all_study_names(URL) == ["other"]
    assert {name for name in files(table) if "pycache" not in name and name.endswith(".pt")} <= kept
    assert open_study("other", URL).store.state() == before
    assert "'table'" in nas("studies", "delete", "table", "--yes").error
    begin("table")
    assert nas("status", "table", "--json").json["finished"] == 2, "the name can be used again"


def test_a_study_at_work_is_not_deleted(table: Path, nas: Nas) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        if not said:
            said.append(nas("studies", "delete", "table", "--yes").error)

    recipe = load_recipe("table.toml", overrides={"search.trials": 2, "search.confirm_seeds": 0})
    taking_part.work(beginning.begin(recipe, URL), taking_part.Options(say=say))
    assert "nas-attn stop table" in said[0]
    assert len(open_study("table", URL).store.candidates()) == 2


def test_a_study_whose_trials_are_gone_can_be_deleted(table: Path, nas: Nas) -> None:
    begin("table")
    optuna.delete_study(study_name="table", storage=URL)
    mine = optuna.create_study(study_name="table", storage=URL)
    mine.tell(mine.ask(), 0.5)
    assert nas("studies", "delete", "table", "--yes").status == 0
    assert Database(URL).studies() == []
    assert optuna.load_study(study_name="table", storage=URL)._study_id == mine._study_id


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal")
@pytest.mark.parametrize(("typed", "left"), [(b"n\n", 1), (b"y\n", 0)])
def test_at_a_terminal_the_command_asks(table: Path, typed: bytes, left: int) -> None:
    begin("table")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "nas_attn.cli.main", "studies", "delete", "table"]
    process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, text=True)
    os.write(master, typed)
    out = process.communicate(timeout=120)[0]
    os.close(master)
    os.close(slave)
    assert "2 candidates" in out
    assert len(Database(URL).studies()) == left


@pytest.mark.slow
def test_measure_says_what_it_takes_a_word_for(table: Path, nas: Nas) -> None:
    pytest.importorskip("onnxscript")
    begin("table")
    send = ("--latency", "mode=onnxruntime", "--to", "board")
    done = nas("measure", "table", "1", "stage1=se(reduction=2)", *send)
    assert done.status == 0, done.err
    assert "'table': a study\n" in done.err
    assert "'1': trial 1 of the study, stage1=" in done.err
    assert "'stage1=se(reduction=2)': a placement on resnet8\n" in done.err
    other = nas(
        "measure",
        "stage1=se",
        "resnet8(width=10)",
        "--backbone",
        "resnet8",
        *send[:2],
        "--to",
        "other",
    )
    assert "'resnet8(width=10)': another backbone, without attention" in other.err
