"""Imports of a user's objects, which a recipe, a space or a command names as
`package.module:object`; and how a package that is missing is installed.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from collections.abc import Collection
from contextlib import suppress
from importlib import metadata
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

from nas_attn.errors import UserError, did_you_mean

PYTHON = "python:"
"""Prefix of an object that exists only in the program that called `na.search`."""

_distrusted: list[str] = []
"""A file of somebody else whose code this process must not run."""
_harmless: set[str] = set()
"""Objects of other packages that it may import all the same."""


def distrust(path: str, harmless: Collection[str] = ()) -> None:
    """From now on, this process imports no object that a recipe or a study names, but `harmless`
    ones. For a file of somebody else in which no code was found: what was overlooked is not run
    either.
    """
    _distrusted[:] = [path]
    _harmless.update(harmless)


def trust() -> None:
    """Ends `distrust`."""
    _distrusted.clear()


def trusts() -> bool:
    """Whether this process may run the code that its files name."""
    return not _distrusted


def refuse_distrusted(name: str, error: type[UserError]) -> None:
    """Raises `error` if this process must not run the code of this name."""
    harmless = name in _harmless or name.startswith("nas_attn.")
    if _distrusted and not harmless:
        raise error(
            f"'{_distrusted[0]}' is outside the current folder and runs code: '{name}': read it,"
            " then add --trust"
        )


def load_object(name: str, *, what: str, error: type[UserError]) -> Any:
    """The function or class that `package.module:object` names, also in the working folder; raises
    `error`. `what` names the setting.
    """
    if name.startswith(PYTHON):
        raise error(
            f"{what} '{name.removeprefix(PYTHON)}' was given to na.search or na.begin as a Python"
            " object: go on with the same call, or start a new study with 'package.module:object'"
        )
    module_name, colon, attribute = name.partition(":")
    if not colon or not module_name or not attribute:
        raise error(f"{what} '{name}' is not of the form 'package.module:object'")
    refuse_distrusted(name, error)
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    try:
        module = importlib.import_module(module_name)
    except (Exception, SystemExit) as cause:
        # a user's module may raise any error
        why = " ".join(str(cause).split())
        raise error(
            f"{what} '{name}': importing '{module_name}' failed with {type(cause).__name__}: {why}"
        ) from cause
    try:
        value = getattr(module, attribute)
    except AttributeError:
        has = [key for key in vars(module) if not key.startswith("_")]
        raise error(
            f"{what} '{name}': '{module_name}' has no '{attribute}': {did_you_mean(attribute, has)}"
        ) from None
    if not callable(value):
        raise error(f"{what} '{name}' is a {type(value).__name__}, which is not callable")
    return value


def installing(extra: str) -> str:
    """The command that installs an extra of nas_attn, as errors name it.

    No registry has the name nas-attn. So the command names the clone or the wheel that nas_attn was
    installed from, which pip keeps (PEP 610).

    Args:
        extra: its name in pyproject.toml, such as `onnx`.
    """
    origin = "nas-attn"
    with suppress(metadata.PackageNotFoundError, ValueError):
        kept = json.loads(metadata.distribution("nas-attn").read_text("direct_url.json") or "{}")
        url = urlsplit(kept.get("url", ""))
        if url.scheme == "file":
            origin = url2pathname(url.path)
    return f"pip install '{origin}[{extra}]'"
