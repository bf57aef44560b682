"""Which file of the package needs which, by every kind of import, and the circles among them.

`python tests/architecture/own_imports.py` prints both. Counted are imports at the top of a file,
under TYPE_CHECKING and inside functions, and strings that name a module of the package
("nas_attn.data.digits" or "nas_attn.data.digits:cued"), which something loads later. Names of
loggers are no such strings.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

PACKAGE = "nas_attn"
ROOT = Path(__file__).parents[2]
OURS = re.compile(rf"({PACKAGE}(?:\.\w+)+)(?::\w+)?")
Graph = Mapping[str, frozenset[str]]
"""Module -> the modules that it needs."""


def sources(root: Path = ROOT) -> dict[str, Path]:
    """Name of each module of the package -> its file."""
    modules = {}
    for path in sorted((root / PACKAGE).rglob("*.py")):
        parts = list(path.relative_to(root).with_suffix("").parts)
        if parts[-1] == "__init__":
            parts.pop()
        modules[".".join(parts)] = path
    return modules


def needs(root: Path = ROOT) -> Graph:
    """What each module of the package imports or names."""
    modules = sources(root)
    graph = {}
    for name, path in modules.items():
        tree = ast.parse(path.read_text("utf-8"))
        needed = {*_imported(tree, modules), *_named(tree, modules)}
        graph[name] = frozenset(needed - {name})
    return graph


def named_modules(root: Path = ROOT) -> dict[str, frozenset[str]]:
    """Module -> modules of the package that it names in strings; only those that name any."""
    modules = sources(root)
    names = {}
    for name, path in modules.items():
        found = frozenset(_named(ast.parse(path.read_text("utf-8")), modules)) - {name}
        if found:
            names[name] = found
    return names


def circles(graph: Graph) -> list[list[str]]:
    """The groups of modules that need each other, directly or through others; the largest first."""
    reachable = {name: _reachable(graph, name) for name in graph}
    groups: dict[frozenset[str], list[str]] = {}
    for name in graph:
        group = frozenset(other for other in reachable[name] if name in reachable[other])
        if group:
            groups[group] = sorted(group)
    return sorted(groups.values(), key=lambda group: (-len(group), group))


def _reachable(graph: Graph, start: str) -> set[str]:
    seen: set[str] = set()
    waiting = list(graph[start])
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            waiting.extend(graph[name])
    return seen


def _imported(tree: ast.Module, modules: Mapping[str, Path]) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom) and node.module and node.module in modules:
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                yield inner if inner in modules else node.module


def _named(tree: ast.Module, modules: Mapping[str, Path]) -> Iterator[str]:
    """Modules that strings name, put together from parts where the parts are known."""
    skipped = _without_meaning(tree)
    constants = _constants(tree)
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield from _modules_in(node.value, modules)
        elif isinstance(node, ast.JoinedStr):
            yield from _modules_in(_joined(node, constants), modules)


def _modules_in(text: str, modules: Mapping[str, Path]) -> Iterator[str]:
    match = OURS.fullmatch(text)
    if match is not None:
        yield from (name for name in [match[1]] if name in modules)
        return
    prefix = re.fullmatch(rf"({PACKAGE}(?:\.\w+)*)\.\?.*", text)
    if prefix is not None:  # the rest is only known when it runs: it may be any of them
        yield from (name for name in modules if name.startswith(f"{prefix[1]}."))


def _joined(node: ast.JoinedStr, constants: Mapping[str, str]) -> str:
    """An f-string with its known constants, and `?` for what only a run knows."""
    parts = []
    for value in node.values:
        if isinstance(value, ast.Constant):
            parts.append(str(value.value))
        elif isinstance(value, ast.FormattedValue) and isinstance(value.value, ast.Name):
            parts.append(constants.get(value.value.id, "?"))
        else:
            parts.append("?")
    return "".join(parts)


def _constants(tree: ast.Module) -> dict[str, str]:
    """Names at the top of a file that stand for a text."""
    constants: dict[str, str] = {}
    for node in tree.body:
        if not isinstance(node, ast.Assign):
            continue
        for target in node.targets:
            constants.update(_assigned(target, node.value))
    return constants


def _assigned(target: ast.expr, value: ast.expr) -> Iterator[tuple[str, str]]:
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        for inner, part in zip(target.elts, value.elts, strict=False):
            yield from _assigned(inner, part)
    elif isinstance(target, ast.Name) and isinstance(value, ast.Constant):
        yield target.id, str(value.value)


def _without_meaning(tree: ast.Module) -> set[int]:
    """Strings that load nothing: docstrings, loggers' names, folders of files in the package."""
    skipped: set[int] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            skipped.add(id(node.value))
        elif isinstance(node, ast.Call) and _last_name(node.func) in LOADS_NOTHING:
            skipped.update(id(argument) for argument in node.args)
            skipped.update(id(keyword.value) for keyword in node.keywords)
    return skipped


LOADS_NOTHING = {"getLogger", "files", "PackageLoader", "startswith", "entry_points"}


def _last_name(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


if __name__ == "__main__":
    graph = needs()
    found = circles(graph)
    print(f"{len(graph)} files, {sum(map(len, graph.values()))} arrows, {len(found)} circles")
    for group in found:
        print(f"\n{len(group)} files:")
        for name in group:
            inside = sorted(graph[name] & set(group))
            print(f"  {name} -> {', '.join(inside)}")
    sys.exit(bool(found))
