"""The schema of a search space, which is a TOML file of its own (`search_spaces/*.toml`) or part of
a recipe.
"""

from __future__ import annotations

import re
from typing import Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from nas_attn.attention.choice import Knob
from nas_attn.errors import did_you_mean
from nas_attn.space.placement import Position

# Knob -> one value or several: all combinations are choices
Grid = dict[str, Knob | list[Knob]]


class Section(BaseModel):
    """Base of all sections: frozen, and no key is ignored."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class SitesSection(Section):
    """Which sites of the backbone are searched."""

    granularity: Literal["stage", "block"] = "stage"
    """One decision per stage, or one per block."""
    positions: list[Position] = Field(default=["residual"], min_length=1)
    """Where in a site a module goes; several are searched. A site that has none of them uses its
    default.
    """
    include: list[str] = Field(default_factory=lambda: ["*"], min_length=1)
    """Glob patterns over site names."""
    exclude: list[str] = Field(default_factory=list)
    """Glob patterns over site names that are left out."""
    custom: dict[str, list[str]] = Field(default_factory=dict)
    """Sites of your own: name -> glob patterns over module paths, `neck = ["fpn.layer_blocks.0"]`;
    after each such module.
    """
    originals: Literal["keep", "search"] = "keep"
    """Attention that the backbone already has (`stageK.original`): it stays, or is searched (kept,
    replaced, removed).
    """
    heads: bool = False
    """Whether layers that only lead to outputs (`headK`: a detector's boxes and classes) have
    sites, too.
    """

    @field_validator("custom")
    @classmethod
    def _own_names(cls, custom: dict[str, list[str]]) -> dict[str, list[str]]:
        for name, patterns in custom.items():
            if not re.fullmatch(r"[A-Za-z_][\w-]*", name) or re.fullmatch(
                r"stage\d+|backbone", name
            ):
                raise ValueError(
                    f"'{name}' cannot name a site of your own: use letters, digits, _ and -, not"
                    " stage1 or backbone"
                )
            if not patterns:
                raise ValueError(f"'{name}' has no module: give at least one path or glob")
        return custom


class PerSite(Section):
    """A restriction of one site (a glob over site names)."""

    choices: list[str] = Field(min_length=1)
    """Subset of the types under `[choices]`, and `none`."""


class SpaceLimits(Section):
    """Limits that hold for a placement as a whole."""

    max_modules: int | None = Field(default=None, ge=0)
    """At most this many sites with a module."""


class SpaceSpec(Section):
    """A search space as written."""

    name: str = Field(min_length=1)
    sites: SitesSection = Field(default_factory=SitesSection)
    choices: dict[str, bool | Grid | list[Grid]] = Field(min_length=1)
    """Attention type -> knob -> one value or several (or a list of such tables); `none = false`
    removes `none`.
    """
    per_site: dict[str, PerSite] = Field(default_factory=dict)
    limits: SpaceLimits = Field(default_factory=SpaceLimits)
    origin: str = Field(default="", exclude=True)
    """The file it was read from, for errors; not part of what it says."""

    @property
    def where(self) -> str:
        """Names it in an error."""
        return self.origin or f"search space '{self.name}'"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self._check_switch()
        self._check_grids()
        self._check_sites()
        return self

    def _check_switch(self) -> None:
        """Raises ValueError: `none` is a table, or another choice a switch."""
        for name, value in self.choices.items():
            if isinstance(value, bool) and name != "none":
                raise ValueError(
                    f"choices.{name} must be a table of knobs, `{name} = {{}}` for the defaults"
                )
            if not isinstance(value, bool) and name == "none":
                raise ValueError("choices.none is a switch: `none = false` removes it")

    def _check_grids(self) -> None:
        """Raises ValueError: a knob has no value, a type no table, the space no type."""
        for name, grids in self.types.items():
            for grid in grids:
                empty = next((knob for knob, values in grid.items() if not values), None)
                if empty is not None:
                    raise ValueError(
                        f"choices.{name}.{empty} has no value: give at least one, or leave it out"
                    )
            if not grids:
                raise ValueError(
                    f"choices.{name} has no table of knobs: `{name} = {{}}` for the defaults"
                )
        if not self.types and not self.with_none:
            raise ValueError("choices is empty: name at least one attention type")

    def _check_sites(self) -> None:
        """Raises ValueError: a site is restricted to a type that the space lacks."""
        for site, restriction in self.per_site.items():
            for name in restriction.choices:
                if name != "none" and name not in self.types:
                    raise ValueError(
                        f"per_site.{site}.choices has an unknown type '{name}':"
                        f" {did_you_mean(name, [*self.types, 'none'])}"
                    )

    @property
    def with_none(self) -> bool:
        """Whether a site may stay without attention."""
        return bool(self.choices.get("none", True))

    @property
    def types(self) -> dict[str, list[dict[str, list[Knob]]]]:
        """Attention type -> its grids, each knob -> the values it may take."""
        grids_of: dict[str, list[dict[str, list[Knob]]]] = {}
        for name, value in self.choices.items():
            if name == "none":
                continue
            grids = []
            for grid in value if isinstance(value, list) else [value]:
                if isinstance(grid, dict):
                    grids.append({knob: _listed(v) for knob, v in grid.items()})
            grids_of[name] = grids
        return grids_of


def _listed(value: Knob | list[Knob]) -> list[Knob]:
    """Values of a knob; a single one is written without a list."""
    if isinstance(value, list):
        return value
    return [value]
