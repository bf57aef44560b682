"""Builds the documentation site into build/site, or the folder SITE: the repository's pages as they
are, and the references from the code.

python docs/write_site.py        # `make site`
"""

from __future__ import annotations

import inspect
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SITE = Path(os.environ.get("SITE", ROOT / "build" / "site"))
PAGES = SITE.with_name("pages")
LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")
SKIPPED = ("tests/", "build/")


def main() -> int:
    """Gives mkdocs' exit status."""
    shutil.rmtree(PAGES, ignore_errors=True)
    for page in tracked_pages():
        copy(page)
    (PAGES / "index.md").write_text((PAGES / "README.md").read_text("utf-8"), "utf-8")
    (PAGES / "README.md").unlink()
    write("docs/reference/commands.md", commands())
    write("docs/reference/python.md", python())
    build = [
        sys.executable,
        "-m",
        "mkdocs",
        "build",
        "--strict",
        "--config-file",
        str(ROOT / "mkdocs.yml"),
        "--site-dir",
        str(SITE),
    ]
    # what the theme says of its successor on each build
    quiet = {"NO_MKDOCS_2_WARNING": "1"}
    variables = {**os.environ, **quiet, "PAGES": str(PAGES)}
    return subprocess.run(build, check=False, env=variables).returncode


def tracked_pages() -> list[Path]:
    """The Markdown files of the repository that are for its users."""
    listed = subprocess.run(
        ["git", "ls-files", "*.md"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout
    return [ROOT / name for name in listed.splitlines() if not name.startswith(SKIPPED)]


def copy(page: Path) -> None:
    """A page, and the files that it links to."""
    text = page.read_text("utf-8")
    for target in LINK.findall(text):
        file = (page.parent / target).resolve()
        if file.is_dir():  # of the repository, not of the site
            text = re.sub(rf"\[([^\]]*)\]\({re.escape(target)}\)", r"\1", text)
        if file == ROOT / "README.md":
            text = text.replace(f"]({target})", f"]({target.removesuffix('README.md')}index.md)")
        if file.is_file() and file.suffix != ".md":
            copied = PAGES / file.relative_to(ROOT)
            copied.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, copied)
    write(str(page.relative_to(ROOT)), text)


def write(name: str, text: str) -> None:
    """One page of the site."""
    path = PAGES / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, "utf-8")


def commands() -> str:
    """The command line, as `-h` says it."""
    import typer.main

    from nas_attn.cli.main import app

    parts = ["# Commands\n\nWhat `nas-attn COMMAND -h` says.\n"]
    for name, command in sorted(shown_commands(typer.main.get_command(app))):
        context = command.make_context(name, [], resilient_parsing=True)
        shown = command.get_help(context).replace(f"Usage: {name}", f"Usage: nas-attn {name}")
        parts.append(f"## nas-attn {name}\n\n```text\n{shown.strip()}\n```\n")
    return "\n".join(parts)


def shown_commands(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """(name as it is typed, command), those of groups included; former names are left out."""
    for name, command in group.commands.items():
        if command.hidden:
            continue
        if hasattr(command, "commands"):
            yield from shown_commands(command, f"{name} ")
        else:
            yield before + name, command


def python() -> str:
    """What `import nas_attn as na` offers, from its docstrings."""
    import nas_attn

    parts = ["# Python\n\n`import nas_attn as na`. Everything is loaded when it is first used.\n"]
    for name in sorted(set(nas_attn.__all__) - {"__version__"}, key=str.lower):
        thing = getattr(nas_attn, name)
        parts.append(f"## na.{name}\n\n{described(name, thing)}")
        if inspect.isclass(thing) and not hasattr(thing, "model_fields"):
            parts += [f"### {name}.{member}\n\n{text}" for member, text in members(thing)]
    return "\n".join(parts)


def members(cls: type) -> Iterator[tuple[str, str]]:
    """(name, text) of what a class offers, in the order of its source."""
    for name, member in vars(cls).items():
        if not name.startswith("_") and (callable(member) or isinstance(member, property)):
            yield name, described(name, member.fget if isinstance(member, property) else member)


def described(name: str, thing: object) -> str:
    """Its signature where it is a function, and its docstring."""
    signature = f"{name}{inspect.signature(thing)}\n\n" if inspect.isfunction(thing) else ""
    return f"```text\n{signature}{inspect.getdoc(thing) or ''}\n```\n"


if __name__ == "__main__":
    sys.path.insert(0, str(ROOT))
    sys.exit(main())
