"""Reads a table, says how its placements differ and why, and replays it.

    # the figures of docs/benchmarks/brief-training.md
    python -m research.tables.read cued-digits

In Python:

    # the name of a shipped table, or a path
    table = load("cued-digits")
    # (block, placement, rung), NaN where a run is missing
    table.search["accuracy"]
    components = fit(table)
    # another truth with which the table is consistent
    replay = components.draw(np.random.default_rng(0))
    # (placement,)
    replay.truth[:, components.index["target accuracy"]]
    # (placement, quantity): what runs of this seed would show
    replay.run(block=3, seed=7)
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
HERE = Path(__file__).parent
METRICS = ("accuracy", "loss", "train_loss_sum")
FLOOR = 1e-12


@dataclass(frozen=True)
class Table:
    """One problem's runs. B blocks, P placements, R rungs, V validation and T test images."""

    name: str
    info: dict[str, Any]
    """Recipe, seeds, epochs, machine, how long it took."""
    placements: tuple[str, ...]
    """Notation, the bare backbone first."""
    sites: tuple[str, ...]
    choices: NDArray[np.int64]
    """(P, sites): the same number, the same type; 0 is none."""
    types: tuple[str, ...]
    rungs: tuple[int, ...]
    search: dict[str, Floats]
    """Metric -> (B, P, R), from the block's trained backbone."""
    repeat: dict[str, Floats]
    """The same with another seed on the same backbone; NaN where it was not done."""
    target: dict[str, Floats]
    """Metric -> (B, P), from scratch, on the validation images."""
    test: dict[str, Floats]
    """The same networks on the test images."""
    correct: dict[str, NDArray[np.bool_]]
    """`search` (last rung), `target` (B, P, V), `test` (B, P, T)."""
    sources: dict[str, NDArray[np.int64]]
    """`validation` (V,), `test` (T,): images with one number come from one source and are resampled
    together.
    """
    latency: Floats
    """(P, 3): ratio to the bare backbone, low and high end of its 95 % interval; NaN where it was
    not measured.
    """

    @cached_property
    def complete(self) -> NDArray[np.bool_]:
        """(B,): blocks in which nothing is missing."""
        here = np.isfinite(self.search["accuracy"][..., -1]) & np.isfinite(self.target["accuracy"])
        return np.asarray(here.all(1))

    @cached_property
    def quantities(self) -> dict[str, Floats]:
        """`rung1 accuracy`, …, `target accuracy`, `test accuracy`: (B, P); losses with their sign
        turned, higher is better.
        """
        found = {}
        for metric in METRICS:
            sign = 1.0 if metric == "accuracy" else -1.0
            for number, epochs in enumerate(self.rungs):
                found[f"rung{epochs} {metric}"] = sign * self.search[metric][..., number]
            found[f"target {metric}"] = sign * self.target[metric]
            if metric in self.test:
                found[f"test {metric}"] = sign * self.test[metric]
        return found

    def repeated(self, quantity: str) -> Floats:
        """The second runs of a search's quantity, (B, P); all NaN for the target's."""
        rung, _, metric = quantity.partition(" ")
        if not rung.startswith("rung"):
            return np.full(self.quantities[quantity].shape, np.nan)
        sign = 1.0 if metric == "accuracy" else -1.0
        return sign * self.repeat[metric][..., self.rungs.index(int(rung.removeprefix("rung")))]


def load(name: str | Path) -> Table:
    """A table by its name (beside this file) or path."""
    path = Path(name)
    path = path if path.suffix == ".npz" else HERE / f"{name}.npz"
    with np.load(path, allow_pickle=False) as stored:
        held = {key: stored[key] for key in stored.files}
    info = json.loads(str(held["info"]))
    images = {
        kind: len(held[f"sources_{'test' if kind == 'test' else 'validation'}"]) for kind in CORRECT
    }
    return Table(
        name=info["problem"],
        info=info,
        placements=tuple(info["placements"]),
        sites=tuple(info["sites"]),
        choices=held["choices"].astype(np.int64),
        types=tuple(info["types"]),
        rungs=tuple(info["rungs"]),
        search={metric: held["search"][..., i].astype(float) for i, metric in enumerate(METRICS)},
        repeat={metric: held["repeat"][..., i].astype(float) for i, metric in enumerate(METRICS)},
        target={metric: held["target"][..., i].astype(float) for i, metric in enumerate(METRICS)},
        test={metric: held["test"][..., i].astype(float) for i, metric in enumerate(METRICS[:2])},
        correct={
            kind: np.unpackbits(held[f"{kind}_correct"], axis=-1, count=images[kind]).astype(bool)
            for kind in CORRECT
        },
        sources={part: held[f"sources_{part}"].astype(np.int64) for part in ("validation", "test")},
        latency=held["latency"].astype(float),
    )


CORRECT = ("search", "target", "test")


# ----------------------------------------------------------------------------------------
# components


@dataclass(frozen=True)
class Components:
    """What the runs of a table vary by. All matrices are covariances over the quantities, (Q, Q),
    of one run's value.

    A run's value is mean + placement + backbone + seed + placement x backbone + rest.
    """

    names: tuple[str, ...]
    rows: NDArray[np.int64]
    """(n,) the placements that were taken: those trained in all of the blocks that were taken."""
    blocks: int
    placement: Floats
    """Variance of the placements' truth, the images given."""
    additive: Floats
    """(Q,) share of it that is a sum over sites."""
    backbone: Floats
    seed: Floats
    interaction: Floats
    """Placement x backbone. Of the target 0: its seed is its backbone, all of that is in the
    rest.
    """
    rest: Floats
    images: Floats
    """(Q,) variance that other images would add to a placement's distance from the mean placement;
    NaN where unknown.
    """
    expected: Floats
    """(n, Q) what the placements' truth is expected to be, given the table."""
    errors: tuple[tuple[Floats, Floats], ...]
    """What is left uncertain of it: (projection (n, n), covariance (Q, Q)) of what is a sum over
    sites and of what is not.
    """

    @cached_property
    def index(self) -> dict[str, int]:
        return {name: number for number, name in enumerate(self.names)}

    @property
    def run_noise(self) -> Floats:
        """(Q,) standard deviation of one run around its placement's truth, shared levels aside."""
        return np.sqrt(np.diag(self.interaction + self.rest))

    def draw(self, random: np.random.Generator) -> Replay:
        """Another truth with which the table is consistent: as uncertain as its few blocks leave
        it.
        """
        truth = self.expected.copy()
        for projection, covariance in self.errors:
            truth += projection @ _normal(random, covariance, len(truth))
        return Replay(self, truth, int(random.integers(2**62)))


@dataclass(frozen=True)
class Replay:
    """One truth, and runs of it: equal seeds and blocks give equal runs."""

    components: Components
    truth: Floats
    """(n, Q)"""
    key: int

    def run(self, block: int, seed: int) -> Floats:
        """(n, Q): the values that runs of this seed on this backbone would show."""
        of, count = self.components, len(self.truth)
        backbone = np.random.default_rng((self.key, block))
        own = np.random.default_rng((self.key, block, seed))
        shared = _normal(backbone, of.backbone, 1) + _normal(own, of.seed, 1)
        return (
            self.truth
            + shared
            + _normal(backbone, of.interaction, count)
            + _normal(own, of.rest, count)
        )


def fit(table: Table, names: Sequence[str] | None = None) -> Components:
    """Variance components by the method of moments (MANOVA), negative parts set to zero.

    Args:
        names: quantities of the table; None: the accuracies and the sum of training losses at the
            last rung.

    Raises:
        ValueError: fewer than two blocks have placements in common.
    """
    if names is None:
        last = f"rung{table.rungs[-1]}"
        names = [
            name
            for name in table.quantities
            if name.endswith(" accuracy") or name == f"{last} train_loss_sum"
        ]
    all_runs = np.stack([table.quantities[name] for name in names], -1)
    blocks, rows = _balanced(np.isfinite(all_runs).all(-1))
    y = all_runs[:blocks, rows]
    n, means, levels = len(rows), y.mean(0), y.mean(1)
    residual = y - means - levels[:, None] + y.mean((0, 1))
    error = np.einsum("bpq,bpr->qr", residual, residual) / ((blocks - 1) * (n - 1))
    between = np.cov(levels, rowvar=False).reshape(error.shape)
    scale = np.sqrt(
        np.maximum(np.diag(np.cov(means, rowvar=False).reshape(error.shape) + error), FLOOR)
    )

    sums = _projection(_design(table.choices[rows]))
    whole = np.eye(n) - np.full((n, n), 1 / n)
    expected, errors, variance = np.tile(means.mean(0), (n, 1)), [], []
    for projection in (sums, whole - sums):
        freedom = max(
            round(np.trace(projection)), 1
        )  # few placements are sums over sites whatever they are
        part = projection @ means
        true = _positive(part.T @ part / freedom - error / blocks, scale)
        weight = true @ np.linalg.pinv(true + error / blocks)
        expected += part @ weight.T
        errors.append((projection, _positive(true - weight @ true, scale)))
        variance.append(freedom * true / (n - 1))
    placement = variance[0] + variance[1]

    seed, interaction, rest = _repeats(table, names, error, scale)
    return Components(
        names=tuple(names),
        rows=rows,
        blocks=blocks,
        placement=placement,
        additive=np.diag(variance[0]) / np.maximum(np.diag(placement), FLOOR),
        backbone=_positive(between - seed - error / n, scale),
        seed=seed,
        interaction=interaction,
        rest=rest,
        images=np.array([_images(table, name, blocks, rows) for name in names]),
        expected=expected,
        errors=tuple(errors),
    )


def _balanced(there: NDArray[np.bool_]) -> tuple[int, NDArray[np.int64]]:
    """(first blocks, placements that all of them have): those that leave most freedoms for the
    noise.
    """
    found = [(count, np.flatnonzero(there[:count].all(0))) for count in range(2, len(there) + 1)]
    found = [(count, rows) for count, rows in found if len(rows) > 2]
    if not found:
        raise ValueError("variance components need two blocks with placements in common")
    return max(found, key=lambda pair: (pair[0] - 1) * (len(pair[1]) - 1))


def _design(choices: NDArray[np.int64]) -> Floats:
    """(n, columns): a column per site and type, and one of ones."""
    columns = [
        choices[:, [site]] == np.unique(choices[:, site]) for site in range(choices.shape[1])
    ]
    return np.concatenate([np.ones((len(choices), 1)), *columns], 1).astype(float)


def _projection(design: Floats) -> Floats:
    """(n, n) onto what the design's columns can say, but for the mean."""
    return design @ np.linalg.pinv(design) - np.full((len(design), len(design)), 1 / len(design))


def _repeats(
    table: Table, names: Sequence[str], error: Floats, scale: Floats
) -> tuple[Floats, Floats, Floats]:
    """(seed, interaction, rest) from what two seeds on one backbone differ by; the target's error
    is all rest.

    Without repeats all of the error is rest, and nothing the seed's.
    """
    searched = np.flatnonzero([name.startswith("rung") for name in names])
    first = np.stack([table.quantities[name] for name in names], -1)[..., searched]
    second = np.stack([table.repeated(name) for name in names], -1)[..., searched]
    pairs = [d[np.isfinite(d).all(-1)] for d in second - first]
    pairs = [d for d in pairs if len(d) > 1]
    seed, interaction, rest = np.zeros_like(error), np.zeros_like(error), error.copy()
    if pairs and len(searched):
        own = sum((d - d.mean(0)).T @ (d - d.mean(0)) for d in pairs) / (
            2 * sum(len(d) - 1 for d in pairs)
        )
        levels = sum(np.outer(d.mean(0), d.mean(0)) / 2 - own / len(d) for d in pairs) / len(pairs)
        inside = np.ix_(searched, searched)
        seed[inside] = _positive(levels, scale[searched])
        interaction[inside] = _positive(error[inside] - own, scale[searched])
        rest[searched] = rest[:, searched] = 0.0  # the target has seeds of its own
        rest[inside] = own
    return seed, interaction, rest


def _images(table: Table, name: str, blocks: int, rows: NDArray[np.int64]) -> float:
    """The images' part in the variance of a placement's accuracy: the covariance, over pairs of
    blocks, of what the sources add to its distance from the mean placement.
    """
    kind = {
        f"rung{table.rungs[-1]} accuracy": "search",
        "target accuracy": "target",
        "test accuracy": "test",
    }.get(name)
    if kind is None:
        return float("nan")
    correct = table.correct[kind][:blocks, rows].astype(float)
    apart = correct - correct.mean(1, keepdims=True)
    apart -= apart.mean(-1, keepdims=True)
    sources = table.sources["test" if kind == "test" else "validation"]
    count, images = int(sources.max()) + 1, len(sources)
    member = np.zeros((images, count))
    member[np.arange(images), sources] = 1.0
    sums = apart @ member
    both, each = sums.sum(0), (sums**2).sum(0)
    covariance = ((both**2 - each).sum(-1) / (blocks * (blocks - 1))).mean() / images**2
    return float(max(covariance * count / (count - 1), 0.0))


def _positive(matrix: Floats, scale: Floats) -> Floats:
    """The nearest covariance matrix, nearness in units of `scale` (Q,)."""
    values, vectors = np.linalg.eigh(matrix / np.outer(scale, scale))
    return np.asarray((vectors * np.maximum(values, 0.0)) @ vectors.T * np.outer(scale, scale))


def _normal(random: np.random.Generator, covariance: Floats, count: int) -> Floats:
    """(count, Q) draws."""
    values, vectors = np.linalg.eigh(covariance)
    return random.normal(size=(count, len(values))) @ (vectors * np.sqrt(np.maximum(values, 0.0))).T


# ------------------------------------------------------------------------------- the page's figures


def kendall(a: Floats, b: Floats) -> float:
    """Kendall's tau-b; NaN where one of them is constant."""
    i, j = np.triu_indices(len(a), 1)
    x, y = np.sign(a[i] - a[j]), np.sign(b[i] - b[j])
    size = np.sqrt((x**2).sum() * (y**2).sum())
    return float((x * y).sum() / size) if size else float("nan")


def describe(table: Table, random: np.random.Generator, draws: int = 200) -> str:
    """The figures of the page, in points of accuracy where no unit is named."""
    of = fit(table)
    n, target = len(of.rows), of.index["target accuracy"]
    lines = [f"{table.name}: {of.blocks} blocks x {n} of {len(table.placements)} placements", ""]
    lines += [
        (
            "| quantity | placement | additive | backbone | seed | placement x backbone | rest |"
            " images |"
        )
    ]
    lines += ["|---|---|---|---|---|---|---|---|"]
    for q, name in enumerate(of.names):
        unit = 100 if name.endswith("accuracy") else 1
        parts = (of.backbone, of.seed, of.interaction, of.rest)
        cells = [f"{unit * np.sqrt(part[q, q]):.2f}" for part in parts]
        images = "" if np.isnan(of.images[q]) else f"{unit * np.sqrt(of.images[q]):.2f}"
        lines += [
            (
                f"| {name} | {unit * np.sqrt(of.placement[q, q]):.2f} | {of.additive[q]:.2f} |"
                f" {' | '.join(cells)} | {images} |"
            )
        ]
    lines += [
        "",
        (
            "| quantity | spread/noise | reliability: one run, the table | tau of one run | of the"
            " mean | true correlation |"
        ),
    ]
    lines += ["|---|---|---|---|---|---|"]
    truths = np.stack([of.draw(random).truth for _ in range(draws)])
    values = np.stack([table.quantities[name] for name in of.names], -1)[: of.blocks, of.rows]
    for q, name in enumerate(of.names):
        spread = np.mean([np.std(np.sort(truth[:, q])[n // 2 :], ddof=1) for truth in truths])
        noise = of.run_noise[q]
        true = of.placement[q, q]
        reliable = true / (true + noise**2), true / (true + noise**2 / of.blocks)
        others = [np.delete(values[..., target], b, 0).mean(0) for b in range(of.blocks)]
        single = np.mean([kendall(values[b, :, q], others[b]) for b in range(of.blocks)])
        mean = kendall(values[..., q].mean(0), values[..., target].mean(0))
        apart = np.mean([np.corrcoef(truth[:, q], truth[:, target])[0, 1] for truth in truths])
        lines += [
            (
                f"| {name} | {spread / noise:.2f} | {reliable[0]:.2f}, {reliable[1]:.2f} |"
                f" {single:+.2f} | {mean:+.2f} | {apart:+.2f} |"
            )
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("table", help="a table's name, or its file")
    table = load(parser.parse_args().table)
    print(describe(table, np.random.default_rng(0)))


if __name__ == "__main__":
    main()
