"""What a page tells its reader to do, in the order of the page: commands, Python, files to write.

A step that is not run has its reason in a comment of the page, before a block or right after a
command in a sentence: `<!-- not run: it needs a phone -->`. For lines of a block that begin with
certain words: `<!-- not run (pip, make): tests/packaging does -->`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from documented import ROOT

RUN = (
    "README.md",
    "docs/get-started/quickstart.md",
    *(
        str(page.relative_to(ROOT))
        for folder in ("how-to", "explain")
        for page in sorted((ROOT / "docs" / folder).glob("*.md"))
    ),
    "CONTRIBUTING.md",
    *(
        str(page.relative_to(ROOT))
        for page in sorted((ROOT / "docs" / "contributing").glob("*.md"))
    ),
)
"""The pages whose steps are taken."""
PROGRAMS = (
    "nas-attn",
    "yolo",
    "python",
    "python3",
    "pip",
    "make",
    "export",
    ".",
    "sh",
    "docker",
    "optuna-dashboard",
    "onnxslim",
    "torchrun",
)
MARK = re.compile(r"<!-- not run(?: \((?P<only>[^)]+)\))?: (?P<reason>.+?) -->", re.DOTALL)
PIECE = re.compile(
    r"^(?P<marks>(?:<!-- not"
    r" run.*?-->\s*)*)```(?P<language>\w*)\n(?P<block>.*?)^```$|`(?P<span>[^`]+)`",
    re.MULTILINE | re.DOTALL,
)
FILE = re.compile(r"# ([\w/.]+\.(?:py|toml))$")
EXCERPT = re.compile(r"# \w+: [\w ,]+$")
"""First line of a block that is a piece of a file; the page's own test inserts it."""

Kind = Literal["command", "python", "file", "excerpt", "other"]


@dataclass(frozen=True)
class Step:
    """One thing to do."""

    page: str
    line: int
    kind: Kind
    text: str
    reason: str = ""  # Why it is not run; empty where it is

    def __str__(self) -> str:
        return f"{self.page}:{self.line}: {self.text.splitlines()[0]}"

    @property
    def name(self) -> str:
        """The name of the file that a block is, else an empty text."""
        found = FILE.match(self.text.partition("\n")[0])
        return found.group(1) if found else ""


def steps(page: str) -> Iterator[Step]:
    text = (ROOT / page).read_text("utf-8")
    for found in PIECE.finditer(text):
        span, place = found["span"], found.start("block" if found["span"] is None else "span")
        line = text.count("\n", 0, place) + 1
        if span is not None:
            if is_command(span) and len(span.split()) > (
                2 if span.startswith(("nas-attn", "make")) else 1
            ):
                after = MARK.match(text[found.end() :].lstrip(" .\n"))
                yield Step(
                    page, line, "command", " ".join(span.split()), after["reason"] if after else ""
                )
            continue  # `nas-attn worker` is only mentioned
        marks = list(MARK.finditer(found["marks"]))
        yield from _block(page, line, found["language"], found["block"], marks)


def _block(
    page: str, line: int, language: str, block: str, marks: list[re.Match[str]]
) -> Iterator[Step]:
    def reason(said: str) -> str:
        return next(
            (m["reason"] for m in marks if said.startswith(tuple((m["only"] or "").split(", ")))),
            "",
        )

    first = block.partition("\n")[0]
    if language in ("", "sh") and is_command(first):
        for number, said in enumerate(block.splitlines()):
            if said.strip():
                yield Step(page, line + number, "command", said, reason(said))
        return
    kind: Kind = "python" if language == "python" else "other"
    if FILE.match(first):
        kind = "file"
    elif EXCERPT.match(first):
        kind = "excerpt"
    elif language == "sh":
        kind = "command"
    yield Step(page, line, kind, block, reason(block))


def is_command(text: str) -> bool:
    return text.split(" ", 1)[0] in PROGRAMS
