"""How large the project is, against the limits it set itself: `make limits`. Exits with 1 when a limit is exceeded."""

from __future__ import annotations

import sys
import typing
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
SIZES = {
    "lines of nas_attn": 36_000,
    "lines of tests": 24_000,
    "recipe keys": 95,
    "distinct options": 75,
    "commands": 21,
    "words of user documentation": 15_000,
    "lines of README.md": 120,
}


def main() -> int:
    """Prints each size beside its limit."""
    counted = sizes()
    width = max(map(len, SIZES))
    for name, limit in SIZES.items():
        over = "  EXCEEDED" if counted[name] > limit else ""
        print(f"{name:{width}}  {counted[name]:>7,}  of {limit:>7,}{over}")
    return int(any(counted[name] > limit for name, limit in SIZES.items()))


def sizes() -> dict[str, int]:
    """What `SIZES` limits, as it is now."""
    commands, options = command_line()
    pages = [ROOT / "README.md", *(page for page in (ROOT / "docs").glob("*.md") if page.name != "benchmarks.md")]
    return {
        "lines of nas_attn": lines("nas_attn"),
        "lines of tests": lines("tests"),
        "recipe keys": len(list(recipe_keys())),
        "distinct options": options,
        "commands": commands,
        "words of user documentation": sum(len(page.read_text("utf-8").split()) for page in pages),
        "lines of README.md": len(pages[0].read_text("utf-8").splitlines()),
    }


def lines(folder: str) -> int:
    """Lines of all Python files in a folder."""
    return sum(len(file.read_text("utf-8").splitlines()) for file in (ROOT / folder).rglob("*.py"))


def recipe_keys() -> Iterator[str]:
    """The dotted names of all keys of a recipe and of a search space."""
    from nas_attn.recipe import Recipe
    from nas_attn.space_schema import Section, SpaceSpec

    def keys(section: type[Section], path: str) -> Iterator[str]:
        for name, field in section.model_fields.items():
            inside = [a for a in (field.annotation, *typing.get_args(field.annotation)) if isinstance(a, type)]
            nested = [a for a in inside if issubclass(a, Section) and a is not SpaceSpec]
            if nested:
                yield from keys(nested[0], f"{path}{name}.")
            elif not field.exclude:
                yield f"{path}{name}"

    yield from keys(Recipe, "")
    yield from keys(SpaceSpec, "space:")


def command_line() -> tuple[int, int]:
    """The numbers of commands and of differently named options."""
    import typer.main

    from nas_attn.cli.main import app

    commands = typer.main.get_command(app).commands.values()  # type: ignore[attr-defined]
    options = {p.opts[0] for c in commands for p in c.params if p.param_type_name == "option"}
    return len(commands), len(options)


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
