"""The report in a real browser, as a reader uses it: points, hovering, drawings, both schemes, a
phone, paper.
"""

from __future__ import annotations

import json
import re

import pytest
from browser import Page
from made_study import usual

from nas_attn.answer.answer import answer_of
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot
from nas_attn.report import write_report

pytestmark = [pytest.mark.extras("chromium"), pytest.mark.slow]
FIRST = "document.querySelector('.figure')"
DRAWN = "[...document.querySelectorAll('.figure')].filter(f => f.querySelector('.main-svg')).length"
ALL = "document.querySelectorAll('.figure').length"
PAPER = {"width": 720, "height": 1000, "deviceScaleFactor": 1, "mobile": False}
WIDE_PAPER = PAPER | {"width": 940, "height": 700}
HOVERED = "[...document.querySelectorAll('.hoverlayer text')].map(t => t.textContent).join(' ')"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Snapshot, str]:
    """A study, and the address of its report."""
    folder = tmp_path_factory.mktemp("report")
    study = usual(folder, searched=24)
    now = snapshot(study.store)
    return now, write_report(answer_of(now), folder / "report.html").as_uri()


def drawn(tab: Page) -> None:
    """All figures."""
    tab.until(f"{DRAWN} === {ALL}")


@pytest.mark.parametrize(
    ("dark", "width"), [(False, 1200), (True, 1200), (False, 390), (True, 390)]
)
def test_every_figure_is_drawn_in_both_schemes_and_on_a_phone(
    made: tuple[Snapshot, str], tab: Page, dark: bool, width: int
) -> None:
    tab.open(made[1], dark=dark, width=width)
    drawn(tab)
    assert tab.look("document.documentElement.scrollWidth") <= width, (
        "what is wider scrolls in its own box"
    )
    ink = tab.look(f"getComputedStyle({FIRST}.querySelector('.xtick text')).fill")
    page = tab.look("getComputedStyle(document.body).backgroundColor")
    assert (
        luminance(ink) - luminance(page) > 100 if dark else luminance(page) - luminance(ink) > 100
    ), (ink, page)
    written = tab.look("getComputedStyle(document.querySelector('.heatmap-label text')).fill")
    assert written == ink, "numbers in the maps are in the page's colour"
    assert (tab.errors, tab.asked) == ([], [])


def luminance(colour: str) -> float:
    """Of `rgb(1, 2, 3)`: 0 to 255."""
    red, green, blue, *_ = (float(part) for part in colour.partition("(")[2].rstrip(")").split(","))
    return 0.3 * red + 0.6 * green + 0.1 * blue


def test_pointing_at_a_point_says_what_it_is(made: tuple[Snapshot, str], tab: Page) -> None:
    now, address = made
    tab.open(address)
    tab.until(f"{DRAWN} > 0")
    front = [view for view in now.candidates if view.on_front and view.baseline is None]
    at = (
        f"[...{FIRST}.querySelectorAll('.scatterlayer .trace')].filter(t =>"
        " t.__data__[0].trace.name === 'front').at(-1)"
    )
    point = f"{at}.querySelector('.points path')"
    tab.point(point)
    tab.until(f"{HOVERED}.includes({json.dumps(front[0].label)})")
    assert tab.errors == []


def test_a_cell_of_a_map_is_explained(made: tuple[Snapshot, str], tab: Page) -> None:
    tab.open(made[1])
    drawn(tab)
    maps = (
        "[...document.querySelectorAll('.figure')].filter(f => f.data.some(t => t.type ==="
        " 'heatmap' && t.texttemplate))"
    )
    said = tab.look(f"{maps}.map(f => f.getAttribute('aria-label'))")
    assert ["to help or to harm: " in said[0], "to cost or to save latency: " in said[1]] == [
        True,
        True,
    ]
    label = f"{maps}[0].querySelector('.heatmap-label text')"
    tab.point(label)
    tab.until(f"{HOVERED}.includes(' at stage')")
    assert tab.errors == []


def test_figures_are_named_and_it_can_be_printed(made: tuple[Snapshot, str], tab: Page) -> None:
    tab.open(made[1], dark=True)
    drawn(tab)
    unnamed = (
        "[...document.querySelectorAll('.figure')].filter(f =>"
        " !f.getAttribute('aria-label')).length"
    )
    assert tab.look(unnamed) == 0
    pages = re.findall(rb"/MediaBox ?\[0 0 ([\d.]+) ([\d.]+)\]", tab.printed())
    wide = [float(width) > float(height) for width, height in pages]
    assert True in wide, "the table of all candidates has room"
    assert not wide[0], "the answer is on a page of its own kind"
    page = "[document.body, document.querySelector('.xtick text')].map(e => getComputedStyle(e))"
    inks = f"({page}).map((style, i) => i ? style.fill : style.color)"
    assert all(luminance(ink) > 150 for ink in tab.look(inks)), "on the screen it is dark"
    on_screen = tab.look("[...document.querySelectorAll('.figure')].map(f => f.clientHeight)")
    tab.look("dispatchEvent(new Event('beforeprint'))")
    assert all(luminance(ink) < 100 for ink in tab.look(inks)), "on paper it is light"
    assert (
        tab.look(
            "Math.max(...[...document.querySelectorAll('.figure .main-svg')].map(f =>"
            " f.clientWidth))"
        )
        <= 720
    )
    drawn_high = "[...document.querySelectorAll('.figure')].map(f => f._fullLayout.height)"
    box_high = "[...document.querySelectorAll('.figure')].map(f => f.clientHeight)"
    assert tab.look(drawn_high) == tab.look(box_high), "no gap below a figure"
    assert sum(tab.look(drawn_high)) < sum(on_screen), "several figures have room on a page"
    folded = "document.querySelectorAll('.answer details:not([open])').length"
    assert tab.look(folded) == 0, "reasons are read on paper"
    tab.tell("Emulation.setEmulatedMedia", media="print")
    tab.tell("Emulation.setDeviceMetricsOverride", **PAPER)
    shadow = "getComputedStyle(document.querySelector('.wide'), '::after').display"
    assert tab.look(shadow) == "none", "nothing scrolls on paper"
    cells = "[...document.querySelectorAll('th, td')]"
    cut = (
        "cell => cell.getBoundingClientRect().right > innerWidth"
        " && !!cell.closest('#candidates') === wide"
    )
    shown = "map(cell => cell.textContent.trim())"
    assert tab.look(f"(wide => {cells}.filter({cut}).{shown})(false)") == []
    tab.tell("Emulation.setDeviceMetricsOverride", **WIDE_PAPER)
    assert tab.look(f"(wide => {cells}.filter({cut}).{shown})(true)") == []
    tab.tell("Emulation.setDeviceMetricsOverride", **PAPER)
    scheme = {"name": "prefers-color-scheme", "value": "dark"}
    tab.tell("Emulation.setEmulatedMedia", media="", features=[scheme])
    tab.look("dispatchEvent(new Event('afterprint'))")
    assert tab.look(folded) > 0, "and folded again on the screen"
    assert tab.look(box_high) == on_screen
    assert all(luminance(ink) > 150 for ink in tab.look(inks)), "and dark again"
    assert tab.errors == []
