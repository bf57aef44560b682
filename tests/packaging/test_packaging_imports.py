"""Importing the package and asking for help load neither torch nor Optuna."""

from __future__ import annotations

import ast
import subprocess
import sys
import tarfile
import typing
from pathlib import Path

import pytest

REAL = Path(__file__).parents[1] / "pins" / "real.tar.xz"
HEAVY = {"torch", "torchvision", "optuna", "sklearn", "plotly", "sqlalchemy", "pydantic"}


def loaded(code: str) -> set[str]:
    """Names of the modules that are loaded after a piece of Python."""
    script = f"import sys\n{code}\nprint('\\n' + ' '.join(sys.modules))"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    return set(done.stdout.splitlines()[-1].split())


def run_command(*arguments: str) -> str:
    """Python that runs a command of `nas-attn` and goes on."""
    return (
        "from nas_attn.cli.main import program\n"
        f"sys.argv = ['nas-attn', *{arguments!r}]\n"
        "try:\n    program()\nexcept SystemExit as end:\n    assert not end.code, end.code"
    )


@pytest.mark.parametrize(
    "code",
    ["import nas_attn; dir(nas_attn); nas_attn.__version__", run_command("--help")],
    ids=["import", "--help"],
)
def test_nothing_heavy_is_loaded(code: str) -> None:
    assert not loaded(code) & HEAVY


def test_help_of_a_command_loads_little() -> None:
    assert not loaded(run_command("search", "--help")) & (
        HEAVY - {"pydantic"}
    )  # which typer may use


def test_packages_without_torch() -> None:
    code = (
        "from nas_attn.recipe import reading, recipe, tables\n"
        "from nas_attn.space import placement, search_space\n"
        "from nas_attn.storage import opening, store, trial_book\n"
        "from nas_attn.answer import reading, snapshot\n"
        "from nas_attn.searching import keeping\n"
        "from nas_attn import report\n"
    )
    assert not loaded(code) & {"torch", "torchvision"}


def test_looking_at_a_study_loads_no_torch(tmp_path: Path) -> None:
    """It would take two seconds more."""
    with tarfile.open(REAL) as archive:
        archive.extractall(tmp_path, filter="data")
    commands = "\n".join(run_command(name, "real") for name in ("status", "show", "effects"))
    code = f"import os\nos.chdir({str(tmp_path)!r})\n{commands}"
    assert not loaded(code) & {"torch", "torchvision"}


def test_what_the_package_offers() -> None:
    import nas_attn

    assert nas_attn.__all__ == sorted(nas_attn.__all__)
    assert len(set(nas_attn.__all__)) == len(nas_attn.__all__)
    assert dir(nas_attn) == nas_attn.__all__
    for name in nas_attn.__all__:
        assert getattr(nas_attn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        nas_attn.serach  # noqa: B018


def test_type_checkers_see_the_names_that_the_package_offers() -> None:
    import nas_attn

    tree = ast.parse(Path(nas_attn.__file__).read_text("utf-8"))
    imported = {
        name.asname or name.name
        for block in tree.body
        if isinstance(block, ast.If)
        for line in block.body
        if isinstance(line, ast.ImportFrom)
        for name in line.names
    }
    assert imported | {"__version__"} == set(nas_attn.__all__)


def ours(annotation: object) -> set[type]:
    """The classes of this package in an annotation."""
    found = {part for part in typing.get_args(annotation) if isinstance(part, type)}
    for part in typing.get_args(annotation):
        found |= ours(part)
    if isinstance(annotation, type):
        found.add(annotation)
    return {one for one in found if one.__module__.startswith("nas_attn")}


def test_what_public_calls_return_has_a_public_name() -> None:
    import plotly.graph_objects as go

    import nas_attn
    from nas_attn import api

    calls = [value for name in nas_attn.__all__ if callable(value := getattr(nas_attn, name))]
    calls += [
        value.fget if isinstance(value, property) else value
        for name, value in vars(nas_attn.Study).items()
        if not name.startswith("_")
    ]
    known = {getattr(nas_attn, name) for name in nas_attn.__all__ if name[0].isupper()}
    for call in calls:
        if not isinstance(call, type):
            hints = typing.get_type_hints(call, {**vars(api), "Figure": go.Figure})
            assert ours(hints.get("return")) <= known, call
