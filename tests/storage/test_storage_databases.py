"""A database that is full, gone or broken, met by Optuna's storage: the same sentences as where
ours meets it.
"""

import gc
import shutil
import sqlite3
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import optuna
import pytest
from command_line import Nas

from nas_attn.errors import StorageError, StudyError
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.storage.database import Database
from nas_attn.storage.opening import OpenStudy, create_study, open_study, versions

URL = "sqlite:///nas_attn.db"
ACTIONS: dict[str, Callable[[OpenStudy], object]] = {
    "ask": lambda opened: opened.book.ask({}),
    "tell": lambda opened: opened.book.tell(0, None, {"name": "x" * 2000}),
    "trials": lambda opened: opened.book.all(),
    "open": lambda opened: open_study("table", opened.url),
}


def messages(opened: OpenStudy) -> dict[str, str]:
    """Action -> what it says."""
    found = {}
    for name, action in ACTIONS.items():
        with pytest.raises((StorageError, StudyError)) as error:
            action(opened)
        found[name] = str(error.value)
        assert "\n" not in found[name]
    return found


def study() -> OpenStudy:
    opened = create_study(load_recipe("table.toml"), URL)
    opened.book.ask({})
    return opened


def test_what_optuna_is_used_for_it_does_not_say(
    table: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """In a user's own Python, whose level of Optuna's log stays as it was."""
    before = optuna.logging.get_verbosity()
    optuna.logging.enable_propagation()
    try:
        optuna.logging.set_verbosity(optuna.logging.INFO)
        for _ in range(2):
            beginning.begin(load_recipe("table.toml"), URL)
        assert optuna.logging.get_verbosity() == optuna.logging.INFO
    finally:
        optuna.logging.set_verbosity(before)
        optuna.logging.disable_propagation()
    assert [
        record.getMessage() for record in caplog.records if record.name.startswith("optuna")
    ] == []


def test_a_study_knows_the_version_of_its_backbones_package(table: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed")
    own = versions(
        load_recipe(
            "table.toml", overrides={"backbone.name": "timm:resnet18", "backbone.width": None}
        )
    )
    assert own["timm"] == timm.__version__
    assert "timm" not in versions(load_recipe("table.toml"))


def test_tables_that_are_gone(table: Path) -> None:
    opened = study()
    with sqlite3.connect("nas_attn.db") as database:
        for name in ("trials", "nas_study"):
            database.execute(f"DROP TABLE {name}")
    database.close()
    for action in ("ask", "trials", "open"):
        with pytest.raises(StorageError, match=r"no such table: .*put it back") as error:
            ACTIONS[action](opened)
        assert "\n" not in str(error.value)


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_a_plain_optuna_study_of_the_same_name_is_refused_and_left_alone(
    table: Path, directions: list[str]
) -> None:
    own = optuna.create_study(study_name="table", storage=URL, directions=directions)  # type: ignore[arg-type]
    own.tell(own.ask(), [0.5] * len(directions))
    for _ in range(2):
        with pytest.raises(StudyError, match="--name"):
            beginning.begin(load_recipe("table.toml"), URL)
    assert Database(URL).studies() == []
    kept = optuna.load_study(study_name="table", storage=URL)
    assert [trial.values for trial in kept.trials] == [[0.5] * len(directions)]
    assert kept.user_attrs == kept._storage.get_study_system_attrs(kept._study_id) == {}


def test_a_plain_study_that_took_the_name_later_is_not_joined(table: Path) -> None:
    study()
    optuna.delete_study(study_name="table", storage=URL)
    own = optuna.create_study(study_name="table", storage=URL, directions=["maximize", "minimize"])
    own.tell(own.ask(), [0.5, 0.5])
    with pytest.raises(StudyError, match="--name"):
        beginning.take_up(open_study("table", URL))
    assert len(optuna.load_study(study_name="table", storage=URL).trials) == 1


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_an_empty_study_that_took_the_name_later_is_neither_joined_nor_deleted(
    table: Path, directions: list[str], nas: Nas
) -> None:
    few = load_recipe("table.toml", overrides={"search.trials": 2, "search.confirm_seeds": 0})
    opened = beginning.begin(few, URL)
    taking_part.work(opened, taking_part.Options(say=lambda line: None))
    opened.book.close()
    optuna.delete_study(study_name="table", storage=URL)
    own = optuna.create_study(study_name="table", storage=URL, directions=directions)  # type: ignore[arg-type]
    own.set_user_attr("mine", "yes")
    with pytest.raises(StudyError, match="--name"):
        beginning.take_up(open_study("table", URL))
    assert nas("delete", "table", "--yes").status == 0
    assert Database(URL).studies() == []
    kept = optuna.load_study(study_name="table", storage=URL)
    assert kept.user_attrs == {"mine": "yes"}
    assert kept.metric_names is None


def test_a_study_whose_making_was_cut_off_half_way_goes_on(table: Path) -> None:
    """Optuna's study is made, then gets the objectives' names."""
    recipe = load_recipe("table.toml")
    opened = beginning.begin(recipe, URL)
    opened.book.close()
    optuna.delete_study(study_name="table", storage=URL)
    optuna.create_study(study_name="table", storage=URL, directions=["maximize", "minimize"])
    beginning.take_up(open_study("table", URL))
    own = optuna.load_study(study_name="table", storage=URL)
    assert own.metric_names == list(recipe.objectives)
    assert own.trials, "the baselines wait there"


def test_a_study_that_optuna_has_deleted_ends_in_one_sentence(table: Path, nas: Nas) -> None:
    opened = beginning.begin(load_recipe("table.toml"), URL)
    lines: list[str] = []

    def say(line: str) -> None:
        lines.append(line)
        if len(lines) == 2:
            optuna.delete_study(study_name="table", storage=URL)

    with pytest.raises(StorageError, match="deleted from Optuna's tables") as error:
        taking_part.work(opened, taking_part.Options(say=say))
    assert "\n" not in str(error.value)
    shown = nas("status")
    assert shown.status == 0
    assert "running" not in shown.out
    assert "deleted" in shown.out
    assert nas("status", "--json").json[0]["lost"]
    assert all("deleted from Optuna's tables" in said for said in messages(opened).values())


@pytest.mark.parametrize("column", ["placement", "trial"])
def test_a_row_that_cannot_be_read(table: Path, column: str) -> None:
    recipe = load_recipe("table.toml", overrides={"search.trials": 1})
    opened = beginning.begin(recipe, URL)
    taking_part.work(opened, taking_part.Options(say=lambda line: None))
    with sqlite3.connect("nas_attn.db") as database:
        database.execute(f"UPDATE nas_candidate SET {column} = x'ff'")
    database.close()
    with pytest.raises(StorageError, match="from a backup"):
        opened.store.candidates()


@pytest.mark.parametrize("mistake", [KeyError, AttributeError, TypeError, ValueError])
def test_a_mistake_of_a_program_is_not_told_as_a_damaged_row(
    table: Path, mistake: type[Exception]
) -> None:
    opened = study()
    with pytest.raises(mistake), opened.database._connector.read():
        raise mistake("here")


@pytest.mark.parametrize("recipe", ["", "{}", "[" * 5000])
def test_a_recipe_that_cannot_be_read(table: Path, recipe: str) -> None:
    study()
    with sqlite3.connect("nas_attn.db") as database:
        database.execute("UPDATE nas_study SET recipe = ?", [recipe])
    database.close()
    with pytest.raises(StorageError, match="from a backup") as error:
        open_study("table", URL)
    assert "\n" not in str(error.value)


def test_a_file_that_was_removed_or_replaced_while_it_was_in_use(table: Path) -> None:
    """Open connections would go on in the file that has no name any more, and all of it would be
    lost in silence.
    """
    recipe = load_recipe("table.toml", overrides={"search.trials": 4})
    changes: list[Callable[[Path], object]] = [Path.unlink, _replace]
    for number, change in enumerate(changes):
        name = f"gone{number}"
        opened = beginning.begin(recipe.model_copy(update={"name": name}), f"sqlite:///{name}.db")

        def say(line: str, name: str = name, change: Callable[[Path], object] = change) -> None:
            if line.startswith("trial 1"):
                change(Path(f"{name}.db"))

        with pytest.raises(StorageError, match=r"replaced .*put it back"):
            taking_part.work(opened, taking_part.Options(say=say))


def _replace(path: Path) -> None:
    shutil.copy(path, "copy.db")
    Path("copy.db").rename(path)


@pytest.mark.filterwarnings(
    "ignore::pytest.PytestUnraisableExceptionWarning"
)  # connections that were cut
def test_a_server_that_does_not_answer(
    table: Path, private_server: ModuleType, open_folder: Path
) -> None:
    with private_server.PrivateServer(open_folder / "stopped", settings={"fsync": "off"}) as server:
        opened = create_study(load_recipe("table.toml"), server.url())
        opened.book.ask({})
    said = messages(opened)
    opened.database.close()
    opened.book.close()
    assert all("does not answer (" in sentence for sentence in said.values()), said
    assert all(sentence.endswith("resume") for sentence in said.values())
    del opened
    gc.collect()  # here, not in the middle of another test
