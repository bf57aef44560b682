"""Placements: which choice stands at which site; the sites of a model and its points."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

from nas_attn.attention.choice import Choice

# Before each residual add, after each block, after the last one
Position = Literal["residual", "block", "stage"]
POSITIONS: tuple[Position, ...] = get_args(Position)

# Neck: grows maps again and mixes them; head: leads to outputs only
Role = Literal["backbone", "neck", "head"]


@dataclass(frozen=True, slots=True)
class Assignment:
    """One part of a placement: `stage3@stage=ela(variant=B)`."""

    site: str
    choice: Choice
    # One of POSITIONS; None takes the site's default
    position: str | None = None

    def __str__(self) -> str:
        at = f"@{self.position}" if self.position else ""
        return f"{self.site}{at}={self.choice}"


class _Hashed:
    """Holds a cached hash, since placements are keys everywhere. It is no field, so it is not
    compared or pickled.
    """

    __slots__ = ("_hash",)
    _hash: int


@dataclass(frozen=True, slots=True)
class Placement(_Hashed):
    """A placement as typed: site -> choice; empty: `none`, the bare backbone.
    `notation.parse(str(p)) == p`.
    """

    assignments: tuple[Assignment, ...] = ()

    def __hash__(self) -> int:
        try:
            return self._hash
        except AttributeError:
            object.__setattr__(self, "_hash", hash(self.assignments))
            return self._hash

    def __str__(self) -> str:
        return " ".join(map(str, self.assignments)) or "none"


BARE = Placement()


@dataclass(frozen=True, slots=True)
class Point:
    """A 4-D feature map in a backbone's forward: the output of the module at `path`."""

    # Module path as in `named_modules()`, `layer1.0.bn2`
    path: str
    channels: int
    height: int
    width: int
    # The module is the backbone's own attention, which attached attention replaces
    replaces: bool = False
    # Its result is added to its input, as that of self-attention is: removed, it adds zeros
    branch: bool = False


@dataclass(frozen=True, slots=True)
class Site:
    """A place in a backbone where attention can go, with the points of each position."""

    # `stage2`, or `stage2.block1`; `neck1`, `head1` and their blocks by the role
    name: str
    points: tuple[tuple[str, tuple[Point, ...]], ...]
    """(position, its points, of one shape) in the order of POSITIONS. Positions that mean one
    tensor name the same point.
    """
    # Share of the backbone's MACs spent in this stage or block, 0 to 1
    macs_share: float = 0.0
    role: Role = "backbone"

    @property
    def positions(self) -> tuple[str, ...]:
        return tuple(position for position, _ in self.points)

    @property
    def original(self) -> bool:
        """Whether the backbone has attention of its own here, which may be kept, replaced or
        removed.
        """
        return any(point.replaces for _, points in self.points for point in points)

    @property
    def default_position(self) -> str:
        """`residual` if the block has a residual add, else `block`, else the first position."""
        for position in ("residual", "block"):
            if position in self.positions:
                return position
        return self.positions[0]

    def at(self, position: str) -> tuple[Point, ...]:
        """Points of one position; KeyError if the site does not have it."""
        return dict(self.points)[position]


SiteNoteKind = Literal[
    # no sites, since the network's own reparameterization removes or changes them
    "merged",
    # they only lead to outputs
    "outputs_only",
    # it runs on maps of several shapes
    "several_shapes",
    # the network calls it at several places
    "several_places",
    # no output depends on them
    "unused",
    # no gradient arrives: run under `no_grad`, or detached
    "no_gradient",
    # sites that run more than once for an image
    "repeated",
]


@dataclass(frozen=True, slots=True)
class SiteNote:
    """Why modules are no sites, or have a surprising effect."""

    kind: SiteNoteKind
    # paths of the modules
    modules: tuple[str, ...]
    # of the maps in `several_shapes`: channels, height, width
    shapes: tuple[tuple[int, ...], ...] = ()
    # number of them in `several_places`
    places: int = 0


@dataclass(frozen=True, slots=True)
class Survey:
    """The sites of a model, with notes about them."""

    # Stages with the backbone's own attention, one's own sites, blocks; each as executed
    sites: tuple[Site, ...]
    notes: tuple[SiteNote, ...] = ()


@dataclass(frozen=True, slots=True)
class ResolvedPlacement:
    """A placement made explicit for one backbone: the network that is built, timed, keyed and
    exported.
    """

    modules: tuple[tuple[Point, tuple[Choice, ...]], ...]
    """Per point, sorted by path, its modules in order, every knob written out; none removes the
    backbone's own attention.
    """
    # Leaves nothing to the sites' shapes, sorted by site; resolves to the same key
    placement: Placement
    # `paper` or `identity`: two forms are two functions
    init: str
    # Equal networks have equal keys
    key: str
    # Another backbone instead of the study's
    other: Choice | None = None

    @property
    def text(self) -> str:
        return str(self.placement)

    @property
    def is_bare(self) -> bool:
        """Whether it is the study's backbone as it is."""
        return not self.modules and self.other is None


BaselineKind = Literal["none", "uniform", "control"]


@dataclass(frozen=True, slots=True)
class BaselineName:
    """What a candidate is that needs no search, as studies keep it: `none`, `uniform eca`,
    `control dwconv`.
    """

    kind: BaselineKind
    # the choice at every site, the plain layer, or the larger network; empty for the bare backbone
    of: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.of}".rstrip()

    @classmethod
    def read(cls, text: str) -> BaselineName:
        """Of a name that a study has kept. Raises ValueError: it is none."""
        for kind in get_args(BaselineKind):
            if text == kind or text.startswith(f"{kind} "):
                return cls(kind, text[len(kind) + 1 :])
        raise ValueError(f"'{text}' is no name of a baseline")


BARE_NAME = str(BaselineName("none"))
