"""The report as a page, in a notebook, and as rows."""

from __future__ import annotations

import html
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import pytest
from browser import browser
from made_study import MadeStudy, everywhere, recipe, recommended, usual

from nas_attn import errors, report
from nas_attn.answer.answer import answer_of
from nas_attn.answer.as_json import answer_as_json
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot
from nas_attn.model import TESTED
from nas_attn.recipe import reading
from nas_attn.report import html as html_report
from nas_attn.report.columns import TABLES, rows
from nas_attn.report.dashboard import provenance
from nas_attn.report.figures.curves import learning_curves
from nas_attn.report.html import render, summary
from nas_attn.storage.records import BESIDE

SE = "se(reduction=8)"
CBAM = "cbam(reduction=16, spatial_kernel_size=7)"
SORTED = """(table => {
  const at = [...table.tHead.rows[0].cells].findIndex(c => c.textContent.startsWith('gain in accuracy'));
  table.tHead.rows[0].cells[at].querySelector('button').click();
  return [...table.tBodies[0].rows].map(r => r.cells[at].dataset.sort);
})(document.getElementById('all-candidates'))"""
FILTERED = """(input => {
  input.value = 'FAILED'; input.dispatchEvent(new Event('input'));
  return [...document.getElementById('all-candidates').tBodies[0].rows].filter(r => !r.hidden).map(r => r.textContent);
})(document.querySelector('input[type=search]'))"""


def test_what_each_choice_does_is_said_and_listed(made: Snapshot, tmp_path: Path) -> None:
    page = render(answer_of(made))
    section = page.split("What each choice does</h2>")[1].split("<h2")[0]
    said = html.unescape(section).replace("\N{NO-BREAK SPACE}", " ")
    assert re.search(r"cbam at stage\d [+]\d\.\d+ ± \d\.\d+ points", said)
    assert section.count("<tr") > 10
    few = MadeStudy(tmp_path, name="few")
    few.candidate("none", baseline="none")
    assert "What each choice does" not in render(answer_of(snapshot(few.store)))


def test_after_a_test_estimates_and_curves_are_said_to_be_of_their_own_trainings(
    tmp_path: Path,
) -> None:
    study = usual(tmp_path)
    before = snapshot(study.store)
    networks = {"key-002": everywhere(CBAM), "key-000": "none"}
    study.validation(networks, gain={"key-002": 0.05}, recommended="key-002")

    now = snapshot(study.store)
    assert now.evidence["accuracy"].rung == TESTED, "the estimates are of test images now"
    assert provenance(now, "accuracy") != provenance(before, "accuracy")
    drawn = [learning_curves(answer_of(one)) for one in (before, now)]
    points = {sum(len(trace.x) for trace in figure.data) for figure in drawn if figure is not None}
    assert len(points) == 1, "the test adds nothing to these curves"


@pytest.mark.extras("chromium")
def test_a_browser_draws_every_figure_and_loads_nothing(made: Snapshot, tmp_path: Path) -> None:
    with browser(tmp_path) as tab:
        tab.open(
            report.write_report(answer_of(made), tmp_path / "page.html").as_uri(),
            width=1300,
        )
        tab.until(
            "[...document.querySelectorAll('.figure')].every(f => f.querySelector('.main-svg'))"
        )
        assert tab.look("document.querySelectorAll('.figure').length") == 4
        assert tab.look("document.documentElement.scrollWidth") <= 1300
        rising, falling, filtered = tab.look(SORTED), tab.look(SORTED), tab.look(FILTERED)
        assert (tab.errors, tab.asked) == ([], [])
    numbers = [float(n) for n in rising if n]
    assert len(numbers) > 10
    assert numbers == sorted(numbers)
    assert [float(n) for n in falling if n] == numbers[::-1]
    assert rising[len(numbers) :] == falling[len(numbers) :]  # the unscored stay last
    assert len(filtered) == 1
    assert "<b>loss</b> became NaN & stopped" in filtered[0]


def test_the_recipe_of_the_report_is_that_of_the_study(made: Snapshot, tmp_path: Path) -> None:
    page = html.unescape(
        render(answer_of(made))
        .split('<summary>Recipe</summary><pre tabindex="0">')[1]
        .split("</pre>")[0]
    )
    (tmp_path / "again.toml").write_text(page.replace("\N{NO-BREAK SPACE}", " "), "utf-8")
    assert reading.load_recipe(str(tmp_path / "again.toml")) == made.recipe


def test_an_empty_study_is_a_page_too(tmp_path: Path) -> None:
    text = " ".join(words_of(render(answer_of(snapshot(MadeStudy(tmp_path).store)))).split())
    assert "No candidate has been scored" in text


class Balance(HTMLParser):
    """Finds elements that are not closed in order."""

    VOID = frozenset({"meta", "br", "input", "!doctype"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.wrong: list[str] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: object) -> None:
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        if not self.open or self.open.pop() != tag:
            self.wrong.append(tag)

    def handle_data(self, data: str) -> None:
        if "script" not in self.open and "style" not in self.open:
            self.text.append(data)


def words_of(page: str) -> str:
    parser = Balance()
    parser.feed(page)
    assert (parser.open, parser.wrong) == ([], [])
    return " ".join(parser.text)


def test_it_says_what_a_reader_needs(made: Snapshot) -> None:
    text = " ".join(words_of(render(answer_of(made))).split())
    best = recommended(made)
    assert best is not None
    for wanted in (
        str(best.placement),
        "72.6 %",
        "uniform ela(kernel_size=7)",
        "Test CPU 3000 in 4 sessions",
        "pruned at rung 0",
        "rungs = [",
        "2.15.0",
    ):
        assert wanted in text, wanted
    assert not re.search(r"\bnan\b", text)


def test_nothing_of_a_study_becomes_markup(tmp_path: Path) -> None:
    evil = "</script><script>alert(1)</script><img src=x onerror=alert(2)>"
    study = MadeStudy(tmp_path, recipe(name="made"), name=evil)
    study.candidate("none", baseline="none", seeds=2, reason=evil)
    study.candidate(f"stage1={SE}", baseline=f"control {evil}", seeds=2)
    study.sessions()
    page = render(answer_of(snapshot(study.store)))
    assert "<img" not in page
    assert "<script>alert" not in page
    assert "</script><script>alert" not in words_of(page).replace(evil, "")


@pytest.mark.parametrize(
    "objectives", [["accuracy"], ["loss", "latency", "params"], ["params", "macs"]]
)
def test_objectives_in_any_choice(tmp_path: Path, objectives: list[str]) -> None:
    study = MadeStudy(tmp_path, recipe(objectives=objectives))
    study.candidate("none", baseline="none")
    study.candidate(everywhere(SE), baseline=f"uniform {SE}")
    study.sessions(1)
    text = words_of(render(answer_of(snapshot(study.store))))
    assert all(objective in text for objective in objectives)


def test_writing_replaces_the_old_report_and_leaves_no_draft(
    made: Snapshot, tmp_path: Path
) -> None:
    target = tmp_path / "deep" / "report.html"
    assert report.write_report(answer_of(made), target) == target
    target.write_text("old")
    report.write_report(answer_of(made), target)
    assert target.read_text("utf-8").startswith("<!doctype html>")
    assert list(target.parent.iterdir()) == [target]


def test_where_it_cannot_be_written_one_sentence_says_so(made: Snapshot, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(errors.StudyError, match=r"cannot be written .*report.html"):
        report.write_report(answer_of(made), tmp_path / "file" / "report.html")
    folder = tmp_path / "folder"
    folder.mkdir()
    with pytest.raises(errors.StudyError, match="cannot be written"):
        report.write_report(answer_of(made), folder)
    assert list(folder.iterdir()) == []
    assert sorted(p.name for p in tmp_path.iterdir()) == ["file", "folder"]


def test_sessions_that_had_not_the_device_alone_are_told_of(tmp_path: Path) -> None:
    study = usual(tmp_path)
    assert "the device alone" not in words_of(render(answer_of(snapshot(study.store))))
    session = study.store.sessions()[0]
    for who in ("pid 7 (nas-attn search first), which is stopped", "pid 8"):
        study.store.add_session(replace(session, notes={BESIDE: who}), owner="test")
    now = snapshot(study.store)
    assert "; pid 8." in words_of(render(answer_of(now)))
    assert answer_as_json(answer_of(now))["latency"]["beside"] == [
        "pid 7 (nas-attn search first), which is stopped",
        "pid 8",
    ]


def test_what_was_tested_stands_before_what_is_estimated(tmp_path: Path) -> None:
    study = usual(tmp_path)
    best, bare = f"key-{1:03}", f"key-{0:03}"
    for _ in range(2):
        study.validation({best: everywhere(SE), bare: "none"}, gain={best: 0.05})
    page = render(answer_of(snapshot(study.store)))
    text = words_of(page)
    latest, first = (
        text.index("Test 2: trained as the target says"),
        text.index("Test 1:"),
    )
    assert "tested, +" in page.split("</h2>")[0], "the headline says so"
    assert latest < first < text.index("Front and baselines", first)
    assert "better, +" in text[latest:first]
    assert everywhere(SE) in " ".join(text[latest:first].split())
    assert "read 32 times" in text


def test_every_table_has_equal_rows(made: Snapshot) -> None:
    for what in TABLES:
        found = rows(answer_of(made), what)
        assert found, what
        assert len({tuple(row) for row in found}) == 1, what


def test_the_rows_say_what_the_study_says(made: Snapshot) -> None:
    trials = rows(answer_of(made), "trials")
    assert [row["trial"] for row in trials] == [view.trial for view in made.candidates]
    assert [row["placement"] for row in trials if row["recommended"]] == [
        str(recommended(made).placement)
    ]
    assert [row["key"] for row in rows(answer_of(made), "front")] == [
        view.key for view in made.front
    ]
    assert {row["key"] for row in trials if row["on_front"]} == {view.key for view in made.front}
    row, view = next(
        (r, v) for r, v in zip(trials, made.candidates, strict=True) if v.latency and v.gains
    )
    low, high = view.estimates["accuracy"].low, view.estimates["accuracy"].high
    assert (row["accuracy"], row["accuracy_low"], row["accuracy_high"]) == (
        view.values[0],
        low,
        high,
    )
    assert row["latency_ms"] == view.latency.ms
    gain = view.gains["accuracy"]
    assert (row["accuracy_gain"], row["accuracy_gain_low"], row["accuracy_gain_high"]) == (
        gain.mean,
        gain.low,
        gain.high,
    )
    assert len(rows(answer_of(made), "scores")) == sum(len(view.scores) for view in made.candidates)
    assert {row["of"] for row in rows(answer_of(made), "effects")} == {"accuracy", "latency"}


def test_an_unknown_table_is_named() -> None:
    with pytest.raises(errors.UserError, match=r"'trails': .*'trials'"):
        rows(None, "trails")  # type: ignore[arg-type]


def test_a_notebook_shows_the_answer(made: Snapshot) -> None:
    shown = summary(answer_of(made))
    text = re.sub("<[^>]+>", "", shown)
    assert str(recommended(made).placement) in text
    assert all(str(view.placement) in text for view in made.front)
    assert "<script" not in shown


def test_a_part_without_a_heading_is_not_left_out(
    made: Snapshot, monkeypatch: pytest.MonkeyPatch
) -> None:
    headings = {name: title for name, title in html_report.SECTIONS.items() if name != "curves"}
    monkeypatch.setattr(html_report, "SECTIONS", headings)
    with pytest.raises(LookupError, match="curves"):
        render(answer_of(made))
