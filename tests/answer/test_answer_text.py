"""The answer in words: short, in one order, and the same everywhere."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_study import everywhere, recipe, usual

from nas_attn.answer.answer import Answer, answer_of
from nas_attn.answer.answer_text import answer_lines, below, rows
from nas_attn.answer.cautions import Caution, CautionKind
from nas_attn.answer.headline import headline
from nas_attn.answer.reading import snapshot
from nas_attn.recipe import units

CBAM = "cbam(reduction=16, spatial_kernel_size=7)"
BEST = "key-002"
BARE = "key-000"
ROWS = ["Gain", "Cost", "Sure", "Next"]


@pytest.fixture(scope="module")
def answers(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Answer]:
    """The answers of three made studies: estimated, tested, too brief."""
    made = {
        "estimated": usual(tmp_path_factory.mktemp("estimated")),
        "tested": usual(tmp_path_factory.mktemp("tested")),
        "brief": usual(
            tmp_path_factory.mktemp("brief"),
            recipe(training={"rungs": [10]}, target={"epochs": 40}),
        ),
    }
    networks = {BEST: everywhere(CBAM), BARE: "none"}
    made["tested"].validation(networks, gain={BEST: 0.05}, recommended=BEST)
    return {name: answer_of(snapshot(study.store)) for name, study in made.items()}


@pytest.mark.parametrize("name", ["estimated", "tested", "brief"])
def test_the_card_answers_its_questions_in_one_order(answers: dict[str, Answer], name: str) -> None:
    said = rows(answers[name])
    assert [row.label for row in said] == ROWS
    assert all(row.label != "Next" or row.command.startswith("nas-attn ") for row in said)
    assert "`" not in "\n".join(answer_lines(answers[name]))


def test_a_placement_is_written_once(answers: dict[str, Answer]) -> None:
    lines = "\n".join(answer_lines(answers["estimated"]))
    assert lines.count(everywhere(CBAM)) == 1


def test_a_test_changes_the_headline(answers: dict[str, Answer]) -> None:
    assert headline(answers["tested"]) != headline(answers["estimated"])
    assert "+4." in headline(answers["tested"])


def test_a_caution_stands_below_and_never_leads(tmp_path: Path) -> None:
    now = snapshot(usual(tmp_path).store)
    few = Caution(CautionKind.FEW_IMAGES, "with 64 validation images")
    careful = answer_of(replace(now, cautions=(few, *now.cautions)))
    assert headline(careful) == headline(answer_of(now))
    assert rows(careful) == rows(answer_of(now))
    assert "Careful" in [row.label for row in below(careful)]


@pytest.mark.parametrize(
    ("half", "digits"),
    [(0.143, 0), (0.09, 0), (0.0211, 1), (0.0042, 1), (0.0014, 2), (0.000002, 2), (0.0, 2)],
)
def test_a_difference_has_the_digits_that_its_interval_supports(half: float, digits: int) -> None:
    shown = units.signed_within("accuracy", 0.123456, half)
    assert shown == f"+{12.3456:.{digits}f}"


def test_there_is_one_minus_sign() -> None:
    assert units.gained("accuracy", -0.02, -0.03, -0.01) == "−2.0 points (−3.0 to −1.0)"
    assert units.signed_within("accuracy", -0.00001, 0.01) == "+0.0"


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (950, "950"),
        (999.4, "999"),
        (999.7, "1 k"),
        (999_499, "999 k"),
        (999_712, "1 M"),
        (999.8e6, "1 G"),
        (1.2e12, "1.2 T"),
    ],
)
def test_a_count_that_rounds_to_the_next_unit_is_in_that_unit(number: float, said: str) -> None:
    assert units.count(number) == said


def test_no_count_is_in_powers_of_ten() -> None:
    numbers = (10 ** (step / 997) for step in range(14 * 997))
    assert not any("e" in units.count(number) for number in numbers)


def test_the_card_says_which_folds_were_for_what(tmp_path: Path) -> None:
    splits = {"train": ["fold_0", "fold_3"], "validation": ["fold_1"], "test": ["fold_2"]}
    folds = recipe(data={"name": "folder:photos", "splits": splits})
    now = snapshot(usual(tmp_path, folds, searched=1).store)
    (row,) = (row for row in below(answer_of(now)) if row.label == "Splits")
    for names, part in zip(splits.values(), row.text.split(", "), strict=True):
        assert re.findall(r"fold_\d", part) == names
