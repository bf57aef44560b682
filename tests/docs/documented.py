"""What the documentation shows: its pages, their blocks of code, the commands in them."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "runners").rglob("*.md")]
)
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    page: str
    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that it is: its first line is `# NAME`."""
        found = re.match(r"# ([\w/.]+\.(?:py|toml))$", self.text.partition("\n")[0])
        return found.group(1) if found else None


def blocks() -> Iterator[Block]:
    for page in PAGES:
        for language, text in FENCE.findall(page.read_text("utf-8")):
            yield Block(str(page.relative_to(ROOT)), language, text)


def files(page: str, folder: Path) -> None:
    """Writes the files that a page shows."""
    for block in blocks():
        if block.page == page and block.file is not None:
            path = folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, "utf-8")


def commands(program: str) -> Iterator[tuple[str, str]]:
    """(page, what stands after the program's name) of every command in a block without a language,
    or in backticks.
    """
    for page in PAGES:
        text = page.read_text("utf-8")
        if page.name == "CHANGELOG.md":
            # the rows of what went name commands of before
            text = re.sub(r"(?m)^\| .*$", "", text)
        shown = [
            line
            for language, block in FENCE.findall(text)
            if not language
            for line in block.splitlines()
        ]
        shown += re.findall(rf"`({program} [^`]+)`", FENCE.sub("", text))
        shown += [
            line.strip()
            for line in re.findall(rf"^    ({program} .*)$", FENCE.sub("", text), re.MULTILINE)
        ]
        for line in shown:
            found = re.match(rf"\s*{program} (.+?)(?:\s{{2,}}#.*)?$", line)
            if found:
                yield str(page.relative_to(ROOT)), found.group(1).strip()
