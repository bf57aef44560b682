"""Which cheap training predicts what the user will train in the end?

    # goes on after the table and DIR
    python -m benchmarks.protocols fashion-mnist --out DIR --root DATA --blocks 16 --hours 2
    # benchmarks/tables/protocols/fashion-mnist.npz
    python -m benchmarks.protocols fashion-mnist --out DIR --pack
    # the page's figures
    python -m benchmarks.protocols fashion-mnist --show
    # what cross-entropy and Brier score add to accuracy
    python -m benchmarks.protocols fashion-mnist --scores

A problem is a recipe of `benchmarks/tables/`: none, SE, ECA or ELA-T at each of three stages. 16 of
the 64 placements are trained, in which each pair of choices at two sites comes up once, so that the
nine effects (a choice at a site, against none) are known equally well. A block has seeds, and for
some protocols a backbone, of its own. The target is what the user trains in the end; a protocol is
a way of training that a search could use instead.

- `target`: as the recipe's `[target]` says.
- `backbone`: as its `[training]` says: from a trained backbone, 4 epochs, a fifth of the learning
  rate.
- `half`: from a backbone that had 3 epochs, 4 epochs at the full learning rate.
- `brief`: as the target, but 4 of its 10 epochs (`transfer`: 4 of 15).

`transfer` starts from weights that were trained on Fashion-MNIST, with a new head, and goes on with
2,000 digits. Each run is one line of DIR/PROBLEM.protocols.jsonl: a killed call costs the run under
way. `--pack` adds them to the table.
"""

from __future__ import annotations

import argparse
import json
import math
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.rows import append_row, read_rows
from benchmarks.tables.make import REASON, one_arithmetic
from benchmarks.tables.read import load
from nas_attn import data
from nas_attn.backbones import weights as states
from nas_attn.data import Split
from nas_attn.errors import NasAttnWarning
from nas_attn.evaluation.learning_rates import candidate_rates
from nas_attn.evaluation.plan import make_plan
from nas_attn.model import ScoredRun, fit
from nas_attn.notation import parse
from nas_attn.recipe import Recipe
from nas_attn.recipe_reading import load_recipe
from nas_attn.training import LearningRates, Trainer

TABLES = Path(__file__).parent / "tables"
TARGET = "target"
HALF = {"backbone_epochs": 3, "finetune_learning_rate": 0.2}
PROTOCOLS: dict[str, dict[str, dict[str, Any]]] = {
    "fashion-mnist": {"backbone": {}, "half": HALF, "brief": {"start": "scratch"}},
    "cifar10": {"backbone": {}, "half": HALF, "brief": {"start": "scratch"}},
    "transfer": {"brief": {}},
}
"""Problem -> protocol -> what it changes in the recipe's `[training]`; scored at the last rung
only.
"""
TARGETS = 5_000
"""First seed of the target's runs; those of the protocols are lower, as a search's are other seeds
than its validation's.
"""
METRICS = ("accuracy", "loss", "brier")
Floats = NDArray[np.float64]


def placements() -> list[tuple[int, int, int]]:
    """Choices at the three sites, 0 for none: an orthogonal array of 16 runs, four levels, strength
    2.
    """
    return [(a, b, a ^ b) for a in range(4) for b in range(4)]


@dataclass(frozen=True)
class Lab:
    """A problem, ready to train."""

    problem: str
    out: Path
    recipe: Recipe
    dataset: data.Dataset

    @classmethod
    def open(cls, problem: str, out: Path, root: str | None) -> Lab:
        overrides = {"data.root": root} if root and problem != "transfer" else None
        recipe = load_recipe(str(TABLES / f"{problem}.toml"), overrides=overrides)
        return cls(problem, out, recipe, data.load(recipe.data, device="cpu"))

    def training(self, protocol: str) -> Recipe:
        """The recipe whose `[training]` is this protocol's."""
        if protocol == TARGET:
            changed = self.recipe.target_training
        else:
            last = self.recipe.training.rungs[-1:]
            changed = self.recipe.training.model_copy(
                update={"rungs": last, **PROTOCOLS[self.problem][protocol]}
            )
        return self.recipe.model_copy(update={"training": changed})

    def run(
        self, protocol: str, block: int, choices: tuple[int, int, int], start: Path | None
    ) -> dict[str, Any]:
        """Trains one placement and scores it on validation and test images."""
        recipe = self.training(protocol)
        plan = make_plan(recipe, self.dataset.input_shape, len(self.dataset.classes))
        seed = TARGETS * (protocol == TARGET) + block
        model = plan.bare(seed)
        if start is not None:
            restore(model, start, head=self.problem != "transfer")
        chosen = {
            site: values[c]
            for (site, values), c in zip(plan.space.allowed.items(), choices, strict=True)
        }
        plan.attach(model, plan.space.resolve(chosen), seed)
        began = time.process_time()
        self.fit(recipe, model, seed, candidate_rates(plan, model), recipe.training.rungs)
        spent = time.process_time() - began
        parts = {"validation": self.dataset.validation, "test": self.dataset.read_test(REASON)}
        scores = {part: score(model, split) for part, split in parts.items()}
        return {
            "protocol": protocol,
            "block": block,
            "choices": choices,
            "cpu_s": round(spent, 2),
            **scores,
        }

    def fit(
        self, recipe: Recipe, model: nn.Module, seed: int, rates: LearningRates, rungs: list[int]
    ) -> None:
        bare = make_plan(recipe, self.dataset.input_shape, len(self.dataset.classes)).bare(0)
        computes = one_arithmetic(self.out, self.recipe.training, self.dataset, bare)
        Trainer(recipe.training, self.dataset, device="cpu", arithmetic=computes).fit(
            model,
            seed=seed,
            rungs=rungs,
            rates=rates,
        )

    def backbone(self, protocol: str, block: int) -> tuple[Path, float]:
        """A block's trained bare backbone, and the CPU seconds that it took."""
        path = self.out / f"{self.problem}.{protocol}{block}.pt"
        noted = path.with_suffix(".json")
        if not noted.exists():
            recipe = self.training(protocol)
            plan = make_plan(recipe, self.dataset.input_shape, len(self.dataset.classes))
            model, began = plan.bare(block), time.process_time()
            self.fit(
                recipe,
                model,
                block,
                LearningRates(recipe.training.learning_rate),
                [recipe.training.backbone_epochs],
            )
            path.write_bytes(states.pack(model))
            noted.write_text(json.dumps(round(time.process_time() - began, 2)))
        return path, json.loads(noted.read_text())

    def weights(self, root: str | None) -> Path:
        """`transfer`: the network as it learned 10,000 images of Fashion-MNIST in 20 epochs,
        once.
        """
        path = self.out / "transfer.weights.pt"
        if not path.exists():
            changes: dict[str, Any] = {"data.train_subset": 10_000, "target.epochs": 20} | (
                {"data.root": root} if root else {}
            )
            given = load_recipe(str(TABLES / "fashion-mnist.toml"), overrides=changes)
            other = Lab("fashion-mnist", self.out, given, data.load(given.data, device="cpu"))
            recipe = other.training(TARGET)
            rates = LearningRates(recipe.training.learning_rate)
            model = make_plan(recipe, other.dataset.input_shape, len(other.dataset.classes)).bare(0)
            other.fit(
                recipe,
                model,
                0,
                rates,
                recipe.training.rungs,
            )
            print(
                f"weights: {score(model, other.dataset.validation)[0]:.4f} on Fashion-MNIST",
                flush=True,
            )
            path.write_bytes(states.pack(model))
        return path


def restore(model: nn.Module, path: Path, *, head: bool) -> None:
    """Loads a state; without `head`, the last linear layer stays random."""
    fresh = {name: value.clone() for name, value in model.state_dict().items()}
    states.restore(model, states.unpack(path.read_bytes()))
    if not head:
        last = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)][-1]
        held = model.state_dict() | {
            name: value for name, value in fresh.items() if name.startswith(f"{last}.")
        }
        model.load_state_dict(held)


@torch.inference_mode()
def score(model: nn.Module, split: Split) -> list[float]:
    """Accuracy, cross-entropy and Brier score on a split."""
    model.eval()
    sums = torch.zeros(3, dtype=torch.float64)
    for x, y in split.batches(500):
        logits = model(x).float()
        odds = logits.softmax(1)
        wrong = (odds - nn.functional.one_hot(y, odds.shape[1])).square().sum()
        loss = nn.functional.cross_entropy(logits, y, reduction="sum")
        sums += torch.stack([(logits.argmax(1) == y).sum().double(), loss.double(), wrong.double()])
    return [round(float(value), 6) for value in sums / len(split)]


def runs(
    lab: Lab, asked: argparse.Namespace, done: set[tuple[Any, ...]]
) -> Iterator[dict[str, Any]]:
    """What is missing, block by block; the protocols in the first blocks only."""
    for block in range(asked.blocks):
        for protocol in (TARGET, *PROTOCOLS[lab.problem]):
            missing = [c for c in placements() if (protocol, block, c) not in done]
            if not missing or (protocol != TARGET and block >= asked.protocol_blocks):
                continue
            start, shared = None, 0.0
            if lab.problem == "transfer":
                start = lab.weights(asked.root)
            elif lab.training(protocol).training.start == "backbone":
                start, shared = lab.backbone(protocol, block)
            for choices in missing:
                yield lab.run(protocol, block, choices, start) | {"backbone_s": shared}


def train(asked: argparse.Namespace, path: Path) -> None:
    lab, end = Lab.open(asked.problem, asked.out, asked.root), time.time() + 3600 * asked.hours
    known = unpacked(table_of(asked.problem)) + read_rows(path)
    done = {(run["protocol"], run["block"], tuple(run["choices"])) for run in known}
    for record in runs(lab, asked, done):
        append_row(path, record)
        print({key: value for key, value in record.items() if key != "backbone_s"}, flush=True)
        if time.time() > end:
            print("the hours are over")
            return


# -------------------------------------------------------------------------------- what the runs say


def table_of(problem: str) -> Path:
    return TABLES / "protocols" / f"{problem}.npz"


def unpacked(path: Path) -> list[dict[str, Any]]:
    """A table's runs, as `pack` takes them."""
    if not path.exists():
        return []
    with np.load(path, allow_pickle=False) as held:
        names, scores, seconds = (
            [str(name) for name in held["protocols"]],
            held["scores"],
            held["seconds"],
        )
    return [
        {
            "protocol": names[protocol],
            "block": int(block),
            "choices": placements()[at],
            "validation": scores[protocol, block, at, 0].tolist(),
            "test": scores[protocol, block, at, 1].tolist(),
            "cpu_s": float(seconds[protocol, block, at, 0]),
            "backbone_s": float(seconds[protocol, block, at, 1]),
        }
        for protocol, block, at in np.argwhere(np.isfinite(scores).all((3, 4)))
    ]


def pack(runs: list[dict[str, Any]], path: Path) -> None:
    """All finished runs as arrays: (protocol, block, placement, validation or test, metric), and
    seconds.
    """
    names = [TARGET, *PROTOCOLS[path.stem]]
    blocks, order = 1 + max(run["block"] for run in runs), placements()
    scores = np.full((len(names), blocks, len(order), 2, len(METRICS)), np.nan, np.float32)
    seconds = np.full((len(names), blocks, len(order), 2), np.nan, np.float32)
    for run in runs:
        at = names.index(run["protocol"]), run["block"], order.index(tuple(run["choices"]))
        scores[at], seconds[at] = (
            [run["validation"], run["test"]],
            [
                run["cpu_s"],
                run["backbone_s"],
            ],
        )
    np.savez_compressed(path, scores=scores, seconds=seconds, protocols=names, metrics=METRICS)
    print(f"{path}: {path.stat().st_size / 1e3:.0f} kB")


def effects(values: Floats, order: NDArray[np.int64]) -> Floats:
    """(blocks, 9): what each choice at each site adds to a block's (blocks, placements) values,
    against none; least squares.
    """
    design = np.concatenate(
        [np.ones((len(order), 1)), *(order[:, [s]] == [1, 2, 3] for s in range(3))], 1
    )
    return np.asarray(values @ np.linalg.pinv(design).T[:, 1:])


def table_effects(problem: str) -> Floats:
    """(blocks, 9) effects of the target on test images, from the table of all 64 placements, where
    there is one.
    """
    if not (TABLES / f"{problem}.npz").exists():
        return np.zeros((0, 9))
    table = load(problem)
    assert table.types == ("none", "se", "eca", "ela")
    return 100 * effects(table.test["accuracy"], table.choices)


def shared(a: Floats, b: Floats, *, same: bool, weights: Floats | None = None) -> float:
    """Covariance of the true effects behind (blocks, 9) measured ones, about their means: by
    products of different blocks only, whose errors are not the same, if both are of the `same`
    runs. `weights` of the blocks of `a`, and of `b` if it is as long.
    """
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    products, counted = a @ b.T / 8, np.ones((len(a), len(b)))
    if weights is not None:
        counted *= weights[:, None] * (weights if len(a) == len(b) else np.ones(len(b)))
    if same:
        np.fill_diagonal(counted, 0.0)
    return float((products * counted).sum() / counted.sum())


@dataclass(frozen=True)
class Said:
    """What one protocol's score says of the target's effects."""

    correlation: float
    """Of its true effects with the target's true ones."""
    signal: float
    """Variance of its true effects."""
    noise: float
    """Variance of the error of one block's effects, about their mean."""
    block_s: float

    def attained(self, minutes: float) -> float:
        """Correlation of what it measures in so much time with the target's true effects."""
        blocks = 60 * minutes / self.block_s
        return float(
            self.correlation
            * np.sqrt(max(self.signal, 0.0) / max(self.signal + self.noise / blocks, 1e-12))
        )


@dataclass(frozen=True)
class Truth:
    """The target's effects on test images: blocks of 16 placements, then those of the table of all
    64, if there is one.
    """

    effects: Floats
    """(blocks, 9)"""
    weights: Floats
    """(blocks,): a block of 64 counts twice, as most of an effect's error is its seed's."""

    @classmethod
    def of(cls, blocks: Floats, more: Floats) -> Truth:
        return cls(np.concatenate([blocks, more]), np.repeat([1.0, 2.0], [len(blocks), len(more)]))

    def without(self, block: int) -> Truth:
        return Truth(np.delete(self.effects, block, 0), np.delete(self.weights, block))

    @property
    def mean(self) -> Floats:
        return np.asarray(self.weights @ self.effects / self.weights.sum())

    @property
    def error(self) -> Floats:
        """Standard errors of the mean."""
        off, w = self.effects - self.mean, self.weights / self.weights.sum()
        return np.asarray(np.sqrt((w[:, None] ** 2 * off**2).sum(0) / (1 - (w**2).sum())))

    @property
    def signal(self) -> float:
        return shared(self.effects, self.effects, same=True, weights=self.weights)

    @property
    def reliability(self) -> float:
        return self.signal / float(np.var(self.mean, ddof=1))


def said(truth: Truth, measured: Floats, block_s: float, *, same: bool) -> Said:
    true, own = truth.signal, shared(measured, measured, same=True)
    both = shared(truth.effects, measured, same=same, weights=truth.weights)
    centred = measured - measured.mean(1, keepdims=True)
    noise = float((centred**2).sum(1).mean() / 8) - own
    correlation = both / np.sqrt(true * own) if true > 0 and own > 0 else np.nan
    return Said(float(np.clip(correlation, -1, 1)), own, noise, block_s)


def jackknife(truth: Truth, measured: Floats, *, same: bool) -> float:
    """Standard error of the true correlation, by leaving out block after block; of the `same` runs
    both at once.
    """
    shorter = [np.delete(measured, block, 0) for block in range(len(measured))]
    less = [truth.without(block) for block in range(len(truth.weights))]
    groups = (
        [[(one, shorter[k] if k < len(shorter) else measured) for k, one in enumerate(less)]]
        if same
        else [[(one, measured) for one in less], [(truth, one) for one in shorter]]
    )
    found = 0.0
    for pairs in groups:
        values = np.array([said(*pair, 1.0, same=same).correlation for pair in pairs])
        if not np.isfinite(values).any():
            return math.nan
        found += (
            (len(values) - 1) / len(values) * float(np.nansum((values - np.nanmean(values)) ** 2))
        )
    return float(np.sqrt(found))


def show(problem: str) -> None:
    """Reliability of the truth, then a row per protocol and score; ± is a standard error, by
    leaving out block after block.
    """
    with np.load(table_of(problem), allow_pickle=False) as held:
        scores, seconds = held["scores"].astype(float), held["seconds"].astype(float)
        names, metrics = (
            [str(name) for name in held["protocols"]],
            [str(name) for name in held["metrics"]],
        )
    whole, order = np.isfinite(scores).all((2, 3, 4)), np.array(placements())
    blocks = 100 * effects(scores[0, whole[0], :, 1, 0], order)
    truth = Truth.of(blocks, table_effects(problem))
    more = len(truth.weights) - len(blocks)
    print(
        f"target on test images: {len(blocks)} blocks of 16 placements and {more} of 64,"
        f" reliability of the nine effects {truth.reliability:.2f} (the blocks of 16 alone:"
        f" {Truth.of(blocks, blocks[:0]).reliability:.2f})"
    )
    for site, row in enumerate(
        zip(truth.mean.reshape(3, 3), truth.error.reshape(3, 3), strict=True), 1
    ):
        cells = " | ".join(f"{mean:+.2f} ± {se:.2f}" for mean, se in zip(*row, strict=True))
        print(f"| stage {site} | {cells} |")
    print(
        "\n| protocol | scored by | s per run | blocks | true correlation | in 15 min | in 60 min |"
        " F |\n|---|---|---|---|---|---|---|---|"
    )
    for number, name in enumerate(names):
        of = np.flatnonzero(whole[number])
        if len(of) < 2:
            continue
        block_s = float(
            np.nanmean(seconds[number, of, :, 0].sum(1) + seconds[number, of, :, 1].max(1))
        )
        for m, metric in enumerate(metrics):
            sign = 100 if metric == "accuracy" else -100
            measured, same = sign * effects(scores[number, of, :, 0, m], order), number == 0
            found = said(truth, measured, block_s, same=same)
            error = jackknife(truth, measured, same=same)
            f = float(
                np.mean(
                    (measured.mean(0) / (measured.std(0, ddof=1) / np.sqrt(len(measured)))) ** 2
                )
            )
            print(
                f"| {name} | {metric} | {block_s / 16:.1f} | {len(of)} | {found.correlation:+.2f} ±"
                f" {error:.2f} | {found.attained(15):+.2f} | {found.attained(60):+.2f} | {f:.1f} |"
            )


def compare_scores(problem: str, studies: int = 20) -> None:
    """Searches of the 16 placements replayed from the target's runs, judged by the accuracy of
    other seeds on test images.

    Each placement has one of half of the blocks, the bare backbone and five others have all. The
    model is told accuracies, or cross-entropies or Brier scores of the same runs, too, as one more
    level of training, whose worth it learns.
    """
    with np.load(table_of(problem), allow_pickle=False) as held:
        scores = held["scores"].astype(float)[0]
    scores = scores[np.isfinite(scores).all((1, 2, 3))]
    types = ("none", "se(reduction=2)", "eca", "ela(variant=T)")
    texts = [
        " ".join(f"stage{i}={types[c]}" for i, c in enumerate(each, 1) if c) or "none"
        for each in placements()
    ]
    known = {text: parse(text) for text in texts}
    found: dict[str, list[list[float]]] = {
        name: [] for name in ("accuracy alone", "and cross-entropy", "and Brier score")
    }
    rng, half = np.random.default_rng(7), len(scores) // 2
    for _ in range(studies):
        order, others = rng.permutation(len(scores)), rng.permutation(np.arange(1, len(texts)))
        true = 100 * (scores[order[half:], :, 1, 0] - scores[order[half:], :1, 1, 0])
        error = true.std(0, ddof=1).mean() / np.sqrt(len(true))
        ran = {(k, order[k % half]) for k in others} | {
            (k, b) for k in (0, *others[:5]) for b in order[:half]
        }
        for metric, kept in enumerate(found.values()):
            runs = [ScoredRun(texts[k], int(b), 1, scores[b, k, 0, 0]) for k, b in sorted(ran)]
            if metric:
                runs += [
                    ScoredRun(texts[k], int(b), 0, -scores[b, k, 0, metric]) for k, b in sorted(ran)
                ]
            model = fit(runs, known, metric="accuracy", rung=1)
            assert model is not None
            gains = [gain for text, gain in model.gains("none").items() if text != "none"]
            means = np.array([[100 * gain.mean, 100 * gain.sd] for gain in gains])
            off = means[:, 0] - np.array(
                [true.mean(0)[texts.index(text)] for text in model.keys if text != "none"]
            )
            outside = float(np.mean(np.abs(off) > 1.96 * np.hypot(means[:, 1], error)))
            kept.append([float(np.sqrt(np.mean(off**2))), float(means[:, 1].mean()), 100 * outside])
    print(
        "| the model is told | error of a gain, points | stated error | outside 95 %"
        " |\n|---|---|---|---|"
    )
    for name, rows in found.items():
        mean, spread = np.mean(rows, 0), np.std(rows, 0, ddof=1) / np.sqrt(len(rows))
        print(
            f"| {name} | {mean[0]:.2f} ± {spread[0]:.2f} | {mean[1]:.2f} | {mean[2]:.0f} ±"
            f" {spread[2]:.0f} % |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem", choices=list(PROTOCOLS))
    parser.add_argument("--out", type=Path, help="where finished runs are kept")
    parser.add_argument("--root", help="where the data set's files lie")
    parser.add_argument("--blocks", type=int, default=16, help="blocks of the target")
    parser.add_argument(
        "--protocol-blocks", type=int, default=8, help="of them, those with runs of the protocols"
    )
    parser.add_argument("--hours", type=float, default=2.0)
    parser.add_argument("--pack", action="store_true", help="write the finished runs as a table")
    parser.add_argument("--show", action="store_true", help="print the figures of a table")
    parser.add_argument(
        "--scores", action="store_true", help="print what other scores than accuracy add"
    )
    asked = parser.parse_args()
    warnings.simplefilter("ignore", NasAttnWarning)
    torch.set_num_threads(1)
    if asked.pack:
        table = table_of(asked.problem)
        pack(unpacked(table) + read_rows(asked.out / f"{asked.problem}.protocols.jsonl"), table)
    if asked.show:
        show(asked.problem)
    if asked.scores:
        compare_scores(asked.problem)
    if not (asked.pack or asked.show or asked.scores):
        asked.out.mkdir(parents=True, exist_ok=True)
        train(asked, asked.out / f"{asked.problem}.protocols.jsonl")


if __name__ == "__main__":
    main()
