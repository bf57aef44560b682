"""Tables and prose on terminals of 60 to 200 columns: no word is broken, no number parted from its
unit.
"""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

import pytest
from made_study import everywhere, usual
from pseudo_terminal import typed
from rich.console import Console

from nas_attn.cli import main, running
from nas_attn.cli.common import table
from nas_attn.cli.terminal import SafeConsole, progress_bar
from nas_attn.space.notation import parse
from nas_attn.storage.records import Score, StoredScore
from nas_attn.storage.rows import Run
from nas_attn.storage.trial_book import TrialBook

CBAM = "cbam(reduction=16, spatial_kernel_size=7)"
AT = ("--storage", "sqlite:///made.db")
COMMANDS = (
    ("show", "made", *AT),
    ("effects", "made", *AT),
    ("effects", "made", "--of", "latency", *AT),
    ("status", *AT),
    ("status", "made", *AT),
    ("modules",),
    ("modules", "se"),
    ("sites", "resnet20", "--input", "3x32x32"),
)
PARTED = re.compile(r"\d\n[ ]*(%|×|points|ms|s|min|h)(?=[\s.,;:)]|$)")
TO_COPY = ("nas-attn ", "optuna-dashboard ", "pip ", "import ", "from ", "model", "na.", ")", '"')
"""How lines begin that the terminal itself breaks."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a study that was tested."""
    path = tmp_path_factory.mktemp("made")
    study = usual(path)
    networks = {"key-002": everywhere(CBAM), "key-000": "none"}
    study.validation(networks, gain={"key-002": 0.05}, recommended="key-002")
    TrialBook(study.database, study.store.name, made_for=study.recipe).close()
    return path


def words(text: str) -> set[str]:
    return {word for word in text.split() if word.strip("─")}


# many pages, 10 s
@pytest.mark.slow
@pytest.mark.parametrize("columns", [80, 120, 200])
def test_nothing_is_broken_on_a_terminal_of(columns: int, folder: Path) -> None:
    """Compared with what is printed where there is room for everything."""
    wide = [(300, (*command, "--wide")) for command in COMMANDS]
    narrow = [(columns, command) for command in COMMANDS]
    printed = typed([*wide, *narrow], folder)
    for command, whole, text in zip(
        COMMANDS, printed[: len(COMMANDS)], printed[len(COMMANDS) :], strict=True
    ):
        assert not words(text) - words(whole), command
        for line in text.splitlines():
            assert len(line) <= columns or line.strip().startswith(TO_COPY), (command, line)
        assert not PARTED.search(text), (command, PARTED.search(text))
        assert "`" not in text, command


def test_numbers_are_never_broken_and_their_headings_are_as_narrow_as_they() -> None:
    rows = [["stage1", "eca(kernel_size=3)", "+1.0 ± 0.4", "12"]]
    columns = ["site", "choice [each]", "gain in accuracy, points", "tried"]
    made = table("", columns, rows, right=columns[2:], whole=["site"])
    output = io.StringIO()
    Console(width=42, file=output).print(made)
    shown = output.getvalue()
    assert "+1.0 ± 0.4" in shown
    assert "gain in" in shown
    assert "gain in accuracy" not in shown
    assert "[each]" in shown, "a name is no markup"
    assert max(map(len, shown.splitlines())) <= 42


@pytest.mark.parametrize(
    ("letter", "plain"), [("−", "-"), ("▣eca ─ head", "#eca - head"), ("字", "\\u5b57")]
)
def test_a_terminal_without_a_letter_shows_the_nearest(letter: str, plain: str) -> None:
    assert letter.encode("ascii", errors=main.PLAIN) == plain.encode()


METRICS = {
    "accuracy": 0.953,
    "loss": 0.144,
    "brier": 0.0676,
    "balanced_accuracy": 0.9526,
    "macro_f1": 0.9524,
    "peak_bytes": 1e6,
}


@pytest.mark.parametrize("columns", [80, 160])
def test_each_metric_of_a_retrained_network_has_a_column(columns: int) -> None:
    known = Run("key-002", parse(everywhere(CBAM)), 500000, protocol="target", purpose="retrain")
    unknown = replace(known, key="key-of-another", placement=parse("stage1=simam"), seed=500001)
    stored = StoredScore("key-002", "retrain", Score(500000, 0, 12, METRICS), "target")
    output = io.StringIO()
    results = [(known, stored, ""), (unknown, None, "stopped")]
    running._show_retrained(Console(width=columns, file=output), "Trained", results)
    lines = output.getvalue().splitlines()
    (row,) = (line for line in lines if "500000" in line)
    assert re.split("  +", row.strip())[-6:] == [
        "500000",
        "95.30 %",
        "0.144",
        "0.0676",
        "95.26 %",
        "95.24 %",
    ]
    assert "stage1=simam, seed 500001: stopped" in lines


def test_the_line_of_progress_is_cut_and_not_wrapped() -> None:
    output = io.StringIO()
    console = SafeConsole(width=40, file=output)
    line = "12/20 candidates, 3 pruned, best accuracy 70.40 %, about 12 min left"
    bar = progress_bar(console, line)
    console.print(bar)
    (only,) = output.getvalue().splitlines()
    assert len(only) <= 40
    assert "12/20" in only
