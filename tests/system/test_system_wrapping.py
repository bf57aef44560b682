"""Lines of prose keep numbers and units together, and their labels' column."""

import pytest

from nas_attn.system.wrapping import GLUE, glued, unquoted, wrapped


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("about 11 min", "11_min"),
        ("69.8 → 72.6 %", "69.8_→_72.6_%"),
        ("1.63 ± 0.14 ×", "1.63_±_0.14_×"),
        ("(−1.9 to +2.4)", "(−1.9_to_+2.4)"),
        ("of 2 networks", "2_networks"),
    ],
)
def test_a_number_is_not_parted_from_its_unit(text: str, kept: str) -> None:
    assert kept in glued(text).replace(GLUE, "_")


def test_knobs_of_a_choice_may_be_broken() -> None:
    assert glued("ela(kernel_size=5, groups=4)") == "ela(kernel_size=5, groups=4)"


def test_lines_begin_below_one_another_after_the_label() -> None:
    lines = wrapped("one two three four", 18, first="Gain      ", rest=" " * 10)
    assert lines == ["Gain      one two", " " * 10 + "three", " " * 10 + "four"]
    assert all(GLUE not in line for line in wrapped("11 min " * 20, 30))


def test_marks_of_code_are_left_out() -> None:
    assert unquoted("take `eca`") == "take eca"
