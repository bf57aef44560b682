"""Malformed input made from a seed: what a slip of the hand, a wrong file or a damaged disk may
give the command line.
"""

from __future__ import annotations

import io
import json
import math
import random
import re
import sqlite3
from collections.abc import Callable, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import received
import torch
import typer.main
from slips import (
    BACKBONES,
    PLACEMENTS,
    RECIPE,
    SHAPES,
    SPACE,
    TOML,
    URLS,
    Case,
    base_files,
    flipped,
    letters,
    spoiled,
    word,
)

from nas_attn.cli.main import app
from nas_attn.recipe.recipe import Recipe, Section


def recipes(rng: random.Random) -> Case:
    return Case(
        ["search", "mine.toml", "--dry-run"], base_files(rng, mine_toml=spoiled(rng, RECIPE))
    )


def spaces(rng: random.Random) -> Case:
    files = base_files(rng, mine_space_toml=spoiled(rng, SPACE))
    return Case(["search", "mine.toml", "--set", "space=mine_space.toml", "--dry-run"], files)


def placements(rng: random.Random) -> Case:
    return Case(
        ["search", "mine.toml", "--dry-run", "--placement", word(rng, *PLACEMENTS)], base_files(rng)
    )


def _leaves(model: type[Section], prefix: str = "") -> list[str]:
    found = []
    for name, info in model.model_fields.items():
        inner = info.annotation
        if isinstance(inner, type) and issubclass(inner, Section):
            found += [f"{prefix}{name}", *_leaves(inner, f"{prefix}{name}.")]
        else:
            found.append(f"{prefix}{name}")
    return found


KEYS = _leaves(Recipe)


def settings(rng: random.Random) -> Case:
    if rng.random() < 0.2:
        knob = word(rng, "reduction", "kernel_size", "variant", "groups")
        name = rng.choice(("se", "eca", "ela", "cbam", "mhsa", "gam", "strips"))
        channels = str(rng.choice((1, 2, 7, 64, 256)))
        return Case(
            ["modules", name, "--channels", channels, "--set", f"{knob}={rng.choice(TOML)}"]
        )
    key = rng.choice(KEYS) if rng.random() < 0.8 else word(rng, *KEYS)
    value = rng.choice(TOML) if rng.random() < 0.6 else word(rng, "digits", "resnet8", "12")
    typed = f"{key}={value}" if rng.random() < 0.95 else letters(rng, f"{key}={value}")
    return Case(["search", "mine.toml", "--dry-run", "--set", typed], base_files(rng))


def urls(rng: random.Random) -> Case:
    url = word(rng, *URLS)
    if (
        "postgresql" in url and "127.0.0.1:" not in url
    ):  # a name that would be looked up in a network
        url = letters(rng, URLS[0])
    command = rng.choice(
        (["status"], ["show", "mine"], ["backup", "copy.db"], ["resume"], ["export"])
    )
    return Case([*command, "--storage", url], base_files(rng))


def shapes(rng: random.Random) -> Case:
    shape = word(rng, *SHAPES)
    if rng.random() < 0.3:
        side = rng.choice(("0", "-1", "1", "x", "9" * 30, "1e3", "", "7"))
        return Case(
            [
                "modules",
                rng.choice(("se", "eca", "coord", "mhsa", "triplet")),
                "--channels",
                side,
                "--size",
                shape[:40],
            ]
        )
    backbone = rng.choice(("resnet8", "resnet14", "resnet8", "torchvision:alexnet"))
    if rng.random() < 0.5:
        return Case(["sites", backbone, "--space", "small", "--input", shape])
    return Case(["sites", backbone, "--input", shape])


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
HARMLESS = {
    "search": ["mine.toml", "--dry-run"],
    "init": ["new.toml"],
    "sites": ["resnet8", "--input", "1x12x12"],
    "modules": ["se"],
    "latency": ["none", "--study", "mine"],
    "validate-export": ["mine.pt"],
    "clean": ["mine", "--dry-run"],
}
"""Arguments with which a command does little, whatever else is said; others find no study where
they look.
"""


def commands(rng: random.Random) -> Case:
    """Any command with any of its options: a name, a value or two that do not fit."""
    name = rng.choice([name for name in COMMANDS if name != "doctor"])
    argv = [name, *HARMLESS.get(name, ["mine"])]
    offered = [
        p for p in COMMANDS[name].params if p.param_type_name == "option" and "--help" not in p.opts
    ]
    if any("--storage" in parameter.opts for parameter in offered):
        argv += ["--storage", "sqlite:///nowhere/nas_attn.db"]
    if rng.random() < 0.4:
        argv[1] = word(rng, argv[1], *BACKBONES, "small", "digits", "mine:Attention", "cbam")
    for parameter in rng.sample(offered, min(len(offered), rng.choice((0, 1, 1, 2)))):
        argv.append(rng.choice(parameter.opts))
        if not parameter.is_flag:
            argv.append(
                word(
                    rng,
                    "mine",
                    "3",
                    "1.5",
                    "cpu",
                    "se=2",
                    "stage1=se",
                    "plug_and_play",
                    "digits",
                    "resnet8",
                )
            )
    return Case(argv, base_files(rng))


PRETRAINED = ["--set", "training.start=pretrained", "--set", "training.weights={}"]


def weights(rng: random.Random) -> Case:
    state = _network()
    name = rng.choice(("w.pt", "w.pt", "w.pt", "w.pth", "w.npz", "w.safetensors", "w.bin"))
    content = rng.choice(WEIGHT_MISHAPS)(rng, state)
    blob = content if isinstance(content, bytes) else _saved(content)
    if rng.random() < 0.3:
        blob = flipped(rng, blob)
    options = [option.format(name) for option in PRETRAINED]
    return Case(["search", "mine.toml", "--dry-run", *options], base_files(rng) | {name: blob})


def _network() -> dict[str, Any]:
    from nas_attn import backbones
    from nas_attn.recipe.recipe import BackboneSection

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        section = BackboneSection(name="resnet8", width=8)
        return dict(backbones.build(section, input_shape=(1, 12, 12), classes=4).state_dict())


def _saved(content: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer)
    return buffer.getvalue()


def _some(rng: random.Random, state: Mapping[str, Any]) -> str:
    return rng.choice(list(state))


def _replaced(rng: random.Random, state: dict[str, Any]) -> Any:
    name = _some(rng, state)
    old = state[name]
    tensors: tuple[Any, ...] = (
        torch.zeros(()),
        torch.zeros(0),
        torch.zeros(2, 3, 4, 5, 6),
        old.double(),
        old.flatten(),
        old.bool(),
    )
    tensors += (
        torch.full_like(old, 2),
        torch.full(old.shape, math.nan),
        torch.full(old.shape, -math.inf),
    )
    tensors += (old.to(torch.complex64), old.to_sparse() if old.ndim else old, old.to("meta"))
    return {**state, name: rng.choice((*tensors, None, 3, "x", [], {}, b"bytes", torch.float32))}


def _renamed(rng: random.Random, state: dict[str, Any]) -> Any:
    name = _some(rng, state)
    return {(letters(rng, key) if key == name else key): value for key, value in state.items()}


def _prefixed(rng: random.Random, state: dict[str, Any]) -> Any:
    prefix = rng.choice(
        ("module.", "model.", "net.", "a.b.c.", "nas_attn.", ".", "", "x" * 500 + ".")
    )
    return {f"{prefix}{key}": value for key, value in state.items()}


def _wrapped(rng: random.Random, state: dict[str, Any]) -> Any:
    made: Any = state
    for _ in range(rng.randrange(1, 7)):
        made = {
            rng.choice(("state_dict", "model", "ema", "x", "", 3, "y" * 999)): made,
            **({"epoch": 3} if rng.random() < 0.5 else {}),
        }
    return made


def _other(rng: random.Random, state: dict[str, Any]) -> Any:
    values: tuple[Any, ...] = (None, 3, "text", [], {}, list(state), list(state.values()), {"a": 1})
    return rng.choice((*values, torch.zeros(3), {3: torch.zeros(3)}, {"": torch.zeros(3)}))


def _fewer(rng: random.Random, state: dict[str, Any]) -> Any:
    return {name: value for name, value in state.items() if rng.random() < 0.9}


def _more(rng: random.Random, state: dict[str, Any]) -> Any:
    return {
        **state,
        word(rng, "layer1.1.conv1.weight", "fc.weight", "x._extra_state"): torch.zeros(
            rng.randrange(4)
        ),
    }


NO_WEIGHTS = (
    *(
        b"",
        b"hello\n",
        b"\x80\x04K\x03.",
        b"PK\x03\x04",
        b"PK\x05\x06" + bytes(18),
        b"\x93NUMPY",
        bytes(1000),
    ),
    *(
        b"version https://git-lfs",
        b"{}",
        (2**63).to_bytes(8, "little") + b"{}",
        (8).to_bytes(8, "little") + b'{"a":{}}',
    ),
)


def _no_state(rng: random.Random, state: dict[str, Any]) -> bytes:
    return rng.choice(NO_WEIGHTS)


WEIGHT_MISHAPS: tuple[Callable[[random.Random, dict[str, Any]], Any], ...] = (
    *(_replaced, _replaced, _renamed, _prefixed, _wrapped, _other, _fewer, _more, _no_state),
)

READING = """status; status made; show; show --json; report -o out.html; effects; effects made --of latency; backup copy.db
test --dry-run; clean made --dry-run; stop made --no-wait; export made"""
STRANGE = (
    *("", "x", "{}", "[]", "null", "[[]]", '{"a": NaN}', "stage1=", "none", "9" * 5000, "[" * 3000),
    *(None, -1, 0, 2**62, 1e308, b"\xff\0"),
)


def databases(rng: random.Random) -> Case:
    argv = rng.choice(re.split("[;\n]", READING)).split()
    if rng.random() < 0.35:
        damage = rng.getrandbits(64)

        def spoil(folder: Path) -> None:
            path = folder / "nas_attn.db"
            path.write_bytes(flipped(random.Random(damage), path.read_bytes()))

        return Case(argv, base="study", spoil=spoil, damaged=True)
    number = rng.getrandbits(64)
    return Case(
        argv,
        base="study",
        spoil=lambda folder: _rewrite(random.Random(number), folder),
        damaged=True,
    )


def _rewrite(rng: random.Random, folder: Path) -> None:
    """A value, a row, a column or a table that is not as we wrote it."""
    with closing(sqlite3.connect(folder / "nas_attn.db")) as connection:
        listed = connection.execute(
            "SELECT name FROM sqlite_master WHERE type = 'table' AND name NOT LIKE 'sqlite_%' ORDER"
            " BY name"
        )
        tables = [name for (name,) in listed]
        ours = [name for name in tables if name.startswith("nas_")]
        connection.execute("PRAGMA foreign_keys = OFF")
        for _ in range(rng.choice((1, 1, 3))):
            table = rng.choice(ours if rng.random() < 0.8 else tables)
            columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})")]
            if not columns:  # dropped before
                continue
            column, what = rng.choice(columns), rng.random()
            try:
                if what < 0.75:
                    some = rng.choice(("", " WHERE rowid = (SELECT min(rowid) FROM " + table + ")"))
                    connection.execute(
                        f"UPDATE OR IGNORE {table} SET {column} = ?{some}", (rng.choice(STRANGE),)
                    )
                elif what < 0.85:
                    connection.execute(f"DELETE FROM {table}")
                elif what < 0.93:
                    connection.execute(f"DROP TABLE {table}")
                else:
                    connection.execute(f"ALTER TABLE {table} RENAME COLUMN {column} TO renamed")
            except sqlite3.Error:
                continue
        connection.commit()


def case(seed: str, number: int) -> Case:
    """A malformed input; the same for the same seed and number. The kinds take turns."""
    kinds = list(KINDS.values())
    return kinds[number % len(kinds)](random.Random(f"{seed}/{number}"))


KINDS: Mapping[str, Callable[[random.Random], Case]] = {
    "recipe": recipes,
    "space": spaces,
    "placement": placements,
    "setting": settings,
    "url": urls,
    "shape": shapes,
    "weights": weights,
    "database": databases,
    "command": commands,
} | received.KINDS


def described(case: Case) -> str:
    """The case for a message: what to type, and the beginnings of files that are not the usual."""
    usual = base_files(random.Random(0))
    odd = {
        name: blob[:300]
        for name, blob in case.files.items()
        if usual.get(name) != blob and b"\0" not in blob[:20]
    }
    return (
        json.dumps(case.argv)[:800]
        + (f" with {odd!r}" if odd else "")
        + (f" beside a spoiled {case.base}" if case.base else "")
    )
