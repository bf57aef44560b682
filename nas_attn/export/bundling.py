"""Takes classes and functions out of this package's source, with all that they use of it, for a file that stands alone.

The source is taken as it is written, comments and all; what comes from other packages is imported.
"""

from __future__ import annotations

import ast
import importlib.util
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

OURS = "nas_attn"
Definition = ast.FunctionDef | ast.ClassDef | ast.Assign | ast.AnnAssign


@dataclass(frozen=True, slots=True)
class Bundle:
    """Source that imports nothing of this package."""

    definitions: str
    """In an order in which each comes after what it needs."""
    imports: frozenset[tuple[str, str | None]]
    """(module, name), or (module, None) for `import module`."""


@dataclass
class _File:
    """One module of this package, read but not run."""

    name: str
    lines: list[str]
    definitions: dict[str, tuple[Definition, int]]
    """Name -> its node and the line with which it ends, a text about a constant included."""
    imports: dict[str, tuple[str, str | None]] = field(default_factory=dict)


def bundle(roots: Iterable[tuple[str, str]]) -> Bundle:
    """The source of what the roots name and of all that it uses, each once.

    Args:
        roots: (module of this package, name at its top level).
    """
    order: dict[tuple[str, str], None] = {}
    outside: set[tuple[str, str | None]] = set()
    for module, name in roots:
        _collect(module, name, order, outside, set())
    wanted = [name for _, name in order]
    renamed = {at: f"{at[1]}_{_tail(at[0])}" for at in order if wanted.count(at[1]) > 1}
    return Bundle("".join(_joined(order, renamed)), frozenset(outside))


def import_lines(imports: Iterable[tuple[str, str | None]]) -> list[str]:
    """Import statements in isort's order: the standard library, a blank, the others; each module's names in one line."""
    names: dict[str, list[str]] = {}
    plain, given = set(), sorted(imports, key=lambda one: (one[0], _import_order(one[1] or "")))
    for module, name in given:
        if name is None:
            plain.add(module)
        else:
            names.setdefault(module, []).append(name)
    blocks: dict[bool, list[str]] = {True: [], False: []}
    for line, module in [
        *((f"import {module}", module) for module in sorted(plain)),
        *((f"from {module} import {', '.join(found)}", module) for module, found in names.items()),
    ]:
        blocks[module.partition(".")[0] in sys.stdlib_module_names].append(line)
    return [*blocks[True], *([""] if all(blocks.values()) else []), *blocks[False]]


def _import_order(name: str) -> tuple[int, str]:
    return (0 if name.isupper() else 1 if name[:1].isupper() else 2, name)


# ------------------------------------------------------------------------------------------- what is needed


def _collect(
    module: str,
    name: str,
    order: dict[tuple[str, str], None],
    outside: set[tuple[str, str | None]],
    under_way: set[tuple[str, str]],
) -> None:
    """Adds a definition to `order`, behind what it uses; what is imported from elsewhere to `outside`."""
    if (module, name) in order or (module, name) in under_way:
        return
    under_way.add((module, name))
    file = _read(module)
    for used in _names(file.definitions[name][0]):
        if used in file.definitions:
            _collect(module, used, order, outside, under_way)
        elif used in file.imports:
            source, original = file.imports[used]
            if source.partition(".")[0] == OURS and original is not None:
                _collect(source, original, order, outside, under_way)
            else:
                outside.add((source, original))
    order[(module, name)] = None


def _names(node: ast.AST) -> Iterator[str]:
    return (found.id for found in ast.walk(node) if isinstance(found, ast.Name))


@cache
def _read(module: str) -> _File:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    text = Path(spec.origin).read_text("utf-8")
    body = ast.parse(text).body
    file = _File(module, text.splitlines(), {})
    for index, node in enumerate(body):
        if isinstance(node, ast.ImportFrom) and node.module and node.module != "__future__":
            file.imports |= {alias.asname or alias.name: (node.module, alias.name) for alias in node.names}
        elif isinstance(node, ast.Import):
            file.imports |= {alias.asname or alias.name: (alias.name, None) for alias in node.names}
        elif isinstance(node, Definition):
            after = body[index + 1] if index + 1 < len(body) else None
            about = isinstance(node, ast.Assign | ast.AnnAssign) and _is_text(after)
            end = (after if about and after is not None else node).end_lineno or node.lineno
            file.definitions |= dict.fromkeys(_defined(node), (node, end))
    return file


def _defined(node: Definition) -> list[str]:
    if isinstance(node, ast.FunctionDef | ast.ClassDef):
        return [node.name]
    targets = node.targets if isinstance(node, ast.Assign) else [node.target]
    return [target.id for target in targets if isinstance(target, ast.Name)]


def _is_text(node: ast.stmt | None) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


# ------------------------------------------------------------------------------------------- its text


def _joined(order: Iterable[tuple[str, str]], renamed: dict[tuple[str, str], str]) -> Iterator[str]:
    """The definitions, two blank lines around functions and classes, constants closer."""
    before: Definition | None = None
    for module, name in order:
        node = _read(module).definitions[name][0]
        close = isinstance(node, ast.Assign | ast.AnnAssign) and isinstance(before, ast.Assign | ast.AnnAssign)
        yield ("" if before is None or close else "\n\n") + _text(module, name, renamed) + "\n"
        before = node


def _text(module: str, name: str, renamed: dict[tuple[str, str], str]) -> str:
    file = _read(module)
    node, end = file.definitions[name]
    decorators = getattr(node, "decorator_list", [])
    start = min([node.lineno, *(decorator.lineno for decorator in decorators)])
    while start > 1 and file.lines[start - 2].startswith("#") and not file.lines[start - 2].startswith("# ---"):
        start -= 1
    lines = file.lines[start - 1 : end]
    for found in sorted(_renamings(file, node, renamed), reverse=True):
        row, column, old, new = found
        line = lines[row - start].encode()
        lines[row - start] = (line[:column] + new.encode() + line[column + len(old.encode()) :]).decode()
    return "\n".join(lines)


def _renamings(file: _File, node: ast.AST, renamed: dict[tuple[str, str], str]) -> Iterator[tuple[int, int, str, str]]:
    """(line, column in bytes, old, new) of each name that has to be another one here."""
    for found in ast.walk(node):
        if isinstance(found, ast.Name):
            source, original = file.imports.get(found.id, (file.name, found.id))
            new = renamed.get((source, original or found.id))
            if new is not None:
                yield found.lineno, found.col_offset, found.id, new


def _tail(module: str) -> str:
    return module.rpartition(".")[2].upper()
