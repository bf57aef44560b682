"""Importing the package and asking for help load neither torch nor Optuna."""

from __future__ import annotations

import subprocess
import sys

import pytest

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
        "from nas_attn.cli.main import main\n"
        f"sys.argv = ['nas-attn', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit as end:\n    assert not end.code, end.code"
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
    code = "from nas_attn import records, recipe, space, storage, analysis, report\n"
    assert not loaded(f"{code}from nas_attn.study import opening, reading, keeping") & {
        "torch",
        "torchvision",
    }


def test_what_the_package_offers() -> None:
    import nas_attn

    for name in nas_attn.__all__:
        assert getattr(nas_attn, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'serach'"):
        nas_attn.serach  # noqa: B018
