"""What an evaluator prints does not reach the terminal, unless it is asked for."""

from pathlib import Path

import pytest

import nas_attn as na

TALKS = """
import os, subprocess

def evaluate(model, run):
    print("by print")
    subprocess.run(["echo", "by a child"], check=True)
    if "simam" in run.placement:
        raise ValueError("not this one")
    return {"score": float(len(run.placement)), "effort": 1.0}
"""


@pytest.fixture
def talks(table: Path) -> Path:
    (table / "table_evaluator.py").write_text(TALKS)
    return table


def test_a_search_keeps_it_in_a_file_whose_path_it_says_once(talks: Path, nas) -> None:
    done = nas("search", "table.toml", "--trials", "4", "--workers", "1")
    assert done.status == 0
    assert "by print" not in done.out + done.err
    assert "by a child" not in done.out + done.err
    (log,) = (talks / "nas_attn.artifacts" / "logs").iterdir()
    assert done.err.count(f"nas_attn.artifacts/logs/{log.name} ") == 1
    assert log.read_text().count("by a child") >= 4
    (failed,) = [view for view in na.open_study().candidates() if view.state == "failed"]
    assert failed.reason.endswith(f"not this one (more in nas_attn.artifacts/logs/{log.name})")


@pytest.mark.parametrize("how", [["search", "--verbose"], ["--debug", "search"]])
def test_it_is_shown_where_that_is_asked_for(talks: Path, nas, how: list[str]) -> None:
    done = nas(*how, "table.toml", "--trials", "1", "--workers", "1", "--set", "search.confirm_seeds=0")
    assert done.out.count("by print") == done.out.count("by a child") == 2
    assert not (talks / "nas_attn.artifacts" / "logs").exists()


def test_python_keeps_it_too(talks: Path, capfd: pytest.CaptureFixture[str]) -> None:
    na.search("table.toml", trials=1, overrides={"search.confirm_seeds": 0})
    printed = capfd.readouterr().out
    assert "trial 0 (none): scored" in printed
    assert "by print" not in printed
    na.search("table.toml", name="again", trials=1, overrides={"search.confirm_seeds": 0}, verbose=True)
    assert "by print" in capfd.readouterr().out
