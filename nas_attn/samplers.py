"""The table of samplers. A recipe may name one of its own as `package.module:function`; it needs no row."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Row:
    """One sampler."""

    name: str
    """As `search.sampler`."""
    title: str
    make: str = ""
    """`package.module:function` that makes it: called with the keywords `seed` and `trials` (of the whole study), it returns an
    Optuna sampler. Empty: the study has it built in."""


_MADE = "nas_attn.study.sampling"
ROWS: Mapping[str, Row] = MappingProxyType(
    {
        row.name: row
        for row in (
            Row("auto", "all placements where `trials` suffices for them, else `placement`"),
            Row("placement", "learns what choices add at each site and what types share over sites"),
            Row("tpe", "Optuna's TPE", f"{_MADE}:tpe"),
            Row("nsga2", "Optuna's NSGA-II", f"{_MADE}:nsga2"),
            Row("gp", "Optuna's Gaussian process", f"{_MADE}:gp"),
            Row("random", "at random", f"{_MADE}:at_random"),
        )
    }
)
"""Name -> sampler."""
