"""What the commands are called, what their options mean, and which studies there are."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import optuna
import pytest
import typer.main
from command_line import Nas
from made_study import usual

from nas_attn.answer import reading
from nas_attn.cli.commands import EXAMPLES
from nas_attn.cli.main import app
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage.database import Database
from nas_attn.storage.opening import open_study
from nas_attn.storage.trial_book import TrialBook

URL = "sqlite:///nas_attn.db"
ROOT = Path(__file__).resolve().parents[2]
MEANINGS = {
    "--backbone": "the network",
    "--force": "an existing file is replaced",
    "--max-latency-ratio": "a limit, in times the bare backbone's latency",
    "--name": "the study's name",
    "--output": "the file that is written",
    "--placement": "a network",
    "--seeds": "runs of each network",
    "--set": "a setting, as KEY=VALUE",
    "--trials": "candidates in all",
    "--yes": "what would be asked or proposed is taken",
}
"""Options whose help differs between commands, since each says more of the same."""
MOST_OPTIONS = 150
"""Options that a person can see, those of all commands counted once: one more takes the place of
another.
"""


def options_of(command: Any) -> list[Any]:
    """The options of a command that its help explains."""
    return [
        parameter
        for parameter in command.params
        if parameter.param_type_name == "option" and not parameter.hidden
    ]


GROUP: Any = typer.main.get_command(app)
SHOWN: dict[str, Any] = GROUP.commands


def test_an_option_means_the_same_in_all_commands() -> None:
    helps: defaultdict[str, set[str]] = defaultdict(set)
    kinds: defaultdict[str, set[tuple[bool, bool]]] = defaultdict(set)
    for command in SHOWN.values():
        for option in options_of(command):
            long = max(option.opts, key=len)
            helps[long].add(option.help)
            kinds[long].add((option.is_flag, option.multiple))
    assert {name for name, texts in helps.items() if len(texts) > 1} == set(MEANINGS)
    assert not [name for name, kind in kinds.items() if len(kind) > 1]


def test_the_options_are_few_enough_to_be_known() -> None:
    count = sum(len(options_of(command)) for command in SHOWN.values())
    assert count + len(typer.main.get_command(app).params) < MOST_OPTIONS


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_every_command_has_the_common_options_before_and_after_its_name(name: str) -> None:
    group: Any = typer.main.get_command(app)
    command = SHOWN[name]
    required = ["x" for p in command.params if p.param_type_name == "argument" and p.required]
    given = ["--storage", "sqlite:///x.db", "--trust", "--wide", "--json", "-q"]
    for before, after in ((given, []), ([], given), (["--storage", "sqlite:///y.db"], given)):
        parent = group.make_context("nas-attn", [*before, name, *required, *after])
        with parent, command.make_context(name, [*required, *after], parent=parent) as made:
            assert made.storage == "sqlite:///x.db"
            assert all((made.trust, made.wide, made.as_json, made.quiet))


@pytest.mark.parametrize("name", sorted(SHOWN))
def test_help_has_two_examples_that_can_be_typed_and_a_page(name: str, nas: Nas) -> None:
    shown = nas(name, "--help").out
    assert max(map(len, shown.splitlines())) <= 80
    examples, _, page = shown.partition(EXAMPLES)[2].partition("\n\n")
    lines = [shlex.split(line) for line in examples.splitlines()]
    assert len(lines) == 2
    for program, typed, *words in lines:
        assert (program, typed) == ("nas-attn", name)
        SHOWN[name].make_context(name, words).close()  # parsed, not run
    assert (ROOT / re.findall(r"docs/\S+\.md", page)[0]).is_file()


def test_metavars_are_words(nas: Nas) -> None:
    for name in SHOWN:
        shown = nas(name, "--help").out
        assert not re.search(r"\b(INTEGER|FLOAT|<\w+>)\b", shown), name


def test_one_network_is_asked_for_once(table: Path, nas: Nas) -> None:
    begin("table")
    assert "2 times" in nas("show", "--placement", "none", "--placement", "0").error
    by_number = nas("show", "--placement", "0", "--json").json
    assert by_number["chosen"]["trial"] == 0


def test_the_card_comes_first_also_for_what_a_person_chooses(tmp_path: Path, nas: Nas) -> None:
    study = usual(tmp_path)
    TrialBook(study.database, study.store.name, made_for=study.recipe).close()
    at = ("--storage", f"sqlite:///{tmp_path}/made.db")
    shown = nas("show", *at, "--max-latency-ratio", "99").out
    assert re.match(r"Take .+ within 99 times the backbone's latency\.\n\n +stem ─ ", shown)
    assert shown.index("within 99") < shown.index("Study made: the front")
    assert nas("show", *at, "--placement", "none").out.startswith("Keep the bare backbone: ")


def test_json_is_one_document_of_commands_that_only_told_people(table: Path, nas: Nas) -> None:
    recipe = nas("init", "mine.toml", "--data", "digits", "--json").json
    assert recipe["recipe"] == "mine.toml"
    assert "--space small" in recipe["defaults"]
    assert nas("search", "table.toml", "--create-only", "--json").json["ended"] == "created"
    worked = nas("worker", "table", "--time", "0s", "--device", "cpu", "--json").json
    assert worked["ended"] == "time"
    assert open_study("table", URL).store.candidates() == []
    assert nas("stop", "--json").json == {"told": 0, "working": []}


def test_a_test_ends_with_its_time_and_goes_on(table: Path, nas: Nas) -> None:
    begin("table")
    tested = ("test", "--placement", "stage1=se(reduction=2)", "--seeds", "2", "--workers", "1")
    ended = nas(*tested, "--time", "0s")
    assert ended.status == 130
    assert "go on with: nas-attn test table" in ended.err
    assert nas("test", "--workers", "1", "--time", "1h", "--json").json["validations"][0][
        "complete"
    ]


def test_a_wrong_time_is_said_before_anything_is_written(table: Path, nas: Nas) -> None:
    begin("table")
    wrong = nas("test", "--placement", "stage1=se(reduction=2)", "--time", "12hours")
    assert "12hours" in wrong.error
    assert not reading.families(open_study("table", URL).store)


def test_the_main_options_come_first_in_the_help(nas: Nas) -> None:
    shown = nas("search", "--help").out
    headings = [line[:-1] for line in shown.splitlines() if line.endswith(":") and line[0] != " "]
    assert headings == ["Arguments", "Options", "Examples"]
    assert shown.index("--trials") < shown.index("--workers") < shown.index("--json")


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
    assert len(nas("--json", "status").json) == 2
    before = open_study("other", URL).store.state()
    refused = nas("delete", "table")
    assert refused.status == 2
    assert "--yes" in refused.error
    done = nas("delete", "table", "--yes", "--json")
    assert done.json["study"] == "table"
    assert done.json["files"] > 0
    assert [study.name for study in Database(URL).studies()] == ["other"]
    assert optuna.get_all_study_names(URL) == ["other"]
    assert {name for name in files(table) if "pycache" not in name and name.endswith(".pt")} <= kept
    assert open_study("other", URL).store.state() == before
    assert "'table'" in nas("delete", "table", "--yes").error
    begin("table")
    assert nas("status", "table", "--json").json["finished"] == 2, "the name can be used again"


def test_a_study_at_work_is_not_deleted(table: Path, nas: Nas) -> None:
    said: list[str] = []

    def say(line: str) -> None:
        if not said:
            said.append(nas("delete", "table", "--yes").error)

    recipe = load_recipe("table.toml", overrides={"search.trials": 2, "search.confirm_seeds": 0})
    taking_part.work(beginning.begin(recipe, URL), taking_part.Options(say=say))
    assert "nas-attn stop table" in said[0]
    assert len(open_study("table", URL).store.candidates()) == 2


def test_a_study_whose_trials_are_gone_can_be_deleted(table: Path, nas: Nas) -> None:
    begin("table")
    optuna.delete_study(study_name="table", storage=URL)
    mine = optuna.create_study(study_name="table", storage=URL)
    mine.tell(mine.ask(), 0.5)
    assert nas("delete", "table", "--yes").status == 0
    assert Database(URL).studies() == []
    assert optuna.load_study(study_name="table", storage=URL)._study_id == mine._study_id


@pytest.mark.skipif(os.name == "nt", reason="needs a terminal")
# with yes it goes on as with --yes; each is a process that loads torch
@pytest.mark.parametrize(
    ("typed", "left"), [(b"n\n", 1), pytest.param(b"y\n", 0, marks=pytest.mark.slow)]
)
def test_at_a_terminal_the_command_asks(table: Path, typed: bytes, left: int) -> None:
    begin("table")
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "nas_attn.cli.main", "delete", "table"]
    process = subprocess.Popen(command, stdin=slave, stdout=subprocess.PIPE, text=True)
    os.write(master, typed)
    out = process.communicate(timeout=120)[0]
    os.close(master)
    os.close(slave)
    assert "2 candidates" in out
    assert len(Database(URL).studies()) == left


@pytest.mark.slow
def test_measure_says_what_it_takes_a_word_for(table: Path, nas: Nas) -> None:
    begin("table")
    quick = ("--set", "session_seconds=0.1", "--set", "tolerance=0.9")
    done = nas("measure", "table", "1", "stage1=se(reduction=2)", *quick)
    assert done.status == 0, done.err
    assert "'table': a study\n" in done.err
    assert "'1': trial 1 of the study, stage1=" in done.err
    assert "'stage1=se(reduction=2)': a placement on resnet8\n" in done.err
    other = nas("measure", "resnet8", "stage1=se", "resnet8(width=10)", *quick)
    assert "'resnet8(width=10)': another backbone, without attention" in other.err
    refused = nas("measure", "table", "1", "--input", "3x8x8", *quick)
    assert refused.status == 2
    assert "--input has no effect" in refused.error
