"""Writes docs/get-started/gallery.md, the answer in README, and the pictures of all pages from the
gallery's studies, which docs/gallery keeps: `make gallery`.

python docs/write_gallery.py                  # draws and words of today, of the studies as they are
python docs/write_gallery.py --run FOLDER     # first runs the examples there, and keeps them
"""

from __future__ import annotations

import argparse
import io
import os
import re
import shutil
import socket
import sqlite3
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageDraw
from rich.terminal_theme import MONOKAI

from nas_attn.answer import answer
from nas_attn.answer.reading import snapshot
from nas_attn.answer.snapshot import Snapshot
from nas_attn.cli.showing import show_answer
from nas_attn.cli.terminal import SafeConsole
from nas_attn.data.loading import load
from nas_attn.errors import OperationError
from nas_attn.report.browser import BROWSER_FLAGS, find_browser
from nas_attn.report.figures import all_figures
from nas_attn.report.figures.files import write_figures
from nas_attn.storage.database import Database
from nas_attn.system.paths import DEFAULT_URL

ROOT = Path(__file__).resolve().parents[1]
PAGE = ROOT / "docs" / "get-started" / "gallery.md"
PICTURES = ROOT / "docs" / "pictures"
KEPT = ROOT / "docs" / "gallery"
"""What was run: for each example, an archive with its database and what its commands printed."""
DATABASE = "nas_attn.db"
COLUMNS = 100
IMAGES = "images"
"""The picture that is no figure of a study."""
SHOTS = {"terminal": (990, 345), "report": (1000, 860), "dashboard": (1280, 860)}
"""What is photographed of the first example's study: width and height in pixels."""
HOW_IT_WAS_MADE = (
    "These commands were run as they stand here. The results are kept in"
    " `docs/gallery`: `make gallery` writes this page and its pictures from them."
    ' `make gallery ARGS="--run build/gallery"` runs the commands again.'
)


@dataclass(frozen=True)
class Example:
    """One search, and what of it is shown."""

    title: str
    study: str
    why: str
    commands: tuple[str, ...]
    """In this order. One of them leaves a study."""
    printed: tuple[int, ...]
    """Which of them, by index, are shown with what they printed."""
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
        " the recommended network is exported, run from the exported file alone, and at last"
        " trained as the target says.",
        (
            "nas-attn search cued-digits",
            "nas-attn export cued-digits --format onnx",
            "nas-attn validate-export cued-digits.onnx",
            "nas-attn retrain cued-digits",
        ),
        (1, 2),
        (
            (IMAGES, "Six of the images, and the right answers."),
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
        elsewhere=("curves",),
    ),
    Example(
        "Where it helps little",
        "digits",
        "Each image shows one digit among fragments of others: convolutions see everything that"
        " matters. Attention is not shown to help. A longer training helps, and a wider network"
        " probably does. The search trains each candidate as the target says, ten epochs from"
        " random weights. On idle cores, such a search takes a quarter of an hour. This one was"
        " stopped by Ctrl-C near its end, and resumed.",
        ("nas-attn search digits", "nas-attn resume digits"),
        (),
        (
            (IMAGES, "Six of the images, and the right answers."),
            (
                "front",
                "Accuracy against latency: placements are slower, and most are no more accurate.",
            ),
        ),
    ),
    Example(
        "Photographs and published weights",
        "photos",
        "900 photographs of five classes, and EfficientNet-Lite0 with its published weights at"
        " their own 224 pixels, an hour on one core. The first command enlarges images of CIFAR-10"
        " to 288 pixels. The file `lite0.pt` stands in for the internet, which this machine lacks:"
        " with internet, leave out `--target lite0.pt`, and timm loads the weights. The bare"
        " network, as the search trained it, is right on 908 of the 1,000 photographs in `unseen`,"
        " the one with CBAM on 914, and two networks may differ by ten or more by chance. On the"
        " 144 validation images, CBAM was ahead by 2, 2 and 5 images: it is mostly other studies"
        " that make the interval so narrow.",
        (
            "python docs/gallery/photographs.py DATA",
            (
                "nas-attn search photos --time 60m --backbone timm:tf_efficientnet_lite0"
                " --target lite0.pt --workers 1"
            ),
        ),
        (),
        (("front", "Three modules at every stage, and the search's own placement: none gains."),),
    ),
    Example(
        "A YOLO",
        "boxes",
        "One digit among fragments of others, in a box. The first command draws 300 images to train"
        " on. It also trains a YOLO11n for thirty epochs on 300 others, since no published weights"
        " were at hand. The search then trains it for three epochs more, with each module and"
        " without. It had 20 minutes on one busy core.",
        (
            "python docs/gallery/boxes.py",
            (
                "nas-attn init boxes.toml --task detection --data yolo:boxes/data.yaml"
                " --backbone ultralytics:yolo11n.pt"
            ),
            (
                "nas-attn search boxes.toml --set data.size=96 --set target.epochs=3 --time 20m"
                " --workers 1"
            ),
        ),
        (),
        (
            (
                "front",
                "Modules in all blocks of backbone and neck, and the search's own placements.",
            ),
        ),
    ),
)


def main() -> int:
    """Draws everything; runs the examples before if it is asked for."""
    options = argparse.ArgumentParser(description="Write the gallery and all pictures.")
    options.add_argument("--run", type=Path, metavar="FOLDER", help="run the examples there first")
    folder: Path | None = options.parse_args().run
    try:
        # before searches of half an hour
        find_browser()
    except OperationError as error:
        print(error, file=sys.stderr)
        return 1
    if folder is not None:
        for example in EXAMPLES:
            keep(example, run_all(example, folder.resolve() / example.study))
    PAGE.write_text(page(), "utf-8")
    answer = answer_of(EXAMPLES[0])
    readme = ROOT / "README.md"
    readme.write_text(with_answer(readme.read_text("utf-8"), answer), "utf-8")
    PICTURES.mkdir(exist_ok=True)
    for example in EXAMPLES:
        draw(example)
    photograph(EXAMPLES[0])
    return 0


def run_all(example: Example, place: Path) -> Path:
    """Runs an example's commands that have not been run in this folder; gives the folder."""
    place.mkdir(parents=True, exist_ok=True)
    for number, command in enumerate(example.commands):
        printed = place / printed_name(number)
        if not printed.is_file():
            printed.write_text(run(command, place), "utf-8")
    return place


def printed_name(number: int) -> str:
    """The file with what a command printed."""
    return f"printed-{number + 1}.txt"


def run(command: str, place: Path) -> str:
    """What a command prints in a folder; it is also shown on the terminal."""
    program, *words = command.split()
    own = ["-m", "nas_attn"] if program == "nas-attn" else [str(ROOT / words.pop(0))]
    done = subprocess.run(
        [sys.executable, *own, *words],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
        cwd=place,
        env={**os.environ, "COLUMNS": str(COLUMNS)},
    )
    sys.stdout.write(done.stdout)
    return done.stdout.replace(f"{place}{os.sep}", "")


def keep(example: Example, place: Path) -> None:
    """Packs what drawing needs of an example that was run in this folder."""
    KEPT.mkdir(exist_ok=True)
    with sqlite3.connect(place / DATABASE) as database:
        # else the last rows may be in a file beside it
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    with tarfile.open(archive(example), "w:xz") as packed:
        packed.add(place / DATABASE, DATABASE, filter=anonymous)
        for number in example.printed:
            name = printed_name(number)
            packed.add(place / name, name, filter=anonymous)


def anonymous(file: tarfile.TarInfo) -> tarfile.TarInfo:
    """Without the owner's name and number."""
    file.uid = file.gid = 0
    file.uname = file.gname = ""
    return file


def archive(example: Example) -> Path:
    """Where an example is kept."""
    return KEPT / f"{example.study}.tar.xz"


@contextmanager
def unpacked(example: Example) -> Iterator[Path]:
    """The folder of an example that was run."""
    with tempfile.TemporaryDirectory() as place:
        with tarfile.open(archive(example)) as packed:
            packed.extractall(place, filter="data")
        yield Path(place)


def page() -> str:
    """The gallery's page: each example's heading, commands, answer and pictures."""
    titles = [example.title for example in EXAMPLES]
    links = " · ".join(f"[{one.lower()}](#{one.lower().replace(' ', '-')})" for one in titles)
    head = f"# Gallery\n\nOn this page: {links}\n\n{HOW_IT_WAS_MADE}\n"
    return "\n".join([head, *map(section, EXAMPLES)])


def section(example: Example) -> str:
    """An example's heading, commands, answer and pictures."""
    commands = "\n".join(example.commands)
    parts = [
        f"## {example.title}",
        example.why,
        f"```\n{commands}\n```",
        f"The search answers:\n\n```text\n{answer_of(example)}\n```",
    ]
    with unpacked(example) as place:
        for number in example.printed:
            lines = (place / printed_name(number)).read_text("utf-8").strip().splitlines()
            printed = "\n".join(line.rstrip() for line in lines)
            parts.append(f"`{example.commands[number]}`\n\n```text\n{printed}\n```")
        titles = messages(example, place)
    for name, text in example.figures:
        alternative = titles.get(name, name)
        parts.append(f"![{alternative}](../pictures/{picture(example, name)})\n\n{text}")
    return "\n\n".join(parts) + "\n"


def messages(example: Example, place: Path) -> dict[str, str]:
    """What each figure says, for who cannot see it."""
    figures = all_figures(answer.answer_of(study_in(place, example)))
    return {name: figure.layout.meta["message"] for name, figure in figures.items()}


def study_in(place: Path, example: Example) -> Snapshot:
    """What is known of an example's study."""
    return snapshot(Database(f"sqlite:///{place / DATABASE}").study(example.study))


def answer_of(example: Example) -> str:
    """What is said of an example's study today: what a search prints at its end."""
    said = io.StringIO()
    with unpacked(example) as place:
        now = study_in(place, example)
    console = SafeConsole(file=said, width=COLUMNS, highlight=False)
    show_answer(console, answer.answer_of(now), DEFAULT_URL)
    return said.getvalue().rstrip()


def with_answer(page: str, answer: str) -> str:
    """A README with the answer of the first example."""
    return re.sub(
        r"(?<=```\n)(?:Take|Keep|Train) .+?(?=\n```)", lambda _: answer, page, flags=re.DOTALL
    )


def pictures() -> list[str]:
    """The names of all pictures that are drawn here."""
    figures = [picture(example, name) for example in EXAMPLES for name in wanted(example)]
    return [*figures, *(f"{name}.png" for name in SHOTS)]


def wanted(example: Example) -> list[str]:
    """An example's pictures, the gallery's and those of other pages."""
    return [*(name for name, _ in example.figures), *example.elsewhere]


def picture(example: Example, name: str) -> str:
    """The file of one of an example's pictures."""
    return f"{example.study}-{name}.{'png' if name == IMAGES else 'svg'}"


def draw(example: Example) -> None:
    """Puts an example's pictures among the documentation's."""
    with unpacked(example) as place:
        now = study_in(place, example)
        there = all_figures(answer.answer_of(now))
        drawn = place / "figures"
        write_figures(
            {name: there[name] for name in wanted(example) if name != IMAGES}, drawn, "svg"
        )
        if IMAGES in wanted(example):
            sample(now).save(drawn / f"{IMAGES}.png")
        for file in drawn.iterdir():
            shutil.copyfile(file, PICTURES / f"{example.study}-{file.name}")


def photograph(example: Example) -> None:
    """Takes the pictures of the terminal, the report and the dashboard."""
    with unpacked(example) as place:
        console = SafeConsole(file=io.StringIO(), record=True, force_terminal=True, width=COLUMNS)
        show_answer(console, answer.answer_of(study_in(place, example)), DEFAULT_URL)
        (place / "terminal.html").write_text(console.export_html(theme=MONOKAI), "utf-8")
        run(f"nas-attn report {example.study} --output report.html", place)
        for name in ("terminal", "report"):
            shoot(name, (place / f"{name}.html").as_uri())
        with dashboard(place) as address:
            shoot("dashboard", f"{address}/dashboard/studies/1/note")


def shoot(name: str, address: str) -> None:
    """Lets a browser without a window take a picture of a page."""
    width, height = SHOTS[name]
    flags = (*BROWSER_FLAGS, "--hide-scrollbars", "--virtual-time-budget=20000")
    size = f"--window-size={width},{height}"
    picture = f"--screenshot={PICTURES / f'{name}.png'}"
    subprocess.run([find_browser(), *flags, size, picture, address], check=True, timeout=180)


@contextmanager
def dashboard(place: Path) -> Iterator[str]:
    """The address of an optuna-dashboard over the database of a folder."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    program = Path(sys.executable).with_name("optuna-dashboard")
    process = subprocess.Popen(
        [program, f"sqlite:///{DATABASE}", "--port", str(port)],
        cwd=place,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        for _ in range(600):
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 0.1):
                break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


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
