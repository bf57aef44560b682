"""Options that have no effect in a call are refused: none is dropped without a word."""

from pathlib import Path

import pytest
from command_line import Nas

TESTED = ("test", "--placement", "stage1=se(reduction=2)", "--seeds", "2", "--workers", "1")


@pytest.mark.parametrize(
    ("words", "option"),
    [
        (("show", "--why", "--placement", "none"), "--why"),
        (("show", "--why", "--json"), "--why"),
        (("modules", "--set", "reduction=8"), "--set"),
        (("test", "--difference", "0.1", "--quiet", "--dry-run"), "--difference"),
        (("search", "table.toml", "--report", "a.html", "--dry-run"), "--report"),
        (("search", "table.toml", "--report", "a.html", "--create-only"), "--report"),
        (("search", "table.toml", "--workers", "2", "--create-only"), "--workers"),
    ],
)
def test_an_option_without_effect_is_an_error(
    words: tuple[str, ...], option: str, table_of_one: Path, nas: Nas
) -> None:
    ended = nas(*words)
    assert ended.status == 2
    assert ended.error.startswith(f"error: {option} has no effect here: ")
    assert ended.out == ""


def test_a_test_that_has_ended_takes_no_other_networks_or_seeds(
    table_of_one: Path, nas: Nas
) -> None:
    assert nas(*TESTED, "--json").status == 0
    for option, value in (("--seeds", "16"), ("--placement", "stage1=eca"), ("--margin", "0.1")):
        ended = nas("test", option, value)
        assert ended.status == 2
        assert option in ended.error
        assert "--another" in ended.error
    # how it would be carried out may stand there: nothing is left to do
    shown = nas("test", "--time", "1h", "--workers", "1", "--json")
    assert len(shown.json["validations"]) == 1


def test_a_test_that_has_begun_keeps_its_comparison(table_of_one: Path, nas: Nas) -> None:
    assert nas(*TESTED, "--time", "0s").status == 130
    for option in (["--seeds", "3"], ["--another"], ["--front", "1"]):
        assert f"{option[0]} has no effect here: test 1 has begun" in nas("test", *option).error


def test_placements_are_notation_in_all_json(table_of_one: Path, nas: Nas) -> None:
    planned = nas(*TESTED, "--dry-run", "--json").json
    assert "stage1=se(reduction=2)" in [one["placement"] for one in planned["family"]["networks"]]
    tested = nas(*TESTED, "--json").json["validations"][0]
    assert [one["placement"] for one in tested["family"]["networks"]].count("none") == 1
    assert tested["complete"]
    assert "by_blocks" not in tested["verdicts"][0]


@pytest.mark.parametrize("size", ["nan", "inf", "0", "-1"])
def test_a_difference_is_a_size(size: str, table_of_one: Path, nas: Nas) -> None:
    ended = nas("test", "--dry-run", "--difference", size)
    assert ended.status == 2
    assert "--difference" in ended.error


def test_costs_alone_choose_nothing_within_a_limit(table: Path, nas: Nas) -> None:
    costs = (
        "objectives=['params', 'latency']",
        "search.trials=2",
        "search.controls=none",
        "search.confirm_seeds=0",
    )
    settings = [word for setting in costs for word in ("--set", setting)]
    assert nas("search", "table.toml", *settings, "--workers", "1").status == 0
    ended = nas("show", "--max-latency-ratio", "9")
    assert ended.status == 2
    assert "choose a trial or a placement" in ended.error
