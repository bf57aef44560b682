"""Runs the gallery's examples, writes docs/gallery.md, the answer in README, and the pictures of
all pages: `make gallery`.

python docs/write_gallery.py [FOLDER]     # the folder of the studies; one that exists is only drawn
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw

from nas_attn.analysis.snapshot import Snapshot
from nas_attn.data.loading import load
from nas_attn.errors import OperationError
from nas_attn.report.browser import find_browser
from nas_attn.report.figures import all_figures
from nas_attn.report.figures.files import write_figures
from nas_attn.storage import Database
from nas_attn.study.reading import snapshot

ROOT = Path(__file__).resolve().parents[1]
PICTURES = ROOT / "docs" / "pictures"


@dataclass(frozen=True)
class Example:
    """One search, and what of it is shown."""

    title: str
    study: str
    why: str
    commands: tuple[str, ...]
    """The first one leaves a study; what the others print is shown."""
    figures: tuple[tuple[str, str], ...]
    """(figure, what it shows)."""
    elsewhere: tuple[str, ...] = ()
    """Figures that other pages show."""


EXAMPLES = (
    Example(
        "Where attention is needed",
        "cued-digits",
        "Each image shows two digits, and a bar far from both says which one is meant. So the"
        " network must carry information across the image. The search has twenty candidates. Then"
        " the recommended network is exported, and run from its file alone.",
        (
            "nas-attn search cued-digits",
            "nas-attn export cued-digits --format onnx",
            "nas-attn check-export cued-digits.onnx",
        ),
        (
            ("images", "Six of the images, and the right answers."),
            (
                "front",
                (
                    "Accuracy against latency, with 95 % intervals: the front, the bare backbone"
                    " and the uniform baselines."
                ),
            ),
            (
                "effects-accuracy",
                "What each choice adds to the accuracy at each site, in points; blue is better.",
            ),
            (
                "effects-latency",
                "What each choice adds to the latency, in per cent of the backbone's.",
            ),
        ),
        elsewhere=("curves", "noise"),
    ),
    Example(
        "Where it helps little",
        "digits",
        "One digit among fragments of others: convolutions see everything that matters. Attention"
        " is not shown to help; a wider network probably does. The search trains each candidate as"
        " the target says, ten epochs from random weights. On idle cores it takes a quarter of an"
        " hour; this one ran beside other work, and was stopped before nine of its twelve"
        " confirming runs.",
        ("nas-attn search digits",),
        (
            ("images", "Six of the images, and the right answers."),
            (
                "front",
                "The same figure: placements are slower, and most of them no more accurate.",
            ),
            (
                "noise",
                (
                    "The runs of one candidate (marks) differ much more than the candidates'"
                    " estimates."
                ),
            ),
        ),
    ),
)


def main() -> int:
    """Runs what is not there, draws everything."""
    try:
        # before searches of half an hour
        find_browser()
    except OperationError as error:
        print(error, file=sys.stderr)
        return 1
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else ROOT / "build" / "gallery").resolve()
    PICTURES.mkdir(exist_ok=True)
    parts = [
        (
            "# Gallery\n\nOn this page: [where attention is needed](#where-attention-is-needed) ·"
            " [where it helps little](#where-it-helps-little)\n\nThese examples were run exactly as"
            " shown. `make gallery` runs them again and writes this page.\n"
        )
    ]
    parts += [section(example, folder / example.study) for example in EXAMPLES]
    (ROOT / "docs" / "gallery.md").write_text("\n".join(parts), "utf-8")
    for page in (ROOT / "README.md", ROOT / "docs" / "zh" / "README.md"):
        page.write_text(with_answer(page.read_text("utf-8"), parts[1]), "utf-8")
    return 0


def with_answer(page: str, section: str) -> str:
    """A README with the answer of the first example."""
    answer = section.partition("```text\n")[2].partition("\n```")[0]
    return re.sub(r"(?<=```\n)(?:Take|Keep) .+?(?=\n```)", lambda _: answer, page, flags=re.DOTALL)


def section(example: Example, place: Path) -> str:
    """An example's heading, commands, answer and pictures; runs what has not been run in its
    folder.
    """
    place.mkdir(parents=True, exist_ok=True)
    os.chdir(place)
    kept = Path("printed-1.txt")
    if not kept.is_file():
        kept.write_text(run(example.commands[0]), "utf-8")
    # the answer; the front follows
    shown = kept.read_text("utf-8").partition("\nStudy ")[0].rstrip()
    printed = [said(command, number) for number, command in enumerate(example.commands[1:], 2)]
    now = snapshot(Database("sqlite:///nas_attn.db").study(example.study))
    pictures = draw(example, now, place / "figures")
    parts = [f"## {example.title}", example.why]
    commands = "\n".join(example.commands)
    parts += [f"```\n{commands}\n```", f"The search answers:\n\n```text\n{shown}\n```", *printed]
    parts += [
        f"![{Path(name).stem}](pictures/{example.study}-{name})\n\n{text}"
        for name, text in pictures
    ]
    return "\n\n".join(parts) + "\n"


def run(command: str) -> str:
    """What a command prints; it is also shown on the terminal."""
    words = [sys.executable, "-m", "nas_attn", *command.split()[1:]]
    done = subprocess.run(
        words, check=True, stdout=subprocess.PIPE, text=True, env={**os.environ, "COLUMNS": "100"}
    )
    sys.stdout.write(done.stdout)
    return done.stdout


def said(command: str, number: int) -> str:
    """A command and what it printed, when it was run."""
    kept = Path(f"printed-{number}.txt")
    if not kept.is_file():
        kept.write_text(run(command), "utf-8")
    lines = kept.read_text("utf-8").replace(f"{Path.cwd()}/", "").strip().splitlines()
    text = "\n".join(line.rstrip() for line in lines)
    return f"`{command}`\n\n```text\n{text}\n```"


def draw(example: Example, now: Snapshot, drawn: Path) -> list[tuple[str, str]]:
    """Puts an example's pictures among the documentation's; gives (name of the file without the
    study's, text) of the gallery's.
    """
    shutil.rmtree(drawn, ignore_errors=True)
    wanted = dict(example.figures) | dict.fromkeys(example.elsewhere, "")
    write_figures(
        {name: figure for name, figure in all_figures(now).items() if name in wanted}, drawn, "svg"
    )
    if "images" in wanted:
        sample(now).save(drawn / "images.png")
    for file in drawn.iterdir():
        shutil.copyfile(file, PICTURES / f"{example.study}-{file.name}")
    there = {
        file.stem: file.name for file in drawn.iterdir()
    }  # with few candidates some figures say nothing
    return [(there[name], text) for name, text in example.figures if name in there]


def sample(now: Snapshot, *, count: int = 6, width: int = 140) -> Image.Image:
    """The first images of the validation split in a row, enlarged and framed, each with its
    class.
    """
    data = load(now.recipe.data, device="cpu")
    images, labels = next(iter(data.validation.stored(count)))
    high, wide = images.shape[-2:]
    height, gap, line = width * high // wide, 10, 22
    sheet = Image.new("RGB", (count * (width + gap) - gap, height + line), "white")
    drawing = ImageDraw.Draw(sheet)
    for number, (image, label) in enumerate(zip(images, labels, strict=True)):
        pixels, left = image.permute(1, 2, 0).contiguous().numpy(), number * (width + gap)
        shown = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
        sheet.paste(shown.resize((width, height), Image.Resampling.NEAREST), (left, 0))
        drawing.rectangle((left, 0, left + width - 1, height - 1), outline="#2f81d6", width=2)
        drawing.text(
            (left + width / 2, height + 4),
            data.classes[int(label)],
            fill="#333",
            anchor="ma",
            font_size=15,
        )
    return sheet


if __name__ == "__main__":
    sys.exit(main())
