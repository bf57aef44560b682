"""Rows by name, registered from above: a floor declares what a row holds, and `nas_attn.wiring`
knows the rows.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from typing import Generic, Protocol, TypeVar


class NamedRow(Protocol):
    """What every row has."""

    @property
    def name(self) -> str:
        """The name in a recipe."""


AnyRow = TypeVar("AnyRow", bound=NamedRow)


class Registry(Mapping[str, AnyRow], Generic[AnyRow]):
    """Rows by name, in the order in which they were registered. Threads may read it at once."""

    def __init__(self) -> None:
        self._rows: dict[str, AnyRow] = {}

    def register(self, *rows: AnyRow) -> None:
        """Adds rows, whose names must be new."""
        for row in rows:
            assert row.name not in self._rows, row.name
            self._rows[row.name] = row

    def __getitem__(self, name: str) -> AnyRow:
        _fill()
        return self._rows[name]

    def __iter__(self) -> Iterator[str]:
        _fill()
        return iter(self._rows)

    def __len__(self) -> int:
        _fill()
        return len(self._rows)


_lock = threading.RLock()
_waiting: list[Callable[[], None]] = []


def fill_by(register: Callable[[], None]) -> None:
    """`register` is called before a registry is read for the first time."""
    _waiting.append(register)


def _fill() -> None:
    # Who reads meanwhile waits until all rows are there.
    with _lock:
        while _waiting:
            _waiting.pop()()
