"""Makes a table: every placement of a small space, trained as a search trains it and as its user
would in the end.

    # goes on where the last call ended
    python -m benchmarks.tables.make cued-digits --out DIR --hours 2
    # the placements' latencies, once
    python -m benchmarks.tables.make cued-digits --out DIR --latency
    # benchmarks/tables/cued-digits.npz
    python -m benchmarks.tables.make cued-digits --out DIR --pack

A problem is a recipe (NAME.toml beside this file). A block is a fresh backbone with seeds of its
own, in which every placement has two runs: `search`, from the block's trained backbone, with the
recipe's rungs (some have a second one with another seed, `repeat`), and `target`, as the recipe's
`[target]` says, scored on the test split too: the images that no search has seen.

Each finished run is one line of DIR/NAME.jsonl. What is there is not done again: a killed call
costs the runs under way.
"""

from __future__ import annotations

import argparse
import base64
import json
import multiprocessing
import os
import platform
import random
import statistics
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from benchmarks.rows import append_row, read_rows
from nas_attn import data
from nas_attn.analysis.latency import estimate, open_keys
from nas_attn.backbones import weights as states
from nas_attn.data.digits import DIGIT_SPLITS, draw_sources, source_digits
from nas_attn.errors import NasAttnWarning
from nas_attn.evaluation.learning_rates import candidate_rates
from nas_attn.evaluation.plan import make_plan
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.session import measure
from nas_attn.notation import parse
from nas_attn.recipe import TrainingSection
from nas_attn.recipe_reading import load_recipe
from nas_attn.records import Arithmetic, Score, Session
from nas_attn.training import LearningRates, Trainer
from nas_attn.training.trainer import new_arithmetic

HERE = Path(__file__).parent
PROBLEMS = sorted(path.stem for path in HERE.glob("*.toml"))
METRICS = ("accuracy", "loss", "train_loss_sum")
NONE = "none"
KINDS = ("search", "target")
REPEATED = 13
"""Placements at the head of the order whose search run is repeated with another seed in each block:
the bare backbone, the uniform ones, the single sites. What two runs on one backbone differ by is
not the backbone's.
"""
SEEDS = {"backbone": 100, "search": 200, "target": 300, "repeat": 400}
"""Of block 0; block b has so many more. Runs of one block and kind share theirs: order of images
and first weights.
"""
REASON = "the truth of a benchmark's table on new images"


@dataclass(frozen=True)
class Task:
    """One run."""

    block: int
    kind: str
    """`backbone`, `search`, `target`, or `repeat`: a second search run."""
    placement: str
    """Notation, `none` for the bare backbone."""

    @property
    def seed(self) -> int:
        return SEEDS[self.kind] + self.block

    @property
    def recipe(self) -> str:
        """Whose training it is: `search` or `target`."""
        return "target" if self.kind == "target" else "search"


def one_arithmetic(
    folder: Path, training: TrainingSection, dataset: data.Dataset, bare: nn.Module
) -> Arithmetic:
    """What all trainings compute in whose results lie in a folder: decided by the first process,
    and kept there.
    """
    path = folder / "arithmetic.json"
    if not path.exists():
        new = new_arithmetic(training, dataset, torch.device("cpu"), bare=bare)
        draft = folder / f"arithmetic.{os.getpid()}.part"
        draft.write_text(new.text)
        with suppress(FileExistsError):
            os.link(draft, path)
        draft.unlink()
    return Arithmetic.from_text(path.read_text())


class Bench:
    """Data, plans and backbones of one problem, ready to train."""

    def __init__(self, problem: str, out: Path, root: str | None = None) -> None:
        self.problem, self.out = problem, out
        overrides = {"data.root": root} if root else None
        given = load_recipe(str(HERE / f"{problem}.toml"), overrides=overrides)
        self.recipes = {
            "search": given,
            "target": given.model_copy(update={"training": given.target_training}),
        }
        self.dataset = data.load(given.data, device="cpu")
        shape, classes = self.dataset.input_shape, len(self.dataset.classes)
        self.plans = {kind: make_plan(of, shape, classes) for kind, of in self.recipes.items()}
        bare = self.plans["search"].bare(0)
        computes = one_arithmetic(out, given.training, self.dataset, bare)
        self.trainers = {
            kind: Trainer(of.training, self.dataset, device="cpu", arithmetic=computes)
            for kind, of in self.recipes.items()
        }
        self.placements = {
            notation(values): values for values in self.plans["search"].space.enumerate()
        }
        """Notation -> values, in the space's order."""

    def order(self) -> list[str]:
        """All placements; the bare backbone, uniform ones and single sites first, so that a part is
        of use.
        """
        texts = list(self.placements)
        random.Random(0).shuffle(texts)
        sites = len(self.plans["search"].space.allowed)

        def rank(text: str) -> int:
            types = [a.choice.type for a in parse(text).assignments if not a.choice.is_none]
            if text == NONE or (len(types) == sites and len(set(types)) == 1):
                return int(text != NONE)
            return 2 if len(types) == 1 else 3

        return sorted(texts, key=rank)

    def run(self, task: Task) -> dict[str, Any]:
        """Trains and scores; the record."""
        wall, processor = time.time(), time.process_time()
        model, recipe_ = self.model(task), self.recipes[task.recipe]
        rates = candidate_rates(self.plans[task.recipe], model)
        epochs = recipe_.training.rungs
        if task.kind == "backbone":
            rates = LearningRates(recipe_.training.learning_rate)
            epochs = [recipe_.training.backbone_epochs]
        scores = self.trainers[task.recipe].fit(
            model,
            seed=task.seed,
            rungs=epochs,
            rates=rates,
        )
        if task.kind == "backbone":
            _replace(self.weights_file(task.block), states.pack(model))
        if task.kind == "target":
            test = self.dataset.read_test(REASON)
            scores += (self.trainers["target"].score(model, test, seed=task.seed, rung=1),)
        rows = [
            _plain(score, bits=task.kind == "target" or score is scores[-1]) for score in scores
        ]
        wall, processor = time.time() - wall, time.process_time() - processor
        return {
            **asdict(task),
            "scores": rows,
            "wall_s": round(wall, 2),
            "cpu_s": round(processor, 2),
        }

    def model(self, task: Task) -> nn.Module:
        """The network as its training begins; a search's with the weights of its block's
        backbone.
        """
        plan = self.plans[task.recipe]
        model = plan.bare(task.seed)
        if task.kind in ("search", "repeat"):
            states.restore(model, states.unpack(self.weights_file(task.block).read_bytes()))
        return plan.attach(model, plan.space.resolve(self.placements[task.placement]), task.seed)

    def weights_file(self, block: int) -> Path:
        return self.out / f"{self.problem}.backbone{block}.pt"


def notation(values: Mapping[str, str]) -> str:
    """`stage1=se(reduction=4) stage3=eca`; `none` for the bare backbone."""
    return " ".join(f"{site}={value}" for site, value in values.items() if value != NONE) or NONE


def _plain(score: Score, *, bits: bool) -> dict[str, Any]:
    plain: dict[str, Any] = {"epochs": score.epochs, "examples": score.examples, **score.metrics}
    if bits and score.correct is not None:
        plain["correct"] = base64.b64encode(score.correct).decode()
    return plain


# ------------------------------------------------------------------------ the file of finished runs


def tasks(bench: Bench, blocks: int, done: set[Task]) -> Iterator[list[Task]]:
    """What is to be run, in groups of which each needs the one before."""
    for block in range(blocks):
        backbone = Task(block, "backbone", NONE)
        if backbone not in done or not bench.weights_file(block).exists():
            yield [backbone]
        order = bench.order()
        runs = [Task(block, kind, text) for text in order for kind in KINDS]
        repeats = [Task(block, "repeat", text) for text in order[:REPEATED]]
        head = len(KINDS) * len(repeats)
        yield [task for task in (*runs[:head], *repeats, *runs[head:]) if task not in done]


# ---------------------------------------------------------------------------------------- processes

_bench: Bench


def _begin(problem: str, out: Path, root: str | None) -> None:
    global _bench
    warnings.simplefilter(
        "ignore", NasAttnWarning
    )  # a group count that does not divide the channels
    torch.set_num_threads(1)
    _bench = Bench(problem, out, root)


def _work(task: Task) -> dict[str, Any]:
    return _bench.run(task)


def train(arguments: argparse.Namespace, bench: Bench, path: Path) -> None:
    """Runs what is missing until it is all there or the hours are over."""
    end = time.time() + 3600 * arguments.hours
    done = {Task(run["block"], run["kind"], run["placement"]) for run in read_rows(path)}
    print(f"{path}: {len(done)} runs are there", flush=True)
    context = multiprocessing.get_context("spawn")
    with ExitStack() as stack:
        each: Callable[[list[Task]], Iterator[dict[str, Any]]] = partial(map, bench.run)
        if arguments.workers > 1:
            begin = (arguments.problem, arguments.out, arguments.root)
            each = partial(
                stack.enter_context(context.Pool(arguments.workers, _begin, begin)).imap_unordered,
                _work,
            )
        for group in tasks(bench, arguments.blocks, done):
            for record in each(group):
                append_row(path, record)
                last = record["scores"][-1]["accuracy"]
                where = f"block {record['block']} {record['kind']:8} {record['placement']}"
                print(
                    f"{last:.4f}  wall {record['wall_s']:6.1f} s  cpu {record['cpu_s']:5.1f} s "
                    f" {where}",
                    flush=True,
                )
                if time.time() > end:
                    print("the hours are over", flush=True)
                    return


# ------------------------------------------------------------------------ latency, the packed table


def measure_latencies(bench: Bench, path: Path, tolerance: float, sessions: int) -> None:
    """Sessions over all placements, in the form that a search times, until each is known well
    enough.
    """
    section = bench.recipes["search"].latency.model_copy(update={"session_seconds": 2.0})
    plan = bench.plans["search"]
    models = {
        text: plan.attach(plan.bare(0), plan.space.resolve(v), 0)
        for text, v in bench.placements.items()
    }
    reference = models.pop(NONE)
    found: list[Session] = []
    for session in measure(
        section,
        reference=reference,
        candidates=models,
        input_shape=bench.dataset.input_shape,
        seed=0,
        still_open=lambda done: open_keys(
            done, list(models), tolerance=tolerance, max_sessions=sessions
        ),
        lock=DeviceLock.for_section(section),
    ):
        found.append(session)
        known = estimate(found)
        print(
            f"session {len(found)}: {len(known)} of {len(models)} placements measured", flush=True
        )
        rows = {text: [latency.ratio, latency.low, latency.high] for text, latency in known.items()}
        milliseconds = statistics.median(s.reference_ms for s in found)
        _replace(
            path,
            json.dumps(
                {"machine": found[0].fingerprint.name, "bare_ms": milliseconds, "ratios": rows}
            ).encode(),
        )


def pack(bench: Bench, runs: list[dict[str, Any]], latency: Path, path: Path) -> None:
    """All finished runs as one compressed file of arrays; NaN where a run is missing. `read.load`
    reads it.
    """
    texts = list(bench.placements)
    held, bits = _results(bench, runs)
    space = bench.plans["search"].space
    types = list(
        dict.fromkeys(
            value.partition("(")[0] for values in space.allowed.values() for value in values
        )
    )
    choices = [
        [types.index(v.partition("(")[0]) for v in values.values()]
        for values in bench.placements.values()
    ]
    measured = json.loads(latency.read_text()) if latency.exists() else {"ratios": {}}
    ratios = measured.pop("ratios") | {NONE: [1.0, 1.0, 1.0]}
    given = bench.recipes["search"]
    # not this machine's folder
    root = type(given.data).model_fields["root"].default
    data = given.data.model_copy(update={"root": root})
    info = {
        "problem": bench.problem,
        "placements": texts,
        "sites": list(space.allowed),
        "types": types,
        "rungs": given.training.rungs,
        "seeds": SEEDS,
        "latency": measured,
        "machine": f"{platform.machine()}, torch {torch.__version__}",
        "recipe": given.model_copy(update={"data": data}).model_dump(mode="json"),
    }
    np.savez_compressed(
        path,
        **held,
        **{f"{name}_correct": packed for name, packed in bits.items()},
        **{f"sources_{part}": _sources(bench, part) for part in ("validation", "test")},
        choices=np.array(choices, np.int8),
        latency=np.array([ratios.get(text, [np.nan] * 3) for text in texts], np.float32),
        info=np.array(json.dumps(info)),
    )
    done = np.isfinite(held["target"][..., 0]).sum(1)
    print(
        f"{path}: {path.stat().st_size / 1e6:.2f} MB, placements with both runs per block:"
        f" {done.tolist()}"
    )


def _results(
    bench: Bench, runs: list[dict[str, Any]]
) -> tuple[dict[str, NDArray[np.float32]], dict[str, NDArray[np.uint8]]]:
    """(Kind of run -> its metrics, kind -> which images were right, as bits), both of shape
    (blocks, placements, …).
    """
    texts = list(bench.placements)
    rungs = bench.recipes["search"].training.rungs
    blocks = 1 + max(run["block"] for run in runs)
    validated = len(bench.dataset.validation)
    tested = len(bench.dataset.read_test(REASON))
    images = {"search": validated, "target": validated, "test": tested}
    shape = {
        "search": (len(rungs), 3),
        "repeat": (len(rungs), 3),
        "target": (3,),
        "test": (2,),
        "seconds": (2,),
    }
    held = {
        name: np.full((blocks, len(texts), *more), np.nan, np.float32)
        for name, more in shape.items()
    }
    bits = {
        name: np.zeros((blocks, len(texts), -(-size // 8)), np.uint8)
        for name, size in images.items()
    }
    for run in runs:
        if run["kind"] == "backbone":
            continue
        at = (run["block"], texts.index(run["placement"]))
        scores = run["scores"]
        values = np.array(
            [[score[name] for name in METRICS] for score in scores if "train_loss_sum" in score]
        )
        held[run["kind"]][at] = values if run["kind"] in ("search", "repeat") else values[0]
        if run["kind"] == "target":
            held["test"][at] = [scores[1][name] for name in METRICS[:2]]
            bits["test"][at] = _bits(scores[1])
        if run["kind"] in KINDS:
            held["seconds"][(*at, KINDS.index(run["kind"]))] = run["cpu_s"]
            bits[run["kind"]][at] = _bits(scores[0 if run["kind"] == "target" else -1])
    return held, bits


def _bits(score: dict[str, Any]) -> NDArray[np.uint8]:
    return np.frombuffer(base64.b64decode(score["correct"]), np.uint8)


def _sources(bench: Bench, part: str) -> NDArray[np.int16]:
    """(N,) images with one number come from one source digit; elsewhere every image is its own
    source.
    """
    dataset, section = bench.dataset, bench.recipes["search"].data
    count = len(dataset.validation if part == "validation" else dataset.read_test(REASON))
    if bench.problem not in ("digits", "cued-digits"):
        return np.arange(count, dtype=np.int16)
    random_ = np.random.default_rng((section.seed, DIGIT_SPLITS.index(part)))
    return draw_sources(random_, len(source_digits(section.seed)[part][0]), count).astype(np.int16)


def _replace(path: Path, content: bytes) -> None:
    path.with_suffix(".new").write_bytes(content)
    path.with_suffix(".new").replace(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("problem", choices=PROBLEMS)
    parser.add_argument("--out", type=Path, required=True, help="where finished runs are kept")
    parser.add_argument(
        "--root", help="where the data set's files lie, in place of the recipe's data.root"
    )
    parser.add_argument("--blocks", type=int, default=4)
    parser.add_argument("--workers", type=int, default=1, help="processes, of one thread each")
    parser.add_argument("--hours", type=float, default=24.0, help="no run is begun after these")
    parser.add_argument(
        "--latency", action="store_true", help="measure the placements' latencies instead"
    )
    parser.add_argument(
        "--tolerance",
        type=float,
        default=0.02,
        help="half-width of a latency's interval that is enough",
    )
    parser.add_argument(
        "--sessions", type=int, default=8, help="at most so many for each placement"
    )
    parser.add_argument(
        "--pack", action="store_true", help="write what is there beside this file instead"
    )
    arguments = parser.parse_args()
    arguments.out.mkdir(parents=True, exist_ok=True)
    warnings.simplefilter("ignore", NasAttnWarning)
    torch.set_num_threads(1)
    bench = Bench(arguments.problem, arguments.out, arguments.root)
    runs, latency = (
        arguments.out / f"{bench.problem}.{what}" for what in ("jsonl", "latency.json")
    )
    if arguments.latency:
        measure_latencies(bench, latency, arguments.tolerance, arguments.sessions)
    elif arguments.pack:
        pack(bench, read_rows(runs), latency, HERE / f"{bench.problem}.npz")
    else:
        train(arguments, bench, runs)


if __name__ == "__main__":
    main()
