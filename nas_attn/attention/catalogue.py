"""The table of attention modules, and what is built from it. No torch until a module is built.

A module of one's own joins in three ways:

    # 1. by name, from an installed package: an entry point
    [project.entry-points."nas_attn.attention"]
    mine = "my_package.modules:MyAttention"

    # 2. by path, wherever a type is expected
    stage2=my_package.modules:MyAttention(reduction=8)

    # 3. in this package: one file nas_attn/attention/mine.py, one row in nas_attn/attention/rows/
"""

from __future__ import annotations

import importlib
import inspect
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from nas_attn.attention.foreign import find_foreign
from nas_attn.attention.row import INITS, Init, Row
from nas_attn.attention.rows import channel, controls, direction, kernel, self_attention, spatial
from nas_attn.errors import KnobError
from nas_attn.records import Choice, Knob

if TYPE_CHECKING:
    from torch import nn

ROWS: MappingProxyType[str, Row] = MappingProxyType(
    {row.name: row for family in (channel, spatial, kernel, direction, self_attention, controls) for row in family.ROWS}
)
"""Name -> row of every module of this package, in the order in which they are shown."""

CONTROLS = tuple(row.name for row in ROWS.values() if row.control)
"""Those that are no attention."""


def find(name: str) -> Row:
    """The row behind a name: of this package, of an entry point, or of `package.module:Class`.

    Raises:
        KnobError: there is none; names the nearest.
    """
    return ROWS.get(name) or find_foreign(name, ROWS)


def build(choice: Choice, channels: int, height: int, width: int, *, init: Init = "paper") -> nn.Module:
    """The module of a choice for maps of `(N, channels, height, width)`.

    Args:
        init: `paper`: as published; `identity`: starts as the identity.

    Raises:
        KnobError: unknown type, knob or init, or a value that is impossible on this shape.
    """
    from nas_attn.attention.gates import Blended, refuse_scripting

    if init not in INITS:
        raise KnobError(f"unknown init {init!r}: it is 'paper' or 'identity'")
    row = find(choice.type)
    knobs = dict(row.resolve(choice.knobs, channels, height, width, init=init).knobs)
    cls, arguments, blended = construction(row, knobs, height, width, init)
    module: nn.Module = cls(channels, **arguments)
    if row.name in ROWS:
        module.__dict__["__prepare_scriptable__"] = refuse_scripting
    return Blended(module) if blended else module


def create(
    name: str,
    channels: int,
    *,
    height: int | None = None,
    width: int | None = None,
    init: Init = "paper",
    **knobs: Knob,
) -> nn.Module:
    """An attention module for maps with `channels` channels: `create("coord", 256, reduction=32)`.

    Args:
        height: rows of the map, for modules with a learned position (`mhsa`); others take any size.
        width: columns of the map; where one of the two is given, the map is square.
        init: `paper`: as published; `identity`: starts as the identity.
        knobs: the module's own settings, see `catalogue.find(name).knobs`.

    Raises:
        KnobError: unknown name or knob, or a value that is impossible with this many channels.
    """
    choice = Choice(name, tuple(knobs.items()))
    sides = [side for side in (height, width) if side is not None] or [14]  # position tables are interpolated from it
    return build(choice, channels, sides[0], sides[-1], init=init)


def construction(
    row: Row, knobs: dict[str, Knob], height: int, width: int, init: Init
) -> tuple[type[nn.Module], dict[str, Any], bool]:
    """The class behind a row, its arguments besides the channels, and whether it stands inside `gates.Blended`."""
    cls = load(row.target)
    accepted = inspect.signature(cls).parameters
    extra: dict[str, Any] = {
        name: value for name, value in (("height", height), ("width", width), ("init", init)) if name in accepted
    }
    return cls, {**knobs, **extra}, init == "identity" and "init" not in accepted


def load(target: str) -> Any:
    """The class behind `package.module:Class`."""
    module, _, name = target.partition(":")
    return getattr(importlib.import_module(module), name)
