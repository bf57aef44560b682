"""Malformed input made from a seed: what a slip of the hand, a wrong file or a damaged disk may give the command line."""

from __future__ import annotations

import json
import random
from collections.abc import Callable, Mapping

import received
import typer.main
from slips import BACKBONES, PLACEMENTS, RECIPE, SHAPES, SPACE, TOML, URLS, Case, base_files, letters, spoiled, word
from spoiled_files import databases, weights

from nas_attn.cli.main import app
from nas_attn.recipe import Recipe, Section


def recipes(rng: random.Random) -> Case:
    return Case(["search", "mine.toml", "--dry-run"], base_files(rng, mine_toml=spoiled(rng, RECIPE)))


def spaces(rng: random.Random) -> Case:
    files = base_files(rng, mine_space_toml=spoiled(rng, SPACE))
    return Case(["sites", "resnet8", "--space", "mine_space.toml", "--input", "1x12x12"], files)


def placements(rng: random.Random) -> Case:
    return Case(["search", "mine.toml", "--dry-run", "--try", word(rng, *PLACEMENTS)], base_files(rng))


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
        return Case(["modules", name, "--channels", channels, "--set", f"{knob}={rng.choice(TOML)}"])
    key = rng.choice(KEYS) if rng.random() < 0.8 else word(rng, *KEYS)
    value = rng.choice(TOML) if rng.random() < 0.6 else word(rng, "digits", "resnet8", "12")
    typed = f"{key}={value}" if rng.random() < 0.95 else letters(rng, f"{key}={value}")
    return Case(["search", "mine.toml", "--dry-run", "--set", typed], base_files(rng))


def urls(rng: random.Random) -> Case:
    url = word(rng, *URLS)
    if "postgresql" in url and "127.0.0.1:" not in url:  # a name that would be looked up in a network
        url = letters(rng, URLS[0])
    command = rng.choice((["status"], ["pareto", "mine"], ["backup", "copy.db"], ["resume"], ["export"]))
    return Case([*command, "--storage", url], base_files(rng))


def shapes(rng: random.Random) -> Case:
    shape = word(rng, *SHAPES)
    if rng.random() < 0.3:
        side = rng.choice(("0", "-1", "1", "x", "9" * 30, "1e3", "", "7"))
        return Case(
            ["modules", rng.choice(("se", "eca", "coord", "mhsa", "triplet")), "--channels", side, "--size", shape[:40]]
        )
    backbone = rng.choice(("resnet8", "preact_resnet8", "resnet8", "torchvision:alexnet"))
    if rng.random() < 0.5:
        return Case(["sites", backbone, "--space", "small", "--input", shape])
    return Case(["sites", backbone, "--input", shape])


COMMANDS = typer.main.get_command(app).commands  # type: ignore[attr-defined]
HARMLESS = {
    "search": ["mine.toml", "--dry-run"],
    "init": ["new.toml", "--yes"],
    "sites": ["resnet8", "--input", "1x12x12"],
    "modules": ["se"],
    "latency": ["none", "--study", "mine"],
    "check-export": ["mine.pt"],
    "clean": ["mine", "--dry-run"],
}
"""Arguments with which a command does little, whatever else is said; others find no study where they look."""


def commands(rng: random.Random) -> Case:
    """Any command with any of its options: a name, a value or two that do not fit."""
    name = rng.choice([name for name in COMMANDS if name != "doctor"])
    argv = [name, *HARMLESS.get(name, ["mine"])]
    offered = [p for p in COMMANDS[name].params if p.param_type_name == "option" and "--help" not in p.opts]
    if any("--storage" in parameter.opts for parameter in offered):
        argv += ["--storage", "sqlite:///nowhere/nas_attn.db"]
    if rng.random() < 0.4:
        argv[1] = word(rng, argv[1], *BACKBONES, "small", "digits", "mine:Attention", "cbam")
    for parameter in rng.sample(offered, min(len(offered), rng.choice((0, 1, 1, 2)))):
        argv.append(rng.choice(parameter.opts))
        if not parameter.is_flag:
            argv.append(word(rng, "mine", "3", "1.5", "cpu", "se=2", "stage1=se", "plug_and_play", "digits", "resnet8"))
    return Case(argv, base_files(rng))


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
    odd = {name: blob[:300] for name, blob in case.files.items() if usual.get(name) != blob and b"\0" not in blob[:20]}
    return (
        json.dumps(case.argv)[:800]
        + (f" with {odd!r}" if odd else "")
        + (f" beside a spoiled {case.base}" if case.base else "")
    )
