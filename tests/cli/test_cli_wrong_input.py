"""Whatever a user may get wrong is one sentence with exit status 2, and leaves nothing behind."""

import re
from pathlib import Path

import pytest

CHOICES = "se = { reduction = [2, 4] }"
EVALUATOR = "table_evaluator:evaluate"
FACTORY = """
def raises():
    raise RuntimeError("no weights here")

def number():
    return 3
"""


def change(folder: Path, old: str, new: str) -> None:
    path = folder / "table.toml"
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        (CHOICES, "see = {}", "unknown attention type 'see': did you mean 'se'?"),
        ("width = 8", "wdth = 8", "table.toml: unknown key 'backbone.wdth': did you mean 'width'?"),
        ("width = 8", "width = = 8", "table.toml is not valid TOML"),
        (
            "width = 8",
            "width = -8",
            "backbone.width: input should be greater than or equal to 1, not -8",
        ),
        (
            '"resnet8", width = 8',
            '"resnet8(width=8)", options = 3',
            "backbone.options: input should be a valid dict",
        ),
        (
            '"resnet8", width = 8',
            '"resnet8(width=8"',
            "cannot read 'resnet8(width=8' at backbone.name",
        ),
        ('"resnet8"', '"resnet9"', "unknown backbone 'resnet9': did you mean 'resnet8'?"),
        (EVALUATOR, "table_evaluator:evaluat", "has no 'evaluat': did you mean 'evaluate'?"),
        (
            EVALUATOR,
            "broken:evaluate",
            "importing 'broken' failed with ZeroDivisionError: division by zero",
        ),
        (EVALUATOR, "table_evaluator:WORTH", "is not callable"),
        ('name = "resnet8", width = 8', 'name = "factory:raises"', "RuntimeError: no weights here"),
        (
            'name = "resnet8", width = 8',
            'name = "factory:number"',
            "returned a int, not a torch.nn.Module",
        ),
        ('name = "external"', 'name = "folder:/nope"', "image folder '/nope' does not exist"),
        (
            'name = "external"',
            'name = "foldr:/nope"',
            "data.name = 'foldr:/nope': 'foldr:' is not known before a path: did you mean 'folder'?",
        ),
        (
            'name = "external"',
            'name = "mnist", validation = 1.5',
            "fractional part, or less than or equal to 1, not 1.5",
        ),
        (
            'name = "external"',
            'name = "cifer10"',
            "unknown data set 'cifer10': did you mean 'cifar10'?",
        ),
    ],
)
def test_a_wrong_recipe(table: Path, nas, old: str, new: str, words: str) -> None:
    (table / "broken.py").write_text("1 / 0")
    (table / "factory.py").write_text(FACTORY)
    change(table, old, new)
    ended = nas("search", "table.toml")
    assert ended.status == 2
    assert words in ended.error
    assert not list(table.glob("nas_attn*"))


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (
            ["--placement", "stage1=se(reduction=16)"],
            "reduction=16 leaves less than 1 of 8 channels",
        ),
        (["--placement", "stage9=se"], "unknown site 'stage9'"),
        (["--set", "foo"], "--set 'foo'"),
        (["--set", "limits.max_latency_ratio=0.9"], "max_latency_ratio = 0.9"),
        (["--set", "search.trails=3"], "unknown key 'search.trails': did you mean 'trials'?"),
        (["--set", "training.epochs=5"], "'training.epochs': did you mean 'target.epochs'?"),
        (["--set", "name.x=1"], "'name' is not a section"),
        (["--device", "gpu9"], "unknown device 'gpu9': give auto, cpu, cuda or cuda:1"),
        (["--device", "cuda:99"], "device 'cuda:99'"),
        (["--storage", "sqlite:////nope/x.db"], "the folder '/nope' does not exist"),
        (["--storage", "sqlite:///table.toml"], "is not an SQLite database"),
        (["--storage", "mysql://x/y"], "no database of the two kinds"),
        (["--storage", "study.db"], "for a file write sqlite:///study.db"),
    ],
)
def test_wrong_options(table: Path, nas, arguments: list[str], words: str) -> None:
    before = (table / "table.toml").read_text()
    ended = nas("search", "table.toml", *arguments)
    assert ended.status == 2
    assert words in ended.error
    assert not list(table.glob("nas_attn*"))
    assert (table / "table.toml").read_text() == before


def test_objectives_that_the_trainer_does_not_have(table: Path, nas) -> None:
    change(table, f'evaluator = "{EVALUATOR}"\n', "")
    change(table, '"score", "-effort"', '"-accuracy"')
    ended = nas("search", "table.toml")
    assert ended.status == 2
    assert "'-accuracy'" in ended.error
    assert not list(table.glob("nas_attn*"))


def test_an_objective_that_the_evaluator_does_not_return_stops_the_search_at_once(
    table: Path, nas
) -> None:
    change(table, '"score", "-effort"', '"scor"')
    ended = nas("search", "table.toml", "--workers", "1")
    assert ended.status == 2
    assert re.search(rf"objectives .*'scor'.*{EVALUATOR} .*'score'\?", ended.error)
    assert len((table / "calls.txt").read_text().splitlines()) == 1
    counts = nas("status", "table", "--json").json
    assert (counts["failed"], counts["finished"]) == (0, 0)
    shown = nas("--debug", "resume", "--workers", "1")
    assert shown.status == 2
    assert "Traceback" in shown.err


def test_what_cannot_be_recorded_or_written_does_not_spoil_a_study(table: Path, nas) -> None:
    ended = nas("search", "table.toml", "--artifacts", "table.toml/below")
    assert ended.status == 2
    assert f"{table / 'table.toml' / 'below'}" in ended.error
    once = ["table.toml", "--workers", "1", "--trials", "1", "--artifacts", "fine"]
    ended = nas("search", *once, "--report", "table.toml/x.html")
    assert ended.status == 2
    assert "x.html" in ended.error
    assert "the front (*)" in ended.out, "the answer is not hidden"
    ended = nas("search", "table.toml", "--trials", "2")
    assert ended.status == 2
    assert "search.trials: 1 -> 2" in ended.error
    assert nas("status", "--json").json[0]["candidates"] == {"scored": 1}


@pytest.mark.parametrize("command", ["status", "resume", "worker", "export"])
def test_without_a_database_nothing_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, command: str
) -> None:
    monkeypatch.chdir(tmp_path)
    for arguments in ([command], [command, "name"]):
        ended = nas(*arguments)
        assert ended.status == 2
        assert "no study database" in ended.error
    assert not list(tmp_path.iterdir())


STUDIES = Path(__file__).resolve().parents[2] / "studies"


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["search", "nosuch.toml"], "recipe file 'nosuch.toml' does not exist"),
        (
            ["search", "cifar10-resnet20", "--set", "data.root=empty"],
            "data set 'cifar10' is not whole at 'empty",
        ),
        (
            ["search", "digits", "--set", "space=smal", "--dry-run"],
            "unknown search space 'smal': did you mean 'small'?",
        ),
        (
            ["search", "digits", "--set", f"space={STUDIES / 'digits.toml'}", "--dry-run"],
            "digits.toml is a recipe, not a search space: its space is",
        ),
        (["search", "x" * 300 + ".toml"], "cannot be a file: File name too long"),
        (["sites", "resnet9"], "unknown backbone 'resnet9': did you mean 'resnet8'?"),
        (["sites", ""], "backbone: name: string should have at least 1 character"),
        (["sites", "torchvision:resnet1888"], "unknown torchvision model 'resnet1888'"),
        (["sites", "resnet8", "--input", "0x3x3"], "--input '0x3x3'"),
        (["modules", "sse"], "unknown attention type 'sse': did you mean 'se'?"),
        (
            ["modules", "se", "--channels", "4", "--set", "reduction=16"],
            "leaves less than 1 of 4 channels",
        ),
    ],
)
def test_other_commands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, nas, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if "cifar10-resnet20" in arguments:  # no network here, whatever the machine has
        for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, "http://127.0.0.1:9")
    ended = nas(*arguments)
    assert ended.status == 2
    assert words in ended.error
    assert len(ended.error) <= len("error: ") + 600
    assert [path.name for path in tmp_path.iterdir()] in ([], ["empty"])


def test_a_cuda_graph_on_a_cpu(table: Path, nas) -> None:
    change(table, "rungs = [1, 2]", 'rungs = [1, 2]\nexecution = "cuda-graph"')
    ended = nas("search", "table.toml", "--device", "cpu")
    assert ended.status == 2
    assert "training.execution = 'cuda-graph'" in ended.error
    assert not list(table.glob("nas_attn*"))


def test_a_name_too_long_for_files_is_refused_before_anything_is_written(table: Path, nas) -> None:
    ended = nas("search", "table.toml", "--name", "n" * 252)
    assert (ended.status, "at most 200" in ended.error) == (2, True)
    assert not (table / "nas_attn.db").exists()
