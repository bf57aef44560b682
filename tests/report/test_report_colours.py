"""Colours that everyone can tell apart, and text that everyone can read."""

from __future__ import annotations

import itertools
import re
from importlib import resources

import numpy as np
import pytest
from colours import WITHOUT_COLOURS, contrast, difference, laid_over, rgb

from nas_attn.report.figures.effect_map import BAD, GOOD_COLOUR, NOTHING
from nas_attn.report.figures.style import BACKGROUND, COLOURS, GREY, STYLES, TEXT

# WCAG 2.2, 1.4.3 and 1.4.11
TEXT_CONTRAST = 4.5
MARK_CONTRAST = 3.0
# In CIELAB 2.3 are just seen side by side; small marks far apart need several times as much
LEAST_DIFFERENCE = 12.0


def themes() -> dict[str, dict[str, str]]:
    """Theme -> variable of the style sheet -> colour."""
    style = resources.files("nas_attn.report").joinpath("templates", "style.css").read_text("utf-8")
    light, dark = re.findall(r"color-scheme: (?:light|dark);([^}]*)}", style)
    return {
        name: dict(re.findall(r"--(\w+): (#[0-9a-f]{6})", block))
        for name, block in (("light", light), ("dark", dark))
    }


@pytest.mark.parametrize("kind", WITHOUT_COLOURS)
def test_colours_of_figures_are_told_apart_by_the_colour_blind(kind: str) -> None:
    differences = {
        pair: difference(WITHOUT_COLOURS[kind], *pair)
        for pair in itertools.combinations(COLOURS, 2)
    }
    assert min(differences.values()) > LEAST_DIFFERENCE, differences


def test_lines_differ_by_their_dash_or_width_too() -> None:
    looks = [(style.dash, style.width) for style in STYLES.values()]
    assert len(set(looks)) == len(looks)


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_marks_stand_out_from_the_page(theme: str) -> None:
    page = rgb(themes()[theme]["bg"])
    for colour in COLOURS:
        assert contrast(rgb(colour), page) >= MARK_CONTRAST, colour


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_is_read_on_every_ground(theme: str) -> None:
    colours = themes()[theme]
    for ink in ("text", "muted", "accent"):
        for ground in ("bg", "card", "front", "code"):
            measured = contrast(rgb(colours[ink]), rgb(colours[ground]))
            assert measured >= TEXT_CONTRAST, (ink, ground, measured)


@pytest.mark.parametrize("theme", ["light", "dark", "dashboard"])
def test_numbers_in_the_cells_of_maps_are_read(theme: str) -> None:
    """In the dashboard, of whichever theme, a figure brings its own paper."""
    ink, page = (
        (TEXT, BACKGROUND)
        if theme == "dashboard"
        else (
            themes()[theme]["text"],
            themes()[theme]["bg"],
        )
    )
    for cell in (GOOD_COLOUR, BAD, NOTHING):
        ground = laid_over(cell, rgb(page))
        assert contrast(rgb(ink), ground) >= TEXT_CONTRAST, cell


def test_the_measures_are_those_that_are_known() -> None:
    assert contrast(rgb("#ffffff"), rgb("#000000")) == pytest.approx(21)
    assert contrast(rgb("#777777"), rgb("#ffffff")) == pytest.approx(4.48, abs=0.01)
    red, green = "#c00000", "#007000"
    assert difference(np.eye(3), red, green) > 3 * difference(
        WITHOUT_COLOURS["deuteranopia"], red, green
    )
    assert difference(WITHOUT_COLOURS["tritanopia"], GREY, GREY) == 0
