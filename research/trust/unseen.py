"""Effects that placements may have, thought up after the model was fixed, so that nothing of it was
chosen with them in mind.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Choices = Sequence[tuple[str, ...]]
Value = TypeVar("Value")

FAMILIES = (("se", "eca"), ("ela", "simam", "cbam"))
"""Modules that do the same: gates of channels, and those that look at places."""
FAMILY_OF = {kind: number for number, family in enumerate(FAMILIES) for kind in family}


def substitutes(choices: Choices, rng: np.random.Generator) -> Floats:
    """Only the best module of a network counts: one more adds nothing."""
    table = _table(choices, lambda: abs(rng.normal(0.0, 0.25)))
    return np.array(
        [max((table[at] for at in _modules(choice)), default=0.0) for choice in choices]
    )


def with_depth(choices: Choices, rng: np.random.Generator) -> Floats:
    """What a type does changes evenly with depth, and may turn from good to bad."""
    slopes = _by_kind(choices, lambda: rng.normal(0.0, 0.15, 2))
    depth = np.linspace(-1, 1, len(choices[0]))
    return np.array(
        [sum(slopes[k] @ (1, 1.5 * depth[s]) for s, k in _modules(choice)) for choice in choices]
    )


def harmful(choices: Choices, rng: np.random.Generator) -> Floats:
    """Every module costs a little, one more than the other."""
    return _sums(choices, _table(choices, lambda: -abs(rng.normal(0.0, 0.15))))


def families(choices: Choices, rng: np.random.Generator) -> Floats:
    """Modules of a family do the same at a site."""
    table = rng.normal(0.0, 0.2, (len(choices[0]), len(FAMILIES)))
    return np.array(
        [sum(table[s, FAMILY_OF[k]] for s, k in _modules(choice)) for choice in choices]
    )


def parity(choices: Choices, rng: np.random.Generator) -> Floats:
    """An odd number of modules is better, or worse, than an even one: nothing adds up."""
    size = rng.normal(0.0, 0.4)
    return np.array([size * (len(_modules(choice)) % 2) for choice in choices])


def next_to(choices: Choices, rng: np.random.Generator) -> Floats:
    """Two equal modules at neighbouring sites help, or harm, by type."""
    pull = _by_kind(choices, lambda: rng.normal(0.0, 0.3))
    return np.array(
        [sum(pull[a] for a, b in itertools.pairwise(c) if a == b != "none") for c in choices]
    )


def at_all(choices: Choices, rng: np.random.Generator) -> Floats:
    """Any module helps, or harms, and it does not matter which, or how many."""
    size = rng.normal(0.0, 0.3)
    return np.array([size * bool(_modules(choice)) for choice in choices])


def few(choices: Choices, rng: np.random.Generator) -> Floats:
    """Three in ten choices have an effect at their site, the others have none at all."""
    return _sums(choices, _table(choices, lambda: rng.normal(0.0, 0.35) * (rng.random() < 0.3)))


def first_counts(choices: Choices, rng: np.random.Generator) -> Floats:
    """Only the first module of a network counts, by type."""
    size = _by_kind(choices, lambda: rng.normal(0.0, 0.3))
    return np.array(
        [size[found[0][1]] if (found := _modules(choice)) else 0.0 for choice in choices]
    )


def half_and_half(choices: Choices, rng: np.random.Generator) -> Floats:
    """Modules of one family belong early, those of the other late: what is at the wrong end costs
    what it brings at the right.
    """
    size, middle = rng.normal(0.0, 0.2, len(FAMILIES)), (len(choices[0]) - 1) / 2
    return np.array(
        [
            sum(size[FAMILY_OF[k]] * np.sign(s - middle) for s, k in _modules(choice))
            for choice in choices
        ]
    )


def needle(choices: Choices, rng: np.random.Generator) -> Floats:
    """One placement of all gains, and no other differs from the bare backbone."""
    lucky, size = 1 + int(rng.integers(len(choices) - 1)), abs(rng.normal(0.0, 0.8))
    return np.array([size * (i == lucky) for i in range(len(choices))])


def saturating(choices: Choices, rng: np.random.Generator) -> Floats:
    """Effects add up, but a gain is worth less the larger it is already; losses are not
    softened.
    """
    sums = _sums(choices, _table(choices, lambda: rng.normal(0.0, 0.25)))
    return np.asarray(np.where(sums > 0, 0.5 * (1 - np.exp(-sums / 0.5)), sums))


def unrelated(choices: Choices, rng: np.random.Generator) -> Floats:
    """Each placement is its own case, and few differ much (Student's t, 2 degrees of freedom)."""
    return np.asarray(
        0.12 * rng.standard_t(2, size=len(choices)) * np.array([bool(_modules(c)) for c in choices])
    )


def one_site(choices: Choices, rng: np.random.Generator) -> Floats:
    """Only one site matters."""
    table, site = _table(choices, lambda: rng.normal(0.0, 0.3)), int(rng.integers(len(choices[0])))
    return _sums(choices, {at: size * (at[0] == site) for at, size in table.items()})


def variety(choices: Choices, rng: np.random.Generator) -> Floats:
    """The more types a network has, the better, or the worse."""
    size = rng.normal(0.0, 0.2)
    return np.array([size * len({kind for _, kind in _modules(choice)}) for choice in choices])


def threshold(choices: Choices, rng: np.random.Generator) -> Floats:
    """Effects add up, and only what exceeds 0.3 points shows."""
    sums = _sums(choices, _table(choices, lambda: rng.normal(0.0, 0.25)))
    return np.asarray(np.sign(sums) * np.maximum(np.abs(sums) - 0.3, 0.0))


def weakest(choices: Choices, rng: np.random.Generator) -> Floats:
    """A network is as good as its worst module."""
    table = _table(choices, lambda: rng.normal(0.05, 0.25))
    return np.array(
        [min((table[at] for at in _modules(choice)), default=0.0) for choice in choices]
    )


def rare(choices: Choices, rng: np.random.Generator) -> Floats:
    """Most modules cost a little, and one in ten brings much."""
    return _sums(
        choices, _table(choices, lambda: abs(rng.normal(0.0, 0.6)) if rng.random() < 0.1 else -0.04)
    )


def growing(choices: Choices, rng: np.random.Generator) -> Floats:
    """Effects double from site to site."""
    table = _table(choices, lambda: rng.normal(0.0, 0.06))
    return _sums(choices, {at: size * 2.0 ** at[0] for at, size in table.items()})


def exclusive(choices: Choices, rng: np.random.Generator) -> Floats:
    """Two types help, or harm, wherever they are, but not both in one network."""
    kinds, size = (
        sorted({kind for choice in choices for kind in choice} - {"none"}),
        rng.normal(0.0, 0.35),
    )
    two = set(rng.choice(kinds, 2, replace=False).tolist())
    return np.array([size * (len(two & set(choice)) == 1) for choice in choices])


UNSEEN: Mapping[str, Callable[[Choices, np.random.Generator], Floats]] = {
    "substitutes": substitutes,
    "with depth": with_depth,
    "harmful": harmful,
    "families": families,
    "parity": parity,
    "next to": next_to,
    "at all": at_all,
    "few": few,
    "first counts": first_counts,
    "half and half": half_and_half,
    "needle": needle,
    "saturating": saturating,
    "unrelated": unrelated,
    "one site": one_site,
    "variety": variety,
    "threshold": threshold,
    "weakest": weakest,
    "rare": rare,
    "growing": growing,
    "exclusive": exclusive,
}


def _modules(choice: Sequence[str]) -> list[tuple[int, str]]:
    return [(site, kind) for site, kind in enumerate(choice) if kind != "none"]


def _table(choices: Choices, draw: Callable[[], float]) -> dict[tuple[int, str], float]:
    return {at: draw() for at in sorted({at for choice in choices for at in _modules(choice)})}


def _sums(choices: Choices, table: Mapping[tuple[int, str], float]) -> Floats:
    return np.array([sum(table[at] for at in _modules(choice)) for choice in choices])


def _by_kind(choices: Choices, draw: Callable[[], Value]) -> dict[str, Value]:
    return {
        kind: draw() for kind in sorted({kind for choice in choices for kind in choice} - {"none"})
    }
