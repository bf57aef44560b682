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


def _texts(node: ast.AST) -> Iterator[str]:
    if _says_an_error(node) or _is_docstring(node):
        return
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield node.value
    elif isinstance(node, ast.JoinedStr):
        yield "".join(
            str(part.value) if isinstance(part, ast.Constant) else "…" for part in node.values
        )
    else:
        for child in ast.iter_child_nodes(node):
            yield from _texts(child)


def _says_an_error(node: ast.AST) -> bool:
    """Whether it raises or makes an error: `raise ...`, `StudyError(...)`."""
    if isinstance(node, ast.Call):
        return ast.unparse(node.func).endswith("Error")
    return isinstance(node, ast.Raise)


def _is_docstring(node: ast.AST) -> bool:
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
