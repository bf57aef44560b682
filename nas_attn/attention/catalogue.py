"""The table of attention modules, and functions that build them. Loads no torch until a module is
built.

There are three ways to add a module: an entry point in the group `nas_attn.attention`; its path
wherever a type is expected, `stage2=my_package.modules:MyAttention(reduction=8)`; a class and a row
in this package.

    class MyAttention(nn.Module):
        def __init__(self, channels: int, *, reduction: int = 16, mode: Literal["max", "mean"] =
        "max") -> None: ... def forward(self, x: Tensor) -> Tensor: ...          # (N, C, H, W) ->
        the same shape

Its keyword-only parameters are its knobs; it gets `height`, `width` and `init` if it has these
parameters. Without `init`, the identity start is a blend around it.
"""

from __future__ import annotations

import inspect
import json
import typing
from collections.abc import Iterable
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Literal

from nas_attn.attention import (
    channel_rows,
    convolution_rows,
    direction_rows,
    kernel_rows,
    self_attention_rows,
    spatial_rows,
)
from nas_attn.attention.choice import Choice, Knob
from nas_attn.attention.row import INITS, SHAPED, Count, Fitting, Init, KnobSpec, MapShape, Row
from nas_attn.errors import KnobError, did_you_mean
from nas_attn.system.importing import load_object

if TYPE_CHECKING:
    from torch import nn

FAMILIES = (
    channel_rows,
    spatial_rows,
    kernel_rows,
    direction_rows,
    self_attention_rows,
    convolution_rows,
)
"""The files of rows, in the order in which they are shown."""
ROWS: MappingProxyType[str, Row] = MappingProxyType(
    {row.name: row for family in FAMILIES for row in family.ROWS}
)
"""Name -> row of every module of this package, in the order in which they are shown."""
CONTROLS = tuple(row.name for row in ROWS.values() if row.control)
"""Names of the rows without attention: plain layers."""
RUNTIMES = Path(__file__).with_name("runtimes.json")
"""The results of `benchmarks/runtimes.py`."""


def find(name: str) -> Row:
    """The row of a name: of this package, of an entry point, or of `package.module:Class`.
    KnobError: there is none (it names the nearest), it cannot be imported, or its signature does
    not fit.
    """
    if name in ROWS:
        return ROWS[name]
    if ":" in name:
        return _foreign(name, name)
    foreign = installed()
    if name not in foreign:
        raise KnobError(f"unknown attention type '{name}': {did_you_mean(name, [*ROWS, *foreign])}")
    return _foreign(name, foreign[name].value)


def build(
    choice: Choice, channels: int, height: int, width: int, *, init: Init = "paper"
) -> nn.Module:
    """The module of a choice for maps of `(N, channels, height, width)`.

    Args:
        init: `paper`: as published; `identity`: starts as the identity.

    Raises:
        KnobError: unknown type, knob or init, or a value that is impossible on this shape.
    """
    from nas_attn.attention.gates import Blended, refuse_scripting

    if init not in INITS:
        raise KnobError(f"unknown init {init!r}: give 'paper' or 'identity'")
    row = find(choice.type)
    knobs = dict(row.resolve(choice.knobs, channels, height, width, init=init))
    cls, arguments, blended = construction(row, knobs, height, width, init)
    module: nn.Module = cls(channels, **arguments)
    if row.name in ROWS:
        module.__dict__["__prepare_scriptable__"] = refuse_scripting
    return Blended(module) if blended else module


def cost(choice: Choice, channels: int, height: int, width: int, *, init: Init = "paper") -> Count:
    """What a choice costs on a map of this shape. Loads torch, which counts.

    Raises:
        KnobError: as `build`.
    """
    from nas_attn.attention import counting

    shape = MapShape(channels, height, width)
    # Others' modules may look at values.
    device = "meta" if choice.type in ROWS else "cpu"
    _, count = counting.run(lambda: build(choice, *shape, init=init), shape, device)
    return count


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
        width: columns of the map; if only one of the two is given, the map is square.
        init: `paper`: as published; `identity`: starts as the identity.
        knobs: the module's own settings, see `catalogue.find(name).knobs`.

    Raises:
        KnobError: unknown name or knob, or a value that is impossible with this many channels.
    """
    choice = Choice(name, tuple(knobs.items()))
    # Position tables are interpolated from 14.
    sides = [side for side in (height, width) if side is not None] or [14]
    return build(choice, channels, sides[0], sides[-1], init=init)


def construction(
    row: Row, knobs: dict[str, Knob], height: int, width: int, init: Init
) -> tuple[type[nn.Module], dict[str, Any], bool]:
    """The class behind a row, its arguments besides the channels, and whether it is wrapped in
    `gates.Blended`.
    """
    cls = row.load()
    extra = _shaped(cls, height, width, init)
    return cls, {**knobs, **extra}, init == "identity" and "init" not in extra


def _shaped(cls: type, height: int, width: int, init: Init) -> dict[str, Any]:
    """The parameters in `SHAPED` that the class has."""
    accepted = inspect.signature(cls).parameters
    return {
        name: value
        for name, value in zip(SHAPED, (height, width, init), strict=True)
        if name in accepted
    }


def runtimes() -> tuple[dict[str, dict[str, Any]], list[list[str]]]:
    """(Runtime -> version, date and result per module; the same as a table, titles first.)

    A result that has a version and a date of its own was measured with these, not with the
    runtime's.
    """
    columns: dict[str, dict[str, Any]] = json.loads(RUNTIMES.read_text("utf-8"))
    lines = [["module", *columns]]
    for name in ROWS:
        # plain layers run everywhere
        if name not in CONTROLS:
            line = [name]
            for column in columns.values():
                cell = column["cells"].get(name, {"state": "not tested"})
                shown = cell["state"]
                if shown == "same":
                    shown = f"{cell['time']:.2f}"
                line.append(shown)
            lines.append(line)
    return columns, lines


def measured_with() -> list[str]:
    """For each runtime, in words, with which versions its results were measured, and when."""
    columns, _ = runtimes()
    sentences = []
    for runtime, column in columns.items():
        later: dict[str, list[str]] = {}
        for name, cell in column["cells"].items():
            if "version" in cell:
                later.setdefault(f"{cell['version']} on {cell['date']}", []).append(name)
        exceptions = "; ".join(f"{', '.join(names)} with {when}" for when, names in later.items())
        usual = f"{runtime} {column['version']} on {column['date']}"
        sentences.append(f"{usual} ({exceptions})" if exceptions else usual)
    return sentences


# -------------------------------------------------------------------------------------------
# others' modules


def installed() -> dict[str, EntryPoint]:
    """Name -> entry point of each module that an installed package offers; nothing is imported."""
    return {entry.name: entry for entry in entry_points(group="nas_attn.attention")}


def _foreign(name: str, target: str) -> Row:
    what = "attention type"
    if name != target:
        what = f"attention type '{name}', entry point"
    cls = load_object(target, what=what, error=KnobError)
    from torch import nn

    if not (isinstance(cls, type) and issubclass(cls, nn.Module)):
        kind = cls.__name__ if isinstance(cls, type) else type(cls).__name__
        raise KnobError(f"{what} '{target}' is not a subclass of torch.nn.Module, but {kind}")
    title = inspect.cleandoc(cls.__doc__ or cls.__name__).splitlines()[0]
    return Row(
        name,
        lambda: cls,
        title,
        "",
        "foreign",
        tuple(_knobs(name, cls)),
        fit=lambda fitting: _try(cls, fitting),
    )


def _knobs(name: str, cls: type) -> Iterable[KnobSpec]:
    try:
        hints = typing.get_type_hints(cls.__init__)  # type: ignore[misc]
    except (NameError, TypeError):
        hints = {}
    for parameter in inspect.signature(cls).parameters.values():
        if parameter.kind is not inspect.Parameter.KEYWORD_ONLY or parameter.name in SHAPED:
            continue
        default = parameter.default
        if type(default) not in (int, float, bool, str):
            raise KnobError(
                f"attention type '{name}': knob '{parameter.name}' needs a number, bool or text as"
                " default"
            )
        hint = hints.get(parameter.name)
        choices = ()
        if typing.get_origin(hint) is Literal:
            choices = typing.get_args(hint)
        yield KnobSpec(parameter.name, type(default), default, "", choices=choices)


def _try(cls: type, fitting: Fitting) -> None:
    """Runs an instance on one map of zeros. KnobError: it raises, or changes the shape."""
    import torch

    from nas_attn.attention import counting

    shape = MapShape(fitting.channels, fitting.height, fitting.width)
    extra = _shaped(cls, fitting.height, fitting.width, fitting.init)
    try:
        y, _ = counting.run(
            lambda: cls(fitting.channels, **fitting.values, **extra), shape, device="cpu"
        )
    except Exception as error:
        # another package's code: whatever it raises
        reason = f"{type(error).__name__}: {error}"
        raise KnobError(
            f"{fitting.row.name} does not work on {fitting.channels} channels: {reason}"
        ) from error
    expected = (1, *shape)
    given = tuple(y.shape) if isinstance(y, torch.Tensor) else type(y).__name__
    if given != expected:
        raise KnobError(f"{fitting.row.name} must keep the shape {expected}, but gives {given}")
