"""What a study answers, as values: the same as it was.

Of five studies the JSON of all commands that read one is kept, and the card once as a text; of the
others, what decides: one line each in `CASES`. `pytest tests/pins --renew-pins` keeps what is
answered now. A change of a kept fact belongs into a commit of its own, which says why.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from command_line import Nas
from pinned import as_json, check, decided, steady

import studies
from studies import Maker

KEPT = (
    studies.the_usual,
    studies.empty,
    studies.limit,
    studies.tested_better,
    studies.lower_is_better,
)
COMMANDS = (
    ("show", "made"),
    ("show", "made", "--json"),
    ("status", "made", "--json"),
    ("test", "made", "--dry-run", "--json"),
)
"""Of each kept study: the first one's text, the others' JSON, and how each ends."""
MORE = {
    "the_usual": (("effects", "made", "--json"), ("effects", "made", "--of", "latency", "--json")),
    "tested_better": (("test", "made", "--json"),),
}
CHOICES = (
    ("--placement", "1"),
    ("--placement", "99"),
    ("--placement", "uniform se(reduction=8)"),
    ("--placement", "stage1=eca"),
    ("--max-latency-ratio", "1.1"),
    ("--max-latency-ratio", "0.5"),
    ("--max-latency-ms", "4.3", "--min-accuracy", "0.7"),
    ("--min-accuracy", "0.7"),
    ("--min-accuracy", "0.99"),
)
"""What a user may ask of a front; the answer is kept for the usual study and the lower one."""


@pytest.fixture
def made(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A made study in the current folder, by its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "100")
    monkeypatch.setenv("NAS_ATTN_STORAGE", "sqlite:///made.db")
    maker: Maker = request.param
    studies.with_trials(maker(tmp_path, monkeypatch))
    return maker.__name__


# what this one decides is kept in `test_pins_of_decisions.py`, of studies like it
@pytest.mark.parametrize(
    "made",
    [
        pytest.param(
            maker,
            id=maker.__name__,
            marks=pytest.mark.slow if maker is studies.limit else (),
        )
        for maker in KEPT
    ],
    indirect=True,
)
def test_what_a_study_answers_is_as_it_was(
    made: str, nas: Nas, tmp_path: Path, renew: bool
) -> None:
    parts = []
    for command in (*COMMANDS, *MORE.get(made, ())):
        ended = nas(*command)
        said = ended.out
        if "--json" in command:
            said = "" if ended.status else as_json(decided(ended.json, whole=made == "the_usual"))
        parts.append(f"$ nas-attn {' '.join(command)}\n{said}\n(status {ended.status})")
    if made in ("the_usual", "lower_is_better"):
        for asked in CHOICES:
            ended = nas("show", "made", *asked, "--json")
            chosen = "" if ended.status else as_json(ended.json["chosen"])
            parts.append(f"{' '.join(asked)}\n{chosen}\n(status {ended.status})")
    check(f"{made}.txt", steady("\n\n".join(parts), tmp_path), renew=renew)
