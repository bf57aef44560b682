"""A study's search space widened: every finished run stays, Optuna goes on over the same
candidates.
"""

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState
from table_study import begin_in

import nas_attn as na
from nas_attn.attention.choice import INITS
from nas_attn.errors import PlacementError, StudyError
from nas_attn.recipe.reading import load_recipe, load_space
from nas_attn.searching.prepare import beginning
from nas_attn.searching.prepare.extending import extend
from nas_attn.searching.run import taking_part
from nas_attn.space.notation import parse
from nas_attn.space.search_space import resolve
from nas_attn.storage.opening import create_study, open_study
from nas_attn.storage.rows import Run

URL = "sqlite:///nas_attn.db"
WIDER = """
name = "wider"
sites = { positions = ["residual", "block"] }
choices = { se = { reduction = [2, 4, 8] }, eca = {}, simam = {}, gam = { reduction = 4, groups = 2 } }
"""
BLOCKS = """
name = "blocks"
sites = { granularity = "block" }
choices = { se = { reduction = [2] }, eca = {} }
"""


def silent(line: str) -> None: ...


def loaded() -> optuna.Study:
    return optuna.load_study(study_name="table", storage=URL)


def calls(folder: Path) -> Counter[str]:
    return Counter(
        line.rpartition("|")[0] for line in (folder / "calls.txt").read_text().splitlines()
    )


@pytest.fixture(scope="module")
def searched_once(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a finished search of seven candidates, which no test changes."""
    folder = tmp_path_factory.mktemp("searched")
    with pytest.MonkeyPatch.context() as patch:
        begin_in(folder, patch)
        na.search(
            "table.toml",
            trials=7,
            try_placements=["stage2.block1@block=eca"],
            overrides={"search.confirm_seeds": 0},
            say=silent,
        )
    return folder


@pytest.fixture
def searched(table: Path, searched_once: Path) -> Path:
    """The working folder, with that search and two other spaces."""
    shutil.copytree(searched_once, table, dirs_exist_ok=True)
    (table / "wider.toml").write_text(textwrap.dedent(WIDER))
    (table / "blocks.toml").write_text(textwrap.dedent(BLOCKS))
    return table


def test_the_search_goes_on_in_the_wider_space_and_repeats_nothing(searched: Path, nas) -> None:
    before = {view.key: view for view in na.open_study().candidates()}
    said = nas("extend", "--space", "wider.toml", "--trials", "13", "--dry-run", "--json").json
    assert said["trials"] == [7, 13]
    assert said["inside"] + said["outside"] == len(before) == 7
    assert said["removed"] == {}, "the same choices under other names"
    assert said["outside"] == 0, "stage2.block1@block is all of stage2's only block"
    assert "@block=gam(reduction=4, groups=2)" in said["added"]["stage1"]
    assert said["baselines"] == ["uniform gam(reduction=4, groups=2)"]
    assert not any(name.startswith("table~") for name in optuna.get_all_study_names(URL)), (
        "a dry run writes nothing"
    )
    done = nas("extend", "--space", "wider.toml", "--trials", "13")
    assert "candidates in all: 7 -> 13" in done.out
    assert "nas-attn resume table" in done.out
    for arguments in (("status",), ("report",), ("show",), ("resume", "--workers", "1")):
        ended = nas(*arguments)
        assert ended.status == 0, ended.err
    now = {view.key: view for view in na.open_study().candidates()}
    assert len(now) == 13
    assert max(calls(searched).values()) == 1, "a finished run was repeated"
    assert {key: now[key].trial for key in before} == {
        key: view.trial for key, view in before.items()
    }
    assert "uniform gam(reduction=4, groups=2)" in {view.baseline for view in now.values()}
    assert any(
        "@block" in str(view.placement) or "gam" in str(view.placement)
        for view in now.values()
        if not view.baseline
    )
    trials = loaded().trials
    assert [t.number for t in trials] == list(range(len(trials)))
    for view in now.values():
        assert trials[view.trial].user_attrs["placement"] == str(view.placement)
        assert trials[view.trial].state.is_finished()
    assert len({frozenset(t.distributions.items()) for t in trials if t.params}) == 1, (
        "one space for all of them"
    )
    assert optuna.get_all_study_names(URL) == ["table"]


def test_a_study_with_runs_of_the_target_is_widened_too(table: Path, nas) -> None:
    """Its runs from scratch begin with the attention as published, whatever the search's own do:
    other networks, by key.
    """
    opened = create_study(load_recipe("table.toml"), URL)
    (table / "wider.toml").write_text(WIDER)
    other = next(init for init in INITS if init != opened.recipe.training.init)
    text, sites = (
        "stage1=se(reduction=4)",
        beginning.plan_recipe(opened.recipe, store=opened.store).sites,
    )
    opened.store.queue.want(
        [
            Run(
                resolve(parse(text), sites, init=other).key,
                parse(text),
                7,
                0,
                "a protocol",
                "retrain",
                40,
            )
        ]
    )
    assert nas("extend", "--space", "wider.toml", "--trials", "20", "--dry-run", "--json").json[
        "trials"
    ] == [14, 20]


def test_what_the_new_space_does_not_hold_is_kept_without_parameters(searched: Path) -> None:
    study = na.open_study()
    told = [trial.values for trial in loaded().trials]
    found = study.extend("blocks.toml", trials=9)
    assert found.outside > 0
    assert [trial.values for trial in loaded().trials] == told
    outside = [
        t
        for t in loaded().trials
        if t.state in (TrialState.COMPLETE, TrialState.PRUNED) and not t.params
    ]
    assert len(outside) == found.outside
    assert study.recipe.space.name == "blocks"
    na.search(study.recipe, say=silent)
    assert len(study.candidates()) == 9
    assert max(calls(searched).values()) == 1
    study.extend(load_space("wider.toml"), trials=10)
    assert all(t.params for t in loaded().trials[:7]), "and it is back inside"


def test_a_trial_under_way_goes_on_in_the_new_space(table: Path) -> None:
    stop = threading.Event()
    recipe = load_recipe("table.toml", overrides={"search.confirm_seeds": 0})
    opened = create_study(recipe, URL)

    def say(line: str) -> None:
        if line.startswith("trial 3"):
            stop.set()

    taking_part.work(opened, taking_part.Options(say=say, stop=stop))
    waiting = opened.book.study.ask()  # and its worker dies
    (table / "wider.toml").write_text(WIDER)
    with pytest.raises(StudyError, match=r"4 candidates .*'table'"):
        extend(opened, load_space("wider.toml"), trials=4)
    extend(opened, load_space("wider.toml"), trials=7)
    opened = open_study("table", URL)
    assert loaded().trials[waiting.number].state in (TrialState.WAITING, TrialState.FAIL)
    assert taking_part.work(opened, taking_part.Options(say=silent)) == "complete"
    assert sum(t.state in (TrialState.COMPLETE, TrialState.PRUNED) for t in loaded().trials) == 7
    assert max(calls(table).values()) == 1


@pytest.mark.slow
def test_killed_half_way_it_leaves_the_old_or_the_new(searched: Path, nas) -> None:
    program = (
        "import os, signal, sys\n"
        "from nas_attn.recipe.reading import load_space\n"
        "from nas_attn.searching.prepare import extending\n"
        "from nas_attn.storage.opening import open_study\n"
        "opened, left = open_study('table'), int(sys.argv[1])\n"
        "def dying(*arguments, do=extending._translated):\n"
        "    global left\n"
        "    left -= 1\n"
        "    if not left: os.kill(os.getpid(), signal.SIGKILL)\n"
        "    return do(*arguments)\n"
        "extending._translated = dying\n"
        "extending.extend(opened, load_space('wider.toml'), trials=14)\n"
    )
    for after in (1, 5):
        done = subprocess.run([sys.executable, "-c", program, str(after)], check=False)
        assert done.returncode == -signal.SIGKILL
        assert open_study("table").recipe.space.name == "table"
        assert len(loaded().trials) == 7
    assert nas("resume", "--trials", "8", "--workers", "1").status == 0, "the old one goes on"
    assert nas("extend", "--space", "wider.toml", "--trials", "11").status == 0
    assert optuna.get_all_study_names(URL) == ["table"], "nothing is left of the attempts"
    assert nas("resume", "--workers", "1").status == 0
    assert len(na.open_study().candidates()) == 11
    assert max(calls(searched).values()) == 1


@pytest.mark.slow
def test_nobody_is_extended_under(searched: Path, nas, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.5")
    process = subprocess.Popen(
        [sys.executable, "-m", "nas_attn.cli.main", "resume", "--trials", "40", "--workers", "1"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    deadline = time.monotonic() + 60
    store = open_study("table").store
    while not any(
        lease.state == "held" and lease.resource.startswith("run/") for lease in store.leases()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    refused = nas("extend", "--space", "wider.toml")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    assert refused.status == 2
    assert "workers" in refused.error
    late = open_study("table")
    assert nas("extend", "--space", "wider.toml").status == 0, "a dead worker's leases do not count"
    with pytest.raises(StudyError, match=r"'table' .*extended"):
        taking_part.work(late, taking_part.Options(say=silent))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('name = "x"\nchoices = { nothing = {} }', "unknown attention type 'nothing'"),
        ('name = "x"\nchoices = { se = {} }\nsites = { include = ["stage9"] }', "leaves no site"),
    ],
)
def test_wrong_spaces_are_one_sentence(table: Path, nas, text: str, message: str) -> None:
    create_study(load_recipe("table.toml"), URL)
    (table / "new.toml").write_text(text)
    ended = nas("extend", "--space", "new.toml")
    assert ended.status == 2
    assert message in ended.error


def test_the_same_space_and_lost_sites_are_refused(table: Path) -> None:
    own = (
        'space = { name = "own", sites = { custom = { neck = ["layer2.0.conv1"] } , include = ["*"]'
        " }, choices = { eca = {} } }"
    )
    recipe = (table / "table.toml").read_text()
    old = next(line for line in recipe.splitlines() if line.startswith("space"))
    (table / "table.toml").write_text(recipe.replace(old, own))
    few = {"search.trials": 2, "search.baselines": "bare", "search.confirm_seeds": 0}
    study = na.search("table.toml", overrides=few, say=silent, try_placements=["neck=eca"])
    with pytest.raises(StudyError, match="this search space"):
        study.extend(study.recipe.space)
    (table / "wider.toml").write_text(WIDER)
    with pytest.raises(PlacementError, match=r"sites\.custom"):
        study.extend("wider.toml")


@pytest.mark.slow
def test_on_postgresql_too(table: Path, postgres_url: str) -> None:
    study = na.search("table.toml", storage=postgres_url, name="wide", trials=6, say=silent)
    (table / "wider.toml").write_text(WIDER)
    assert study.extend("wider.toml", trials=9).inside == 6
    na.search(study.recipe, storage=postgres_url, say=silent)
    assert len(study.candidates()) == 9
    assert max(calls(table).values()) == 1
