"""A name means one thing: classes of the package, and its constants."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).parents[2] / "nas_attn"


def files() -> Iterator[tuple[str, ast.Module]]:
    for path in sorted(PACKAGE.rglob("*.py")):
        yield str(path.relative_to(PACKAGE)), ast.parse(path.read_text("utf-8"))


def constants(module: ast.Module) -> Iterator[tuple[str, ast.expr]]:
    """(name, value) of a file's constants that are numbers or texts."""
    for line in module.body:
        if isinstance(line, ast.Assign):
            targets, value = line.targets, line.value
        elif isinstance(line, ast.AnnAssign) and line.value is not None:
            targets, value = [line.target], line.value
        else:
            continue
        for target in targets:
            if isinstance(target, ast.Name) and isinstance(value, ast.Constant):
                yield target.id, value


def test_no_two_classes_share_a_name() -> None:
    homes: defaultdict[str, list[str]] = defaultdict(list)
    for path, module in files():
        for line in module.body:
            if isinstance(line, ast.ClassDef):
                homes[line.name].append(path)
    several = {name: paths for name, paths in homes.items() if len(paths) > 1}
    assert not several


def test_no_constant_has_several_values() -> None:
    values: defaultdict[str, dict[str, str]] = defaultdict(dict)
    for path, module in files():
        for name, value in constants(module):
            if name.isupper():
                values[name][path] = ast.unparse(value)
    several = {name: own for name, own in values.items() if len(set(own.values())) > 1}
    assert not several


def test_one_file_names_our_environment_variables() -> None:
    naming = set()
    for path, module in files():
        for node in ast.walk(module):
            if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
                continue
            if re.match(r"NAS_ATTN_\w+", node.value):
                naming.add(path)
    assert naming == {"system/environment.py"}
