"""Runs the gallery's examples and writes docs/gallery.md with their pictures: `make gallery`.

python docs/write_gallery.py [FOLDER]     # where the studies lie, or are made; one that is there already is not run again
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from nas_attn.analysis.snapshot import snapshot
from nas_attn.report.images import all_figures, write_figures
from nas_attn.storage import Database

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"


@dataclass(frozen=True)
class Example:
    """One search, and what of it is shown."""

    title: str
    study: str
    command: str
    why: str
    figures: tuple[tuple[str, str], ...]
    """(figure, what it shows)."""


EXAMPLES = (
    Example(
        "Where attention is needed",
        "cued-digits",
        "nas-attn search cued-digits",
        "Of two digits in an image, a bar far from both says which one is meant: what the network has to know at one place is "
        "seen at another. Twenty candidates, two minutes on two cores, no data to fetch.",
        (
            (
                "front",
                "Accuracy against latency, with 95 % intervals: the front beside no attention and the uniform baselines.",
            ),
            ("effects-accuracy", "What each choice adds to the accuracy at each site, in points; blue does good."),
            ("effects-latency", "What each choice adds to the latency, in per cent of the backbone's."),
        ),
    ),
)


def main() -> int:
    """Runs what is not there, draws everything."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "gallery").resolve()
    folder.mkdir(parents=True, exist_ok=True)
    parts = [
        "# Gallery\n\nExamples that were run as they stand here, with what came out. `make gallery` runs them again and "
        "writes this page.\n"
    ]
    parts += [section(example, folder) for example in EXAMPLES]
    (ROOT / "docs" / "gallery.md").write_text("\n".join(parts), "utf-8")
    return 0


def section(example: Example, folder: Path) -> str:
    """An example's heading, command, answer and pictures."""
    place = folder / example.study
    place.mkdir(exist_ok=True)
    os.chdir(place)
    if not Path("nas_attn.db").is_file():
        subprocess.run([sys.executable, "-m", "nas_attn", *example.command.split()[1:]], check=True)
    now, drawn = snapshot(Database("sqlite:///nas_attn.db").study(example.study)), place / "figures"
    shutil.rmtree(drawn, ignore_errors=True)
    write_figures(
        {name: figure for name, figure in all_figures(now).items() if name in dict(example.figures)}, drawn, "svg"
    )
    PICTURES.mkdir(exist_ok=True)
    shown = []
    for name, said in example.figures:
        file = drawn / f"{name}.svg"
        if file.is_file():  # with few candidates some figures say nothing
            shutil.copyfile(file, PICTURES / f"{example.study}-{name}.svg")
            shown.append(f"![{said}](pictures/{example.study}-{name}.svg)\n\n{said}")
    best = now.recommendation
    answer = "\n".join(f"> {sentence}" for sentence in best.sentences) if best else "> Nothing is recommended."
    pictures = "\n\n".join(shown)
    return f"## {example.title}\n\n{example.why}\n\n```\n{example.command}\n```\n\n{answer}\n\n{pictures}\n"


if __name__ == "__main__":
    sys.exit(main())
