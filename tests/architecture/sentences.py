"""Finds sentences for people in source text: texts of several words, outside of errors."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

WORD = re.compile(r"[A-Za-z]{2}")  # is in each word
FEWEST = 3  # words of a text that is taken for a sentence
CODE = re.compile(r"(import|from|model =) ")
"""Begins a line of Python that a study gives to paste, which is no sentence."""


def sentences(source: str) -> list[str]:
    """The sentences that a file builds: literals and f-strings of several words, without docstrings,
    comments, and what an error says.
    """
    return [text for text in _texts(ast.parse(source)) if _is_sentence(text)]


def _is_sentence(text: str) -> bool:
    words = [part for part in text.split() if WORD.search(part)]
    return len(words) >= FEWEST and not CODE.match(text)


def _texts(node: ast.AST, of_errors: frozenset[str] = frozenset()) -> Iterator[str]:
    """`of_errors`: the variables of the function around that only errors say."""
    if isinstance(node, ast.FunctionDef):
        of_errors = _said_by_errors(node)
    if _says_an_error(node) or _is_docstring(node) or _assigned(node) & of_errors:
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child, of_errors)


def _said_by_errors(function: ast.FunctionDef) -> frozenset[str]:
    """The variables of a function that are read in errors only, or for such variables only."""
    variables = frozenset[str]()
    for node in ast.walk(function):
        variables |= _assigned(node)
    while others := variables & set(_read(function, variables)):
        variables -= others
    return variables


def _read(node: ast.AST, of_errors: frozenset[str]) -> Iterator[str]:
    """The variables that are read outside of errors, and not to assign one of `of_errors`."""
    if _says_an_error(node) or _assigned(node) & of_errors:
        return
    if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load):
        yield node.id
    for child in ast.iter_child_nodes(node):
        yield from _read(child, of_errors)


def _assigned(node: ast.AST) -> frozenset[str]:
    """The variable that a statement assigns."""
    if isinstance(node, ast.Assign) and len(node.targets) == 1:
        target: ast.AST = node.targets[0]
    elif isinstance(node, ast.AugAssign | ast.AnnAssign):
        target = node.target
    else:
        return frozenset()
    return frozenset({target.id}) if isinstance(target, ast.Name) else frozenset()


def _says_an_error(node: ast.AST) -> bool:
    """Whether it raises or makes an error: `raise ...`, `StudyError(...)`."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith("Error")
    return isinstance(node, ast.Raise)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
