"""Studies whose truth is known: placements with effects, runs with the noise that trainings have,
results per image.

A run gets an image right where

    ease of the image + level of the placement + the placement's own way with the image
        + luck of the seed (with the image, and with all) + luck of the run (with the image, and
        with all) > 0

all normal. So what candidates of one seed share, what new seeds change, and what new images would
change come about as they do in trainings, and the truth is an integral: a placement's expected
score on these images, and on all images of their kind.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray

from nas_attn.model import ScoredRun
from nas_attn.model.hypotheses import cdf
from nas_attn.storage.records import Latency
from research.tables import read
from research.trust.unseen import UNSEEN

Floats = NDArray[np.floating]

TYPES = ("se", "eca", "ela", "simam", "cbam")
COSTS = {"se": 0.05, "eca": 0.03, "ela": 0.12, "simam": 0.06, "cbam": 0.15}
"""What a module adds to the latency, as a share of the bare backbone's."""
LATENCY_KNOWN = 0.01
"""Half of a latency's interval, as a share."""
SITES = 4
ACCURACY = 0.70
IMAGES = 5000


@dataclass(frozen=True)
class Noise:
    """Standard deviations, in points of accuracy where they move all images, else in units of the
    images' ease.
    """

    name: str
    level: float
    """Of what a seed does to all candidates."""
    own: float
    """Of what a run does on all images."""
    seed_image: float
    """Of what a seed does to an image, for all candidates alike."""
    run_image: float
    """Of what a run does to an image."""
    placement_image: float
    """Of what a placement does to an image, in every run; 0 where all placements are one."""


FINE_TUNING = Noise(
    "fine-tuning", level=0.40, own=0.10, seed_image=0.24, run_image=0.06, placement_image=0.09
)
"""Runs of one candidate: sd .54 points; with two seeds they differ on 10 % of the images, two
candidates of a seed on 4 %.
"""
SCRATCH = Noise(
    "scratch", level=0.0, own=0.73, seed_image=0.0, run_image=0.235, placement_image=0.12
)
"""Runs of one candidate: sd .80 points, nothing shared by the candidates of a seed."""


@dataclass(frozen=True)
class World:
    """What kind of studies to simulate."""

    noise: Noise
    effects: str
    """`null`: all placements are one; `small`: they spread by .15 points; `planted`: one choice at
    one site adds .5;
    `any`: null in a quarter of the studies, else a spread of .03 to 1 point, evenly in its
        logarithm; `pair`: two choices add
    .8 together and cost .3 each alone, all others a little (`sparse pair`: nothing); `count`: the
    number of modules decides;
    `heavy`: few effects are large (Student's t, 2 degrees of freedom), and so is some luck of runs
        (3); those of
    `unseen.py`; `uneven`: as `any`, and some placements' runs scatter more than others' (by
    a factor of 1.6).
    """
    candidates: int
    backbones: int = 1
    interaction: float = 0.0
    """Standard deviation of placement x backbone, in points."""
    rungs: int = 1
    rung_correlation: float = 0.7
    """Of the placements' effects at neighbouring rungs."""
    rung_spread: float = 1.0
    """Of the placements' effects at rungs before the last, in units of that at the last."""
    run_correlation: float = 0.5
    """Of a run's luck at neighbouring rungs."""
    lasting: float = 0.0
    """Standard deviation of a placement's luck that all seeds of a study share, in points. The
    truth does not have it: another trained backbone would bring other luck.
    """

    @property
    def pretrained(self) -> bool:
        """Whether all networks start from the same trained weights."""
        return self.noise.name == FINE_TUNING.name and self.backbones == 1

    @property
    def name(self) -> str:
        more = (
            f", {self.backbones} backbones ±{self.interaction:g}"
            if self.backbones > 1 or self.interaction
            else ""
        )
        pruned = f", {self.rungs} rungs" if self.rungs > 1 else ""
        lasting = f", lasting luck ±{self.lasting:g}" if self.lasting else ""
        return f"{self.effects}, {self.noise.name}, {self.candidates}{more}{pruned}{lasting}"


@dataclass
class Study:
    """One simulated study: asks for runs, knows the truth."""

    world: World
    rng: np.random.Generator
    placements: dict[str, str] = field(default_factory=dict)
    """Key -> notation; `none` is the bare backbone, `uniform-…` the uniform ones."""

    def __post_init__(self) -> None:
        uneven = self.world.effects == "uneven"
        if self.world.effects in ("any", "uneven") and self.rng.random() < 0.25:
            self.world = replace(self.world, effects="null")
        if self.world.effects == "null":
            self.world = replace(self.world, noise=replace(self.world.noise, placement_image=0.0))
        choices = self._choices()
        self.placements = {_key(c): _text(c) for c in choices}
        self._index = {key: i for i, key in enumerate(self.placements)}
        noise, n = self.world.noise, len(choices)
        spread = math.hypot(noise.seed_image, noise.run_image)
        self._scale = math.sqrt(1 + spread**2 + noise.placement_image**2)
        self._middle = NormalDist().inv_cdf(ACCURACY) * self._scale
        self._point = 0.01 * self._scale / NormalDist().pdf(NormalDist().inv_cdf(ACCURACY))
        """What moves the accuracy by one point."""
        self.effect = self._effects(choices)
        self._rung_effects = self._at_rungs(self.effect)
        self._interaction = self.world.interaction * self.rng.standard_normal(
            (n, self.world.backbones)
        )
        self._own = noise.own * (
            np.exp(0.47 * self.rng.standard_normal(n)) if uneven else np.ones(n)
        )
        self._ease = self._normal(IMAGES)
        self._ways = noise.placement_image * self._normal(n, IMAGES)
        self._seeds: dict[int, tuple[Floats, Floats]] = {}
        self._lasting = np.zeros(n)
        if self.world.lasting:
            self._lasting = self.world.lasting * self.rng.standard_normal(n)

    # -------------------------------------------------------------------------------------------
    # runs

    def runs(self, key: str, seed: int) -> list[ScoredRun]:
        """A run's scores at its rungs; seed s starts from backbone s mod their
        number.
        """
        world, noise = self.world, self.world.noise
        backbone, i = seed % world.backbones, self._index[key]
        seed_level, seed_images = self._seed(seed)
        found = []
        own = (
            self._own[i] / math.sqrt(self.rng.chisquare(3))
            if world.effects == "heavy"
            else self._own[i]
        )
        levels, images = self._chain(own), self._chain(noise.run_image, IMAGES)
        for rung in range(world.rungs):
            points = (
                self._rung_effects[rung][i]
                + self._interaction[i, backbone]
                + self._lasting[i]
                + seed_level[rung]
                + levels[rung]
            )
            shift = self._middle - 0.2 * (world.rungs - 1 - rung) + self._point * points
            right = self._ease + shift + self._ways[i] + seed_images[rung] + images[rung] > 0
            found.append(
                ScoredRun(
                    key,
                    seed,
                    rung,
                    float(right.mean()),
                    backbone,
                    np.packbits(right).tobytes(),
                    IMAGES,
                )
            )
        return found

    def latency(self, key: str) -> Latency:
        """As a study knows it after its sessions."""
        return known(
            1 + sum(cost * self.placements[key].count(f"={kind}") for kind, cost in COSTS.items())
        )

    # -------------------------------------------------------------------------------------------
    # truth

    def true_gain(self, key: str, over: str) -> float:
        """How much better a placement is in expectation on all images of their kind, in points."""
        return self.true_new_value(key) - self.true_new_value(over)

    def true_value(self, key: str) -> float:
        """Expected accuracy on these images in percent: over seeds, and over backbones where there
        are several.
        """
        i, noise, world = self._index[key], self.world.noise, self.world
        points = self.effect[i] + (self._interaction[i, 0] if world.backbones == 1 else 0.0)
        own = (
            math.hypot(noise.level, self._own[i], world.interaction if world.backbones > 1 else 0.0)
            * self._point
        )
        spread = math.hypot(own, noise.seed_image, noise.run_image)
        return 100 * float(
            cdf((self._ease + self._middle + self._point * points + self._ways[i]) / spread).mean()
        )

    def true_new_value(self, key: str) -> float:
        """Expected accuracy on all images of their kind, in percent."""
        i, noise, world = self._index[key], self.world.noise, self.world
        points = self.effect[i] + (self._interaction[i, 0] if world.backbones == 1 else 0.0)
        own = (
            math.hypot(noise.level, self._own[i], world.interaction if world.backbones > 1 else 0.0)
            * self._point
        )
        spread = math.hypot(1, own, noise.seed_image, noise.run_image, noise.placement_image)
        return 100 * NormalDist().cdf((self._middle + self._point * points) / spread)

    # -------------------------------------------------------------------------------------------
    # inside

    def _choices(self) -> list[tuple[str, ...]]:
        found = [("none",) * SITES, *((kind,) * SITES for kind in TYPES)]
        seen = set(found)
        while len(found) < self.world.candidates:
            placement = tuple(self.rng.choice(["none", *TYPES], SITES).tolist())
            if placement not in seen:
                found.append(placement)
                seen.add(placement)
        return found

    def _effects(self, choices: Sequence[tuple[str, ...]]) -> Floats:
        """(placements,) in points; of the random ones half of the variance is additive."""
        if self.world.effects == "null":
            return np.zeros(len(choices))
        if self.world.effects == "planted":
            site, kind = int(self.rng.integers(SITES)), str(self.rng.choice(TYPES))
            return np.array([0.5 * (choice[site] == kind) for choice in choices])
        if self.world.effects in ("pair", "sparse pair"):
            (left, right), (a, b) = self.rng.permutation(SITES)[:2], self.rng.choice(TYPES, 2)
            has = np.array([(choice[left] == a, choice[right] == b) for choice in choices])
            found = np.where(has.all(axis=1), 0.8, -0.3 * has.any(axis=1))
            return (
                found
                if self.world.effects == "sparse pair"
                else found + self._sums(choices, 0.1 * self._normals())
            )
        if self.world.effects == "count":
            best = int(self.rng.integers(SITES + 1))
            number = np.array([SITES - choice.count("none") for choice in choices])
            return np.asarray(-1.5 * ((number - best) / SITES) ** 2)
        if self.world.effects == "heavy":
            return self._sums(choices, 0.2 * self.rng.standard_t(2, size=(SITES, 1 + len(TYPES))))
        if unseen := UNSEEN.get(self.world.effects):
            return unseen(choices, self.rng)
        small = self.world.effects == "small"
        return self._random_effects(
            choices, 0.15 if small else float(np.exp(self.rng.uniform(*np.log([0.03, 1.0]))))
        )

    def _random_effects(self, choices: Sequence[tuple[str, ...]], size: float) -> Floats:
        additive, own = self._sums(choices, self._normals()), self.rng.standard_normal(len(choices))
        return np.asarray(size * (additive / math.sqrt(SITES) + own) / math.sqrt(2))

    def _normals(self) -> Floats:
        return self.rng.standard_normal((SITES, 1 + len(TYPES)))

    def _sums(self, choices: Sequence[tuple[str, ...]], table: Floats) -> Floats:
        """(placements,) sums of (sites, choices) effects, in the order none, then TYPES."""
        names = ["none", *TYPES]
        return np.array(
            [sum(table[s, names.index(kind)] for s, kind in enumerate(c)) for c in choices]
        )

    def _at_rungs(self, effect: Floats) -> list[Floats]:
        """The effects at each rung, those of the last one given."""
        found = [effect]
        size = float(effect.std())
        for _ in range(self.world.rungs - 1):
            other = effect.mean() + size * self.rng.standard_normal(len(effect))
            r = self.world.rung_correlation
            found.append(r * found[-1] + math.sqrt(1 - r**2) * other)
        return [
            effect.mean() + self.world.rung_spread * (earlier - effect.mean())
            for earlier in found[:0:-1]
        ] + [effect]

    def _seed(self, seed: int) -> tuple[Floats, Floats]:
        if seed not in self._seeds:
            noise = self.world.noise
            self._seeds[seed] = (self._chain(noise.level), self._chain(noise.seed_image, IMAGES))
        return self._seeds[seed]

    def _chain(self, size: float, *shape: int) -> Floats:
        """(rungs, *shape) of luck that a run keeps in part from rung to rung."""
        r = self.world.run_correlation
        found = [size * self._normal(*shape)]
        for _ in range(self.world.rungs - 1):
            found.append(r * found[-1] + math.sqrt(1 - r**2) * size * self._normal(*shape))
        return np.array(found)

    def _normal(self, *shape: int) -> Floats:
        return self.rng.standard_normal(shape, dtype=np.float32)


def known(ratio: float) -> Latency:
    """A latency in times the bare backbone's."""
    return Latency(ratio, (1 - LATENCY_KNOWN) * ratio, (1 + LATENCY_KNOWN) * ratio, ratio, 4)


def _text(choice: Sequence[str]) -> str:
    return (
        " ".join(f"stage{i + 1}={kind}" for i, kind in enumerate(choice) if kind != "none")
        or "none"
    )


def _key(choice: Sequence[str]) -> str:
    if len(set(choice)) == 1:
        return "none" if choice[0] == "none" else f"uniform-{choice[0]}"
    return "-".join(choice)


@dataclass(frozen=True)
class TableWorld:
    """Studies replayed from the variance components of a table of real trainings; without results
    per image.
    """

    table: str
    rungs: int = 1
    """Of the table's rungs, the last ones."""
    backbones: int = 3
    effects: str = "table"
    pretrained: bool = False

    @property
    def name(self) -> str:
        return f"table {self.table}, {self.backbones} backbones" + (
            f", {self.rungs} rungs" if self.rungs > 1 else ""
        )


class TableStudy:
    """One study replayed from a table: the truth is drawn, as its few blocks leave it uncertain."""

    def __init__(self, world: TableWorld, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        table, components = _table(world.table)
        names = [f"rung{epochs} accuracy" for epochs in table.rungs[-world.rungs :]]
        self._columns = [components.index[name] for name in names]
        self._replay = components.draw(rng)
        self.placements, self._index, self._rows = (
            dict[str, str](),
            dict[str, int](),
            dict[str, int](),
        )
        self._table = table
        for i, row in enumerate(components.rows):
            kinds = set(table.choices[row].tolist())
            uniform = f"uniform-{row}" if len(kinds) == 1 else f"placement-{row}"
            key = "none" if kinds == {0} else uniform
            self.placements[key], self._index[key], self._rows[key] = (
                table.placements[row],
                i,
                int(row),
            )

    def runs(self, key: str, seed: int) -> list[ScoredRun]:
        """See `Study.runs`."""
        block = seed % self.world.backbones
        values = self._replay.run(block, seed)[self._index[key], self._columns]
        return [ScoredRun(key, seed, rung, float(v), block) for rung, v in enumerate(values)]

    def latency(self, key: str) -> Latency:
        """As the table has it; where it was not measured, by the number of modules."""
        ratio, low, high = self._table.latency[self._rows[key]].tolist()
        if math.isnan(ratio):
            return known(1 + 0.05 * self.placements[key].count("="))
        return Latency(ratio, low, high, ratio, 4)

    def true_value(self, key: str) -> float:
        """Expected accuracy over seeds and backbones, in percent."""
        return 100 * float(self._replay.truth[self._index[key], self._columns[-1]])

    def true_gain(self, key: str, over: str) -> float:
        """On these images: there are no results per image."""
        return self.true_value(key) - self.true_value(over)


@cache
def _table(name: str) -> tuple[read.Table, read.Components]:
    table = read.load(name)
    return table, read.fit(table)


def tables() -> list[str]:
    """The tables whose variance components can be fitted: those with enough of their blocks."""
    found = []
    for path in sorted(read.HERE.glob("*.npz")):
        try:
            _table(path.stem)
        except ValueError as error:
            print(f"{path.stem}: {error}")
        else:
            found.append(path.stem)
    return found


@dataclass(frozen=True)
class MeasuredWorld:
    """Searches from scratch with the effects and the noise of real trainings:
    `MEASURED_RUNS`.
    """

    problem: str
    candidates: int = 20
    confirm_seeds: int = 2
    """As the recipe's `search.confirm_seeds`."""
    rounds: int = 0
    """After these; 0: twice `confirm_seeds`."""
    backbones: int = 1
    rungs: int = 1
    effects: str = "measured"
    """Or `null`: all placements are one, with the measured noise."""
    pretrained: bool = False

    @property
    def name(self) -> str:
        more = "" if self.confirm_seeds == 2 else f", {self.confirm_seeds} further seeds"
        more += f", {self.rounds} rounds" if self.rounds else ""
        kind = "measured" if self.effects == "measured" else "null, noise of"
        return f"{kind} {self.problem}, scratch, {self.candidates}{more}"


class MeasuredStudy:
    """One search of the 64 placements of a problem. Nine effects are drawn, as the runs leave them
    uncertain; so is what does not add up. A run adds the level of a measured block and what is left
    of a measured run, both drawn anew: their tails are real.
    """

    def __init__(self, world: MeasuredWorld, rng: np.random.Generator) -> None:
        self.world, self.rng = world, rng
        measured = _measured(world.problem)
        own = measured.own * rng.standard_normal((4, 4, 4))
        effects = np.insert(
            rng.multivariate_normal(measured.effects, measured.uncertain).reshape(3, 3),
            0,
            0.0,
            axis=1,
        )
        if world.effects == "null":
            own, effects = np.zeros_like(own), np.zeros_like(effects)
        others = [
            (a, b, c) for a in range(4) for b in range(4) for c in range(4) if not a == b == c
        ]
        chosen = [(a, a, a) for a in range(4)]
        chosen += [others[i] for i in rng.permutation(len(others))[: world.candidates - 4]]
        texts = {
            c: " ".join(f"stage{i}={MODULES[k]}" for i, k in enumerate(c, 1) if k) or "none"
            for c in chosen
        }
        names = {
            c: f"uniform-{MODULES[c[0]]}" if len(set(c)) == 1 and any(c) else text
            for c, text in texts.items()
        }
        self.placements = {names[c]: texts[c] for c in chosen}
        truth = {
            c: measured.bare + sum(effects[i, k] for i, k in enumerate(c)) + own[c] * any(c)
            for c in chosen
        }
        self._truth = {names[c]: float(truth[c]) for c in chosen}
        self._measured, self._levels = measured, dict[int, float]()

    def runs(self, key: str, seed: int) -> list[ScoredRun]:
        """See `Study.runs`."""
        level = self._levels.setdefault(seed, float(self.rng.choice(self._measured.levels)))
        value = self._truth[key] + level + float(self.rng.choice(self._measured.rest))
        return [ScoredRun(key, seed, 0, value / 100, examples=self._measured.images)]

    def latency(self, key: str) -> Latency:
        """See `Study.latency`."""
        return known(
            1 + sum(cost * self.placements[key].count(f"={kind}") for kind, cost in COSTS.items())
        )

    def true_value(self, key: str) -> float:
        """Expected accuracy over seeds, in percent."""
        return self._truth[key]

    def true_gain(self, key: str, over: str) -> float:
        """On these images: there are no results per image."""
        return self.true_value(key) - self.true_value(over)


MODULES = ("none", "se", "eca", "ela")
MEASURED = ("fashion-mnist", "cifar10")
MEASURED_RUNS = Path(__file__).parent / "measured"
"""Full trainings of 16 placements of each problem, in blocks (research/notes/training.md)."""


@dataclass(frozen=True)
class Measured:
    """What a problem's target runs say, in points of accuracy on the validation images."""

    bare: float
    effects: Floats
    """(9,) of each module at each stage, shrunk to what is expected of them."""
    uncertain: Floats
    """(9, 9) covariance of what is left uncertain."""
    own: float
    """Standard deviation of what does not add up."""
    levels: Floats
    """Of the blocks."""
    rest: Floats
    """Of the runs: what is left without their placement and their block."""
    images: int = 3000


@cache
def _measured(problem: str) -> Measured:
    with np.load(MEASURED_RUNS / f"{problem}.npz", allow_pickle=False) as held:
        values = 100 * held["scores"][0, :, :, 0, 0].astype(
            float
        )  # the target's accuracies on validation images
    values = values[np.isfinite(values).all(1)]
    (blocks, count), order = (
        values.shape,
        np.array([(a, b, a ^ b) for a in range(4) for b in range(4)]),
    )
    levels, means = values.mean(1) - values.mean(), values.mean(0)
    rest = (values - means - levels[:, None]) * math.sqrt(
        blocks / (blocks - 1) * count / (count - 1)
    )
    design = np.concatenate(
        [np.ones((count, 1)), *(order[:, [s]] == [1, 2, 3] for s in range(3))], 1
    )
    found, left, *_ = np.linalg.lstsq(design, means, rcond=None)
    error = rest.var() / blocks
    covariance = error * np.linalg.inv(design.T @ design)[1:, 1:]
    spread = max(float((found[1:] ** 2).mean() - np.diag(covariance).mean()), 1e-6)
    uncertain = np.linalg.inv(np.linalg.inv(covariance) + np.eye(9) / spread)
    own = math.sqrt(max(float(left[0]) / (count - 10) - error, 0.0))
    effects = uncertain @ np.linalg.solve(covariance, found[1:])
    return Measured(
        float(found[0]),
        effects,
        uncertain,
        own,
        levels * math.sqrt(blocks / (blocks - 1)),
        rest.ravel(),
    )


def study(world: AnyWorld, rng: np.random.Generator) -> AnyStudy:
    """A study of a world."""
    kinds = {World: Study, TableWorld: TableStudy, MeasuredWorld: MeasuredStudy}
    return kinds[type(world)](world, rng)


AnyWorld = World | TableWorld | MeasuredWorld
AnyStudy = Study | TableStudy | MeasuredStudy
