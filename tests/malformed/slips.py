"""Slips of the hand: in a text, in a word, in a TOML file."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

SPACE = """name = "mine"
[sites]
granularity = "stage"
positions = ["residual", "block"]
exclude = ["stage3"]
[choices]
se = { reduction = [2, 4] }
eca = {}
cbam = [{ reduction = [4], spatial_kernel_size = [3, 7] }]
[per_site.stage1]
choices = ["se", "none"]
[limits]
max_modules = 2
"""
RECIPE = """name = "mine"
space = "mine_space.toml"
objectives = ["score", "-effort"]
[backbone]
name = "resnet8"
width = 8
[data]
name = "external"
input_shape = [1, 12, 12]
classes = 4
[training]
start = "scratch"
rungs = [1, 2]
evaluator = "table_evaluator:evaluate"
learning_rate = 0.1
augment = [{ name = "flip" }]
[latency]
device = "cpu"
batch_size = 1
[search]
trials = 14
sampler = "tpe"
seed = 3
[limits]
max_latency_ratio = 1.5
"""
EVALUATOR = "def evaluate(model, run):\n    return {'score': 1.0, 'effort': 1.0}\n"
PLACEMENTS = (
    "stage1=se(reduction=2) stage2=eca",
    "*=simam",
    "none",
    "stage1@block=se(reduction=4) stage3=none",
    "stage2.block1=cbam(reduction=4, spatial_kernel_size=3)",
)
URLS = (
    "sqlite:///nas_attn.db",
    "sqlite:////tmp/nowhere/here/nas_attn.db",
    "sqlite://",
    "sqlite:///:memory:",
    "sqlite:///mine.toml",
    "sqlite+pysqlite:///file:x?mode=ro&uri=true",
    "postgresql+psycopg://user:secret@127.0.0.1:1/studies",
    "postgresql://127.0.0.1:1/studies?sslmode=require",
    "mysql://127.0.0.1/x",
)
SHAPES = (
    "3x32x32",
    "1x12x12",
    "3,32,32",
    "3x0x32",
    "-3x32x32",
    "3x32",
    "",
    "3x32x32x32",
    "1x1x1",
    "2x5x7",
)
BACKBONES = (
    "resnet8",
    "resnet14",
    "torchvision:alexnet",
    "torchvision:resnet18",
    "timm:resnet10t",
    "mine:model",
)
LETTERS = "\0\ufeff\n\t \"'[]{}()=,.:;#\\/%@~*?-+_019aZéß漢\u202e\U0001f4a5"
WORDS = (
    *(
        ".",
        "..",
        "/",
        "~",
        "~nobody_of_this_name/x",
        "/dev/null",
        "/proc/self/mem",
        "x/" * 3000,
        "",
        " ",
    ),
    *(
        "nan",
        "-1",
        "0",
        "1e400",
        "9" * 5000,
        "None",
        "[]",
        "{}",
        "--help",
        "%s%n",
        "{0.__class__}",
        "²",
    ),
    *("x" * 300, "a" * 70_000, "\udcff\udcfe"),
)
TOML = (
    *(
        '""',
        '"x"',
        "nan",
        "inf",
        "-1",
        "0",
        "1",
        "2.5",
        "1e400",
        "true",
        "[]",
        "{}",
        "[[]]",
        "1979-05-27T07:32:00",
    ),
    *(
        '"\\u0000"',
        '"nan"',
        "'''",
        '"/"',
        '"~nobody_of_this_name/x"',
        '"stage1"',
        '"*"',
        "9" * 40,
        "[1, 2, 3]",
    ),
    *('["none", 3]', "{ a = 1 }", "[" * 300 + "]" * 300, "[" * 5000 + "]" * 5000, "[" * 5000),
    *("{ a = " * 100 + "1" + " }" * 100, '"' + "long " * 800 + '"', "[" + "1, " * 3000 + "2]"),
)


@dataclass
class Case:
    """One thing to type, with what lies in the folder."""

    argv: list[str]
    files: dict[str, bytes] = field(default_factory=dict)
    base: str = ""  # `study` or `exported`: the folder holds a copy of that
    spoil: Callable[[Path], None] | None = None  # Damages what is in the folder
    damaged: bool = (
        False  # Whether a file may be found damaged, which is no user's error: exit status 1
    )


def spoiled(rng: random.Random, text: str) -> bytes:
    """A TOML file after one to three mishaps."""
    lines = text.splitlines()
    for _ in range(rng.choice((1, 1, 2, 3))):
        lines = rng.choice(LINE_MISHAPS)(rng, lines or [""])
    made = "\n".join(lines) + "\n"
    return rng.choices((_plain, _bytes), (9, 1))[0](rng, made)


def _at(lines: list[str], rng: random.Random) -> int:
    return rng.randrange(len(lines))


def _drop(rng: random.Random, lines: list[str]) -> list[str]:
    i = _at(lines, rng)
    return lines[:i] + lines[i + 1 :]


def _double(rng: random.Random, lines: list[str]) -> list[str]:
    i, j = _at(lines, rng), _at(lines, rng)
    return [*lines[:j], lines[i], *lines[j:]]


def _swap(rng: random.Random, lines: list[str]) -> list[str]:
    i, j, made = _at(lines, rng), _at(lines, rng), list(lines)
    made[i], made[j] = made[j], made[i]
    return made


def _value(rng: random.Random, lines: list[str]) -> list[str]:
    keyed = [i for i, line in enumerate(lines) if "=" in line] or [0]
    i, made = rng.choice(keyed), list(lines)
    made[i] = f"{made[i].partition('=')[0]}= {rng.choice(TOML)}"
    return made


def _number(rng: random.Random, lines: list[str]) -> list[str]:
    numbered = [i for i, line in enumerate(lines) if any(c.isdigit() for c in line)] or [0]
    i, made = rng.choice(numbered), list(lines)
    digits = [k for k, c in enumerate(made[i]) if c.isdigit()] or [0]
    k = rng.choice(digits)
    other = rng.choice(
        ("-1", "0", "-", ".", "e", "10000000000", "1e-9", "_", "99999999999999999999")
    )
    made[i] = made[i][:k] + other + made[i][k + 1 :]
    return made


def _key(rng: random.Random, lines: list[str]) -> list[str]:
    i, made = _at(lines, rng), list(lines)
    made[i] = letters(rng, made[i])
    return made


def _further(rng: random.Random, lines: list[str]) -> list[str]:
    i = _at(lines, rng)
    dotted = ".".join(["a"] * 400) + " = 1"
    new = rng.choice(
        (
            "colour = 3",
            "[colour]",
            "[[choices]]",
            "a.b.c = 1",
            dotted,
            "x" * 9000 + " = 1",
            "[choices]",
            "= 3",
        )
    )
    return [*lines[:i], new, *lines[i:]]


def _cut(rng: random.Random, lines: list[str]) -> list[str]:
    text = "\n".join(lines)
    return text[: rng.randrange(len(text) + 1)].splitlines()


LINE_MISHAPS = (
    _drop,
    _double,
    _swap,
    _value,
    _value,
    _value,
    _number,
    _number,
    _key,
    _key,
    _further,
    _cut,
)


def _plain(rng: random.Random, text: str) -> bytes:
    return text.encode("utf-8", "surrogatepass")


def _bytes(rng: random.Random, text: str) -> bytes:
    encoding = rng.choice(("latin-1", "utf-16", "utf-8-sig", "cp037", ""))
    if encoding:
        return text.encode(encoding, "replace")
    return rng.choice(
        (b"", b"\0" * 100, bytes(range(256)), text.encode()[::-1], b"\xff" + text.encode())
    )


def letters(rng: random.Random, text: str) -> str:
    """A text with a few letters changed, added, left out, or put elsewhere."""
    for _ in range(rng.choice((1, 1, 2, 4))):
        i = rng.randrange(len(text) + 1)
        what = rng.randrange(5)
        if what == 0:
            text = text[:i] + rng.choice(LETTERS) + text[i:]
        elif what == 1:
            text = text[:i] + text[i + 1 :]
        elif what == 2:
            text = text[:i] + rng.choice(LETTERS) + text[i + 1 :]
        elif what == 3:
            text = text[:i] + text[i + 1 : i + 2] + text[i : i + 1] + text[i + 2 :]
        else:
            j = rng.randrange(len(text) + 1)
            text = text[:i] + text[min(i, j) : max(i, j)] * rng.choice((1, 2, 500)) + text[i:]
    return text[:100_000]


def flipped(rng: random.Random, blob: bytes) -> bytes:
    """A file after a damage."""
    if not blob:
        return blob
    content = bytearray(blob)
    what = rng.randrange(4)
    if what == 0:
        return bytes(content[: rng.randrange(len(content))])
    if what == 1:
        return bytes(content) + rng.randbytes(rng.randrange(1, 5000))
    if what == 2:
        begin = rng.randrange(len(content))
        length = min(rng.choice((16, 512, 4096)), len(content) - begin)
        content[begin : begin + length] = rng.choice((bytes(length), rng.randbytes(length)))
        return bytes(content)
    for _ in range(rng.choice((1, 8, 100))):
        content[rng.randrange(len(content))] ^= 1 << rng.randrange(8)
    return bytes(content)


def word(rng: random.Random, *usual: str) -> str:
    """Something for a place where a word belongs; none that a shell could not pass on."""
    made = rng.choice(WORDS) if rng.random() < 0.4 else letters(rng, rng.choice(usual))
    return made.replace("\0", "") if rng.random() < 0.9 else made


def base_files(rng: random.Random, **changed: bytes) -> dict[str, bytes]:
    """A folder with a recipe, its space and its evaluator."""
    usual = {"mine.toml": RECIPE, "mine_space.toml": SPACE, "table_evaluator.py": EVALUATOR}
    return {name: text.encode() for name, text in usual.items()} | {
        n.replace("_toml", ".toml"): b for n, b in changed.items()
    }
