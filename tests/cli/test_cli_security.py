"""What an untrusted recipe, database or file cannot do: run code unasked, move the cursor, take the
memory, print a password.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from materials import photographs

from nas_attn.errors import RecipeError, StorageError, printable, without_passwords
from nas_attn.recipe.reading import load_recipe, load_space
from nas_attn.storage.database import Database
from nas_attn.storage.driver_errors import explained
from nas_attn.storage.urls import shown_url

RECIPE = """
name = "theirs"
space = "small"
[backbone]
name = "intruder:run"
[data]
name = "digits"
"""


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty current folder, beside which lies another user's."""
    (tmp_path / "here").mkdir()
    (tmp_path / "there").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.syspath_prepend(tmp_path / "there")
    monkeypatch.delitem(sys.modules, "intruder", raising=False)
    (tmp_path / "there" / "intruder.py").write_text("open('ran', 'w')\nrun = None\n")
    (tmp_path / "there" / "study.toml").write_text(RECIPE)
    return tmp_path / "here"


@pytest.mark.parametrize(
    "name", ["intruder:run", "intruder:run.x", "in-truder:run", "ultralytics:a.pt"]
)
def test_code_of_a_recipe_from_elsewhere_runs_only_when_trusted(here: Path, nas, name: str) -> None:
    theirs = here.parent / "there"
    (theirs / "study.toml").write_text(RECIPE.replace("intruder:run", name))
    (theirs / "in-truder.py").write_text((theirs / "intruder.py").read_text())
    command = ["search", "../there/study.toml", "--dry-run"]
    ended = nas(*command)
    assert ended.status == 2
    assert name in ended.error
    assert "--trust" in ended.error
    assert not (here / "ran").exists()
    assert nas(*command, "--trust").status != 0
    assert (here / "ran").exists() == name.endswith(("run", "run.x")), "then it is imported"


def test_code_of_a_space_from_elsewhere_runs_only_when_trusted(here: Path, nas) -> None:
    (here.parent / "there" / "space.toml").write_text(
        'name = "theirs"\n[choices]\n"intruder:run" = {}\n'
    )
    (here / "study.toml").write_text(
        RECIPE.replace("intruder:run", "resnet8").replace("small", "../there/space.toml")
    )
    refused = nas("search", "study.toml", "--dry-run")
    assert "'intruder:run': read it, then add --trust" in refused.error
    assert not (here / "ran").exists()
    nas(*["search", "study.toml", "--dry-run", "--trust"])
    assert (here / "ran").exists()


def test_a_recipe_of_the_current_folder_is_the_users_own(here: Path, nas) -> None:
    (here / "study.toml").write_text(RECIPE)
    ended = nas("search", "study.toml", "--dry-run")
    assert "--trust" not in ended.error
    assert (here / "ran").exists()


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:secret@db/x",
        "postgresql+psycopg://me@db/x?password=secret",
        "postgresql+psycopg://db/x?user=me&sslpassword=secret&connect_timeout=3",
        "nonsense?password=secret",
        "mysql+pymysql://db/x?passwd=secret&a=b",
        "postgresql://me:half@secret@127.0.0.1:1/x",
    ],
)
def test_no_password_of_a_url_is_shown(url: str) -> None:
    assert "secret" not in shown_url(url)
    assert "secret" not in without_passwords(f"cannot open {url}: no")
    with pytest.raises(Exception) as error:  # noqa: PT011 - whatever is wrong with it
        Database(url)
    assert "secret" not in str(error.value)


REFUSALS = """\
connection failed: connection to server at "db" failed: FATAL:  password authentication failed for user "me"
connection failed: connection to server at "db" failed: FATAL:  database "x" does not exist
connection failed: connection to server at "db" failed: FATAL:  role "me" is not permitted to log in
connection failed: connection to server at "db" failed: SSL error: certificate verify failed
connection failed: connection to server at "db" failed: server does not support SSL, but SSL was required
connection failed: connection to server at "db" failed: root certificate file "/ca.pem" does not exist
invalid connection option "Password"
"""


@pytest.mark.parametrize("said", REFUSALS.splitlines())
def test_a_server_that_refuses_is_not_waited_for(said: str) -> None:
    found = explained(ConnectionError(said), "postgresql://me:***@db/x")
    assert type(found) is StorageError
    assert "does not answer" not in str(found)


def test_a_host_that_does_not_resolve_is_waited_for_and_named(
    here: Path, nas, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may get its name when its service starts, as in Kubernetes."""
    pytest.importorskip("psycopg", reason="psycopg is not installed (extra `postgres`)")
    monkeypatch.setattr("nas_attn.storage.outages.UNREPORTED_S", 0.0)
    monkeypatch.setenv("NAS_ATTN_STORAGE_WAIT", "0.5")
    ended = nas("search", "digits", "--storage", "postgresql://me:secret@name.invalid/x")
    assert "'postgresql+psycopg://me:***@name.invalid/x'" in ended.err
    assert "NAS_ATTN_STORAGE_WAIT" in ended.error


def test_a_foreign_database_is_read_without_running_its_code_or_showing_its_escapes(
    here: Path, nas
) -> None:
    recipe = load_recipe(
        "digits", overrides={"backbone.name": "intruder:run", "search.sampler": "intruder:run"}
    )
    with Database("sqlite:///nas_attn.db") as database:
        database.create_study("evil", recipe=recipe.to_json(), versions={})
        with database._connector.write() as connection:
            theirs = ("evil\x1b]0;owned\x07\x1b[2J", str(here / "made"))
            connection.exec_driver_sql("UPDATE nas_study SET name = ?, artifacts = ?", theirs)
    for command in (
        "status",
        "show --why",
        "effects",
        "report",
        "clean --dry-run",
        "backup copy.db",
    ):
        ended = nas(*command.split())
        assert not {"\x1b", "\x07"} & set(ended.out + ended.err)
        assert not (here / "ran").exists(), command
        assert not (here / "made").exists(), "reading makes no folder"
    assert printable("a\x1b[2Jb\n") == "a\\x1b[2Jb\n"
    there = here.parent / "there"
    Database("sqlite:///nas_attn.db").stores()[0].set(
        artifacts=str(there)
    )  # a folder with nothing of the study
    assert (nas("backup", "copy.db", "--force").status, (here / "copy.artifacts").exists()) == (
        0,
        False,
    )
    (here / "copy.db").rename(there / "nas_attn.db")
    own = ("export", "report --placement stage1=eca", "show --placement stage1=eca")
    for command in (
        "resume",
        "worker",
        "test",
        "retrain",
        *own,
        "search --from",
        "measure",
    ):
        ended = nas(
            *command.split(),
            *theirs[: int(command in ("search --from", "measure"))],
            "--storage",
            "sqlite:///../there/nas_attn.db",
        )
        assert "'intruder:run': read it, then add --trust" in ended.error, command
    assert not (here / "ran").exists()


# each is a process that loads torch
@pytest.mark.parametrize("encoding", ["ascii", pytest.param("cp1252", marks=pytest.mark.slow)])
def test_a_terminal_that_knows_few_letters_is_no_error(here: Path, encoding: str) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    command = [sys.executable, "-m", "nas_attn.cli.main", "modules", "Größe注"]
    ended = subprocess.run(command, capture_output=True, check=False, env=environment)
    assert ended.returncode == 2, ended.stderr
    assert b"UnicodeEncodeError" not in ended.stderr


@pytest.mark.parametrize("choices", ["cbam = { reduction = [] }", "cbam = []"])
def test_a_knob_without_values_is_one_sentence(here: Path, choices: str) -> None:
    (here / "space.toml").write_text(f'name = "x"\n[choices]\n{choices}\n')
    with pytest.raises(RecipeError, match=r"choices\.cbam"):
        load_space("space.toml")


def test_init_looks_at_the_images_and_the_backbone(here: Path, nas) -> None:
    def init(data: str, *more: str):
        return nas("init", "--force", "--data", data, "--backbone", "resnet8", *more)

    ended = init("folder:photos")
    assert (ended.status, "photos" in ended.error) == (2, True)
    photographs(here / "photos", of_each=9)
    shutil.copytree(here / "photos" / "cat", here / "one" / "cat")
    assert "at least two" in init("folder:one").error
    photographs(here / "few", of_each=1)
    assert "'cat'" in init("folder:few").error
    assert init("folder:one", "--backbone", "resnet21").status == 2
    assert not (here / "study.toml").exists()
    (here / "photos" / "cat" / "broken.jpg").write_bytes(b"no image")
    assert "3 classes, 28 images, 1 unreadable" in init("folder:photos").out


MODEL = "nc: 4\nbackbone:\n  - [-1, 1, Conv, [16, 3, 2]]\nhead:\n  - [[0], 1, Detect, [nc]]\n"
DATA = "path: .\ntrain: images\nval: images\nnames: [one]\n"


@pytest.mark.parametrize(("kind", "text"), [("ultralytics", MODEL), ("yolo", DATA)])
@pytest.mark.parametrize("whose", ["theirs", "mine"])
def test_a_yaml_from_elsewhere_which_ultralytics_executes_needs_trust(
    here: Path, nas, kind: str, text: str, whose: str
) -> None:
    (here.parent / "there" / "it.yaml").write_text(text)
    name = f"{kind}:../there/it.yaml"
    backbone = name if kind == "ultralytics" else "ultralytics:yolo11n.yaml"
    recipe = RECIPE.replace("intruder:run", backbone)
    recipe = recipe.replace('"digits"', f'"{name}"') if kind == "yolo" else recipe
    path = here / "study.toml" if whose == "mine" else here.parent / "there" / "study.toml"
    path.write_text(f'{recipe}\n[task]\nname = "detection"\n')
    ended = nas("search", os.path.relpath(path), "--dry-run", "--set", "data.size=64")
    assert ended.status == 2, ended
    assert "--trust" in ended.err
    assert not (here / "ran").exists()


@pytest.mark.parametrize(
    ("section", "named"),
    [
        ('[training]\nloss = { name = "timm:create_model" }', "timm:create_model"),
        ('[training]\noptimizer = "ultralytics:YOLO"', "ultralytics:YOLO"),
        ('[training]\naugment = [{ name = "torch:hub", weights = "x:y" }]', "torch:hub"),
        ('[backbone.options]\nrepo = "torch.hub:load"', "torch.hub:load"),
        ('[backbone.options]\ncheckpoint_path = "x.pth"', "x.pth"),
        ('[backbone.options.pretrained_cfg]\nfile = "x.pth"', "x.pth"),
        ('[backbone.options.pretrained_cfg_overlay]\nfile = "x.pth"', "x.pth"),
        ('[search]\nsampler = "timm:sampler"', "timm:sampler"),
    ],
)
def test_a_name_that_is_harmless_elsewhere_is_code_in_other_settings(
    here: Path, nas, section: str, named: str
) -> None:
    theirs = here.parent / "there" / "study.toml"
    theirs.write_text(f"{RECIPE.replace('intruder:run', 'timm:resnet10t')}\n{section}\n")
    ended = nas("search", "../there/study.toml", "--dry-run")
    assert (ended.status, f"'{named}'" in ended.error, "--trust" in ended.error) == (2, True, True)


@pytest.mark.parametrize(
    "name",
    [
        "timm:hf-hub:someone/net",
        "timm:local-dir:net",
        "smp:unet/tu-hf-hub:someone/net",
        "ultralytics:../x/y.yaml",
        "ultralytics:https://example.org/y.yaml",
        "folder:run",
        "yolo:run",
    ],
)
def test_a_backbone_from_a_hub_a_folder_or_the_network_needs_trust(
    here: Path, nas, name: str
) -> None:
    (here.parent / "there" / "study.toml").write_text(RECIPE.replace("intruder:run", name))
    assert "--trust" in nas("search", "../there/study.toml", "--dry-run").error


@pytest.mark.parametrize("name", ["timm:create_model", "torchvision:x", "datasets:load_dataset"])
def test_a_data_set_of_another_package_needs_trust(here: Path, nas, name: str) -> None:
    theirs = RECIPE.replace("intruder:run", "resnet8").replace('"digits"', f'"{name}"')
    (here.parent / "there" / "study.toml").write_text(theirs)
    assert f"'{name}'" in nas("search", "../there/study.toml", "--dry-run").error


def test_a_published_preset_in_a_foreign_recipe_is_harmless(here: Path, nas) -> None:
    pytest.importorskip("timm", reason="timm is not installed (extra `timm`)")
    theirs = RECIPE.replace("intruder:run", "resnet8") + '[training]\npreset = "timm-a3"\n'
    (here.parent / "there" / "study.toml").write_text(theirs)
    assert "--trust" not in nas("search", "../there/study.toml", "--dry-run").err


def test_placements_and_protocols_of_a_foreign_database_are_code_too(here: Path, nas) -> None:
    recipe = load_recipe("digits")
    protocol = '{"training": {"evaluator": "intruder:run"}, "data": {}}'
    changes = {
        "placements": "UPDATE nas_run SET placement = 'stage1=intruder:run'",
        "backbones": "UPDATE nas_run SET placement = 'backbone=intruder:run'",
        "protocols": f"UPDATE nas_document SET content = '{protocol}' WHERE kind = 'protocol'",
    }
    with Database("sqlite:///nas_attn.db") as database:
        store = database.create_study("evil", recipe=recipe.to_json(), versions={})
        store.protocols.put("own-1", "{}")
    there = here.parent / "there" / "nas_attn.db"
    for change in changes.values():
        with (
            Database("sqlite:///nas_attn.db") as database,
            database._connector.write() as connection,
        ):
            connection.exec_driver_sql(
                "INSERT INTO nas_run (key, placement, protocol, purpose, state, reason, seed,"
                " study_id, backbone, round, priority, attempts) VALUES"
                " ('k', 'none', 'search', 'search', 'waiting', '', 0, 1, 0, 0, 0, 0)"
                " ON CONFLICT DO NOTHING"
            )
            connection.exec_driver_sql(change)
        shutil.copy(here / "nas_attn.db", there)
        for command in ("resume", "export", "measure evil"):
            ended = nas(*command.split(), "--storage", "sqlite:///../there/nas_attn.db")
            assert "'intruder:run': read it, then add --trust" in ended.error, (command, change)
    assert not (here / "ran").exists()


@pytest.mark.parametrize("typed", ["backbone", "data"])
def test_init_runs_no_code_of_a_file_from_elsewhere(here: Path, nas, typed: str) -> None:
    model = f"{MODEL}activation: \"open('ran', 'w')\"\n"
    data = f"{DATA}download: \"open('ran', 'w')\"\n"
    (here.parent / "there" / "it.yaml").write_text(model if typed == "backbone" else data)
    kind = "ultralytics" if typed == "backbone" else "yolo"
    command = ["init", "--task", "detection", f"--{typed}", f"{kind}:../there/it.yaml"]
    ended = nas(*command)
    assert (ended.status, "add --trust" in ended.error) == (2, True)
    assert not (here / "study.toml").exists()
    assert "--trust" not in nas(*command, "--trust").err


OVERLOOKED = {
    "backbone": ('{ name = "resnet8", width = 4 }', '{ name = "intruder:run" }'),
    "data": ("digits-8x8", "intruder:run"),
    "module": ("{ se = {} }", '{ "intruder:run" = {} }'),
    "objective": ('"params"]', '"intruder:run"]'),
    "optimizer": ("rungs = [1]", 'optimizer = "intruder:run"'),
    "loss": ("rungs = [1]", 'loss = { name = "intruder:run" }'),
    "augment": ("rungs = [1]", 'augment = [{ name = "intruder:run" }]'),
    "evaluator": ("rungs = [1]", 'evaluator = "intruder:run"'),
}
"""Setting -> what of `TINY` is replaced, and by what."""
TINY = """
name = "theirs"
objectives = ["accuracy", "params"]
space = { name = "x", choices = { se = {} } }
backbone = { name = "resnet8", width = 4 }
search = { trials = 1, confirm_seeds = 0 }
data = { name = "digits-8x8", train_subset = 64 }
training = { rungs = [1] }
"""


@pytest.mark.parametrize("setting", OVERLOOKED)
def test_code_that_was_overlooked_in_a_foreign_recipe_does_not_run_either(
    here: Path, nas, monkeypatch: pytest.MonkeyPatch, setting: str
) -> None:
    """Nothing is found in the recipe; what it names is refused when it is to be imported."""
    monkeypatch.setattr("nas_attn.cli.trust._named", lambda text, at: [])
    (here.parent / "there" / "study.toml").write_text(TINY.replace(*OVERLOOKED[setting]))
    ended = nas("search", "../there/study.toml", "--dry-run")
    assert "': read it, then add --trust" in ended.error
    assert not (here / "ran").exists()
