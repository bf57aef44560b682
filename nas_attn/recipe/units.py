"""Titles and units of metrics and costs: one table for the terminal and for pages."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from nas_attn.recipe import tables
from nas_attn.recipe.recipe import lower_is_better, objective_name

NO_VALUE = "–"
# the one sign of negative numbers
MINUS = "\N{MINUS SIGN}"
# share of a unit from which three digits show the whole unit
ROUNDS_UP = 0.9995
# decimals of a number that an interval supports, at most
MOST_DECIMALS = 6


def count(number: float) -> str:
    """`950`, `12.3 k`, `1.2 M`, `4.1 G`, `1.5 T`: three digits."""
    for unit, size in (("T", 1e12), ("G", 1e9), ("M", 1e6), ("k", 1e3)):
        # what three digits round to a thousand of a unit is one of the next
        if number >= ROUNDS_UP * size:
            return f"{max(number / size, 1.0):.3g} {unit}"
    return f"{number:.0f}"


@dataclass(frozen=True, slots=True)
class Unit:
    """How the values of a quantity are written."""

    value: Callable[[float], str]
    # the size of a difference, without its unit
    size: Callable[[float], str]
    # the unit of differences; empty where they have none
    of_differences: str = ""
    # factor from a raw difference to its unit
    scale: float = 1.0
    # format of the numbers on an axis, as d3 knows it
    ticks: str = ""
    # decimals of a difference at most; None: they do not depend on its interval
    decimals: int | None = None
    # the same of a value, with the sign that follows it, and its factor
    value_decimals: int | None = None
    value_sign: str = ""
    value_scale: float = 1.0


def _two_digits(size: float) -> str:
    """`14`, `2.8`, `0.42`, `0.05`: two digits, at most two decimals."""
    if size <= 0:
        return "0"
    return f"{size:.{min(max(1 - math.floor(math.log10(size)), 0), 2)}f}"


SHARE_UNIT = Unit(
    lambda share: f"{100 * min(max(share, 0.0), 1.0):.2f} %",
    lambda size: _two_digits(100 * size),
    "points",
    scale=100.0,
    decimals=2,
    value_decimals=2,
    value_sign="%",
    value_scale=100.0,
)
RATIO = Unit(
    lambda ratio: f"{ratio:.3f} ×",
    lambda size: f"{100 * size:.1f}",
    "%",
    scale=100.0,
    decimals=1,
    value_decimals=3,
    value_sign="×",
)
COUNT = Unit(count, count, ticks=".3~s")
BYTES = Unit(lambda size: f"{count(size)}B", lambda size: f"{count(size)}B", ticks=".3~s")
NUMBER = Unit(
    lambda number: f"{number:.4g}",
    lambda size: f"{size:.3g}",
    decimals=MOST_DECIMALS,
    value_decimals=MOST_DECIMALS,
)
_UNITS: Mapping[str, Unit] = {"ratio": RATIO, "count": COUNT, "bytes": BYTES, "number": NUMBER}
_METRICS: Mapping[str, Unit] = {"share": SHARE_UNIT, "number": NUMBER, "loss": NUMBER}
_KNOWN: Mapping[str, tuple[str, Unit]] = (
    {row.name: (row.title, _METRICS[row.kind]) for row in tables.METRICS.values()}
    | {row.name: (row.title, _UNITS[row.unit]) for row in tables.COSTS.values()}
    | {tables.OWN_SIDE: ("pixels a side", COUNT)}
)
"""Name -> title and format. A user's metrics are missing here: they are plain numbers."""


def title(objective: str) -> str:
    """An objective's name on an axis or above a column."""
    row = _KNOWN.get(objective_name(objective))
    if row is None and tables.is_own_cost(objective):
        return objective.rpartition(":")[2].replace("_", " ")
    return row[0] if row else objective_name(objective)


def unit(objective: str) -> Unit:
    """How an objective's values are written."""
    return _KNOWN.get(objective_name(objective), ("", NUMBER))[1]


def is_implied(metric: str) -> bool:
    """Whether a percentage without a word means this metric."""
    row = tables.METRICS.get(metric)
    return row is not None and row.implied


def direction(objective: str) -> str:
    """`lower is better` or `higher is better`."""
    return "lower is better" if lower_is_better(objective) else "higher is better"


def value(objective: str, number: float | None) -> str:
    """`72.41 %`, `1.132 ×`, `1.2 M`, `3.1 MB`, `0.1235`."""
    return NO_VALUE if number is None or math.isnan(number) else unit(objective).value(number)


def named(objective: str, number: float | None) -> str:
    """`accuracy 70.40 %`, `latency 1.192 ×`."""
    return f"{objective} {value(objective, number)}"


def size(objective: str, number: float) -> str:
    """A difference with its unit, without its sign: `0.50 points`."""
    return _with_unit(objective, unit(objective).size(abs(number)))


def difference_range(objective: str, low: float, high: float) -> str:
    """`−0.1 to +1.3 points`, with as many digits as the interval supports."""
    return _with_unit(objective, _ends(objective, low, high))


def plus_minus(objective: str, number: float, half: float) -> str:
    """A difference and half of its 95 % interval: `+0.6 ± 0.2 points`."""
    return _with_unit(objective, bare_plus_minus(objective, number, half))


def bare_plus_minus(objective: str, number: float, half: float) -> str:
    """The same without the unit, for a column that names it: `+0.6 ± 0.2`."""
    signed = signed_within(objective, number, half)
    return f"{signed} ± {size_within(objective, half, half)}"


def gained(objective: str, mean: float, low: float, high: float) -> str:
    """A difference with its 95 % interval: `+2.8 points (+2.1 to +3.5)`."""
    amount = _with_unit(objective, signed_within(objective, mean, (high - low) / 2))
    return f"{amount} ({_ends(objective, low, high)})"


def size_within(objective: str, number: float, half: float) -> str:
    """The size of a difference, with as many digits as its interval supports; no unit, no sign."""
    kind = unit(objective)
    if kind.decimals is None:
        return kind.size(abs(number))
    digits = min(decimals(kind.scale * half), kind.decimals)
    return f"{kind.scale * abs(number):.{digits}f}"


def signed_within(objective: str, number: float, half: float) -> str:
    """The same with its sign: `+2.8`."""
    return _with_sign(number, size_within(objective, number, half))


def _with_sign(number: float, size: str) -> str:
    return f"{MINUS if number < 0 and size.strip('0.') else '+'}{size}"


def _with_unit(objective: str, text: str) -> str:
    return f"{text} {unit(objective).of_differences}".rstrip()


def _ends(objective: str, low: float, high: float) -> str:
    return " to ".join(signed_within(objective, end, (high - low) / 2) for end in (low, high))


def value_plus_minus(objective: str, number: float, low: float, high: float) -> str:
    """A value and half of its 95 % interval: `72.4 ± 0.8 %`, `1.63 ± 0.14 ×`."""
    half = (high - low) / 2
    return values(objective, [number, half], half, " ± ")


def values(objective: str, numbers: Sequence[float], half: float, between: str = "") -> str:
    """Writes values with as many digits as an interval supports, and one sign: `69.8 → 72.6 %`.

    Args:
        objective: the quantity.
        numbers: its values; of a share as 0 to 1.
        half: half of the 95 % interval.
        between: what stands between two values.
    """
    kind = unit(objective)
    if kind.value_decimals is None or not 0 < half < math.inf:
        return between.join(value(objective, number) for number in numbers)
    digits = min(decimals(kind.value_scale * half), kind.value_decimals)
    if kind is SHARE_UNIT:
        numbers = [min(max(number, 0.0), 1.0) for number in numbers]
    written = between.join(f"{kind.value_scale * number:.{digits}f}" for number in numbers)
    return f"{written} {kind.value_sign}".rstrip()


def decimals(half: float) -> int:
    """The decimals that an interval of this half-width supports: those of its first digit, or of
    its first two where they are below 35 (the rule of the Particle Data Group).

    >>> decimals(14.3), decimals(9.0), decimals(2.11), decimals(0.42), decimals(0.14)
    (0, 0, 1, 1, 2)
    """
    if not 0 < half < math.inf:
        return MOST_DECIMALS
    exponent = math.floor(math.log10(half))
    first_two = half / 10.0 ** (exponent - 1)
    more = 1 if first_two < 35.5 else 0
    return min(max(more - exponent, 0), MOST_DECIMALS)


def times(ratio: float) -> str:
    """A latency in times of the bare backbone's: `1.59 ×`."""
    return f"{ratio:.2f} ×"


def probability(share: float) -> str:
    """`93 %`, `99.3 %`; never 0 or 100."""
    if share > 0.995:
        return "over 99 %"
    if share > 0.99:
        return f"{100 * share:.1f} %"
    return "under 1 %" if share < 0.01 else f"{100 * share:.0f} %"


def counted(cost: Mapping[str, float]) -> str:
    """`12.3 k parameters, 1.20 M MACs, 3.1 MB activations in all`."""
    return ", ".join(f"{value(name, number)} {title(name)}" for name, number in cost.items())


def duration(seconds: float) -> str:
    """`40 s`, `12 min`, `2.5 h`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
