"""The report of every made study on a phone and on a wide screen, light and dark: all can be read,
and used without a mouse or without eyes.
"""

from __future__ import annotations

import gzip
import runpy
import tarfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from browser import Page

from nas_attn import api
from nas_attn.answer.answer import answer_of
from nas_attn.answer.reading import snapshot
from nas_attn.report import write_report

HERE = Path(__file__).parent
pytestmark = pytest.mark.extras("chromium")
MADE = runpy.run_path(str(HERE.parent / "pins" / "studies.py"))["STUDIES"]
BRIEFLY = {"tested_better"}
"""Those that the fast suite looks at, on few screens; all on every screen is slow."""
LAYOUT = (HERE / "assets" / "layout.js").read_text("utf-8")
AXE = gzip.decompress((HERE / "assets" / "axe.min.js.gz").read_bytes()).decode()
DRAWN = "[...document.querySelectorAll('.figure')].every(f => f.querySelector('.main-svg'))"
VIOLATIONS = """axe.run(document, {resultTypes: ['violations']}).then(found => found.violations.map(
  one => `${one.id}: ${one.help} (${one.nodes.slice(0, 3).map(node => node.target + ' ' + node.failureSummary).join('; ')})`))"""
OPENED = "document.querySelectorAll('details').forEach(details => { details.open = true; })"
SCREENS = ((390, False), (390, True), (1280, False), (1280, True))
FEW_SCREENS = ((390, True), (1280, False))
"""Each width and each scheme once."""


def look_at(tab: Page, address: str, screens: Sequence[tuple[int, bool]] = SCREENS) -> None:
    """At these widths and in these schemes, with everything unfolded."""
    for width, dark in screens:
        tab.open(address, width=width, dark=dark)
        tab.until(DRAWN)
        tab.look(OPENED)
        assert tab.look(LAYOUT) == [], (width, dark)
        tab.look(f"{AXE}; undefined")
        assert tab.look(VIOLATIONS) == [], (width, dark)
        assert (tab.errors, tab.asked) == ([], [])


def _made_on_screens() -> list[Any]:
    """(maker of a study, screens): those of the fast suite first."""
    rows: list[Any] = []
    for maker in MADE:
        name = maker.__name__
        if name in BRIEFLY:
            rows.append(pytest.param(maker, FEW_SCREENS, id=f"{name}-few screens"))
        rows.append(pytest.param(maker, SCREENS, id=name, marks=pytest.mark.slow))
    return rows


@pytest.mark.parametrize(("maker", "screens"), _made_on_screens())
def test_a_made_study_is_read_on_every_screen(
    maker: Any,
    screens: Sequence[tuple[int, bool]],
    tab: Page,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    study = maker(tmp_path, monkeypatch)
    page = write_report(answer_of(snapshot(study.store)), tmp_path / "report.html")
    look_at(tab, page.as_uri(), screens)


@pytest.mark.parametrize(
    "screens",
    [FEW_SCREENS, pytest.param(SCREENS, marks=pytest.mark.slow)],
    ids=["few screens", "all"],
)
def test_a_real_study_is_read_on_every_screen(
    tab: Page,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    screens: Sequence[tuple[int, bool]],
) -> None:
    monkeypatch.chdir(tmp_path)
    with tarfile.open(HERE.parent / "pins" / "real.tar.xz") as packed:
        packed.extractall(filter="data")
    page = api.open_study().report(tmp_path / "real.html")
    look_at(tab, Path(page).as_uri(), screens)


def test_the_page_is_used_by_keyboard(
    tab: Page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What can be clicked can be reached, and what scrolls can be scrolled."""
    study = next(maker for maker in MADE if maker.__name__ == "the_usual")(tmp_path, monkeypatch)
    page = write_report(answer_of(snapshot(study.store)), tmp_path / "report.html")
    tab.open(page.as_uri())
    tab.until(DRAWN)
    tab.look("document.querySelector('nav a').focus()")
    press(tab, "Enter")
    assert tab.look("location.hash") == "#front"
    head = "document.querySelector('#candidates thead button')"
    tab.look(f"{head}.focus()")
    press(tab, "Enter")
    assert tab.look(f"{head}.parentElement.getAttribute('aria-sort')") == "ascending"


def press(tab: Page, key: str) -> None:
    for kind in ("keyDown", "keyUp"):
        tab.tell(
            "Input.dispatchKeyEvent",
            type=kind,
            key=key,
            code=key,
            windowsVirtualKeyCode=13,
            text="\r" if kind == "keyDown" else "",
        )
