"""Writes the page and the figure of the experiment from whatever rows there are.

    python -m research.start.analysis

research/notes/trials.md has the plan of the analysis; it was fixed before the first run. What
trained the networks stands in commit 1f0a14c8: `research/start/run.py`.
"""

from __future__ import annotations

import csv
import io
import itertools
import lzma
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from research.drawing import AXIS, BLUE, GRID, ORANGE, dot, head, stroke, text
from research.means import Mean, discoveries, mean_of, means

BARE = "none"
SEEDS = range(8)
PROBLEMS = ("cifar", "fashion", "digits")
BACKBONES = ("resnet8", "mobile")
MODULES = ("se(reduction=4)", "cbam(reduction=4)", "eca")
FORMS = ("identity", "paper")
"""Values of `training.init`; modules as published (`paper`) have random gates."""
LAST = "stage3"
STAGES = ("stage1", "stage2", LAST)
PLACES = {"everywhere": STAGES, "last": (LAST,)}
SCHEDULES = {"short": 20, "long": 60}
"""Name of a fine-tuning -> its epochs. Each is a training of its own, with its own decay."""

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "benchmarks" / "start.md"
PICTURE = DOCS / "pictures" / "start.svg"
PAIRS_NEEDED = 5
"""Of the six pairs of problem and backbone, with the same sign, for the rule."""
IDENTITY = "identity"
RANDOM = "paper"


@dataclass(frozen=True)
class Cell:
    """One fine-tuning and its score on the published test images."""

    problem: str
    backbone: str
    network: str
    """Notation: `none`, or a module's placement."""
    form: str
    """Of `FORMS`; of the bare backbone, empty."""
    schedule: str
    seed: int
    """Of the backbone's training, the images drawn, the first weights, the order and the
    augmentation.
    """


def placement(module: str, place: str) -> str:
    """A module at the stages of a place, in notation."""
    return " ".join(f"{stage}={module}" for stage in PLACES[place])


def networks() -> list[tuple[str, str]]:
    """(network, form): the bare backbone, then each module in both forms, in both places."""
    made = [(BARE, "")]
    for place in PLACES:
        for module in MODULES:
            for form in FORMS:
                made.append((placement(module, place), form))
    return made


def cells() -> Iterator[Cell]:
    """All cells: the short schedule first, which has the main figure; then seed by seed, so that
    what is finished is balanced at any time.
    """
    for schedule in SCHEDULES:
        for seed in SEEDS:
            for problem in PROBLEMS:
                for backbone in BACKBONES:
                    for network, form in networks():
                        yield Cell(problem, backbone, network, form, schedule, seed)


def cell_of(row: Mapping[str, str]) -> Cell:
    """The cell that a row is of."""
    return Cell(
        row["problem"],
        row["backbone"],
        row["network"],
        row["form"],
        row["schedule"],
        int(row["seed"]),
    )


Scores = dict[Cell, float]
Combination = tuple[str, str, str]
"""Problem, backbone, module."""


def scores() -> Scores:
    """Finished cell -> accuracy, percent."""
    text = lzma.decompress((Path(__file__).parent / "rows.csv.xz").read_bytes()).decode()
    return {cell_of(row): 100 * float(row["accuracy"]) for row in csv.DictReader(io.StringIO(text))}


def combinations() -> Iterator[Combination]:
    yield from itertools.product(PROBLEMS, BACKBONES, MODULES)


def accuracy(
    known: Scores, combination: Combination, form: str, place: str, schedule: str, seed: int
) -> float | None:
    """Of a module in one form; of the bare backbone if the form is empty."""
    problem, backbone, module = combination
    network = placement(module, place) if form else BARE
    return known.get(Cell(problem, backbone, network, form, schedule, seed))


def differences(
    known: Scores,
    combination: Combination,
    forms: tuple[str, str],
    place: str,
    schedule: str,
) -> dict[int, float]:
    """Seed -> accuracy of the first form minus that of the second, where both are there."""
    found: dict[int, float] = {}
    for seed in SEEDS:
        first = accuracy(known, combination, forms[0], place, schedule, seed)
        second = accuracy(known, combination, forms[1], place, schedule, seed)
        if first is not None and second is not None:
            found[seed] = first - second
    return found


def mean_by_seed(of_combinations: Sequence[dict[int, float]]) -> dict[int, float]:
    """Seed -> mean over combinations, for seeds that all combinations have."""
    complete = [seed for seed in SEEDS if all(seed in one for one in of_combinations)]
    return {seed: float(np.mean([one[seed] for one in of_combinations])) for seed in complete}


def summary(by_seed: dict[int, float]) -> Mean | None:
    """Mean and interval from Student's t; None with fewer than two seeds."""
    return mean_of(list(by_seed.values()))


def overall(
    known: Scores, forms: tuple[str, str], place: str, schedule: str
) -> tuple[dict[int, float], Mean | None]:
    """One form minus another over all combinations: by seed, and in sum."""
    by_seed = mean_by_seed(
        [differences(known, one, forms, place, schedule) for one in combinations()]
    )
    return by_seed, summary(by_seed)


def by_pair(known: Scores, forms: tuple[str, str]) -> dict[tuple[str, str], Mean | None]:
    """(problem, backbone) -> one form minus another, everywhere, short, mean over modules."""
    found: dict[tuple[str, str], Mean | None] = {}
    for problem, backbone in itertools.product(PROBLEMS, BACKBONES):
        own = [
            differences(known, (problem, backbone, module), forms, "everywhere", "short")
            for module in MODULES
        ]
        found[problem, backbone] = summary(mean_by_seed(own))
    return found


def discovery_counts(known: Scores, form: str) -> tuple[int, int, int]:
    """(help, hurt, tested): cells of a form against the bare backbone, short, at a false discovery
    rate of 5 %.
    """
    of_cells = [
        differences(known, one, (form, ""), place, "short")
        for place in PLACES
        for one in combinations()
    ]
    tested = means([[cell.get(seed, math.nan) for seed in SEEDS] for cell in of_cells])
    shown = tested.mean[discoveries(tested.p)]
    return int((shown > 0).sum()), int((shown < 0).sum()), int(np.isfinite(tested.p).sum())


def verdict(main: Mean, pairs: Iterable[Mean | None]) -> str:
    """What the plan's rule says."""
    if not main.shown:
        return "No difference is shown"
    if main.mean < 0:
        return "It is the other way round: random gates end higher"
    above = sum(pair is not None and pair.mean > 0 for pair in pairs)
    if above < PAIRS_NEEDED:
        return f"Not shown: the mean is above zero, but only in {above} of 6 pairs"
    return "Yes: the same module ends higher if it starts as the identity"


def page(known: Scores) -> str | None:
    """The page; None if there are too few rows for the main figure."""
    short, main = overall(known, (IDENTITY, RANDOM), "everywhere", "short")
    if main is None:
        return None
    _, after_long = overall(known, (IDENTITY, RANDOM), "everywhere", "long")
    pairs = by_pair(known, (IDENTITY, RANDOM))
    found = {form: discovery_counts(known, form) for form in (IDENTITY, RANDOM)}
    lines = [
        "# Is it the start?",
        "",
        (
            "- **Question**: In a trained network that is fine-tuned, does the same module end"
            " higher if it starts as the identity than with random gates?"
        ),
        (
            f"- **Answer**: {verdict(main, pairs.values())}, by {main} points of accuracy"
            f" (95 %, {main.seeds} seeds). After three times as long a fine-tuning:"
            f" {after_long or 'not known yet'}."
        ),
        (
            f"- **Key figures**: Of {found[IDENTITY][2]} cells that start as the identity,"
            f" {found[IDENTITY][0]} help and {found[IDENTITY][1]} hurt; with random gates"
            f" {found[RANDOM][0]} help and {found[RANDOM][1]} hurt (false discovery rate 5 %)."
        ),
        f"- **What it means for you**: {_meaning(main, after_long)}",
        (
            "- **Reproduce**: `python -m research.start.run --root DATA` (hours) *(1f0a14c8)*, then"
            " `python -m research.start.analysis`."
        ),
        "",
        *_differences(known, short),
        "| problem, backbone | identity - random, everywhere, short |",
        "|---|---|",
    ]
    for (problem, backbone), mean in pairs.items():
        lines.append(f"| {problem}, {backbone} | {mean or 'too few rows'} |")
    return "\n".join(lines) + "\n"


def _differences(known: Scores, short: dict[int, float]) -> list[str]:
    """What is done so far, with the figure, the main table, and what changes it."""
    total = sum(1 for _ in cells())
    long, _ = overall(known, (IDENTITY, RANDOM), "everywhere", "long")
    last, _ = overall(known, (IDENTITY, RANDOM), "last", "short")
    return [
        (
            f"{len(known):,} of {total:,} fine-tunings are done."
            " The [plan](../../research/notes/trials.md) was fixed before the first run. These are"
            " small networks on small images."
        ),
        "",
        "![Accuracy against the bare backbone, by problem and start](../pictures/start.svg)",
        "",
        (
            "Difference from the bare backbone, points, mean over three modules, three problems and"
            " two backbones:"
        ),
        "",
        "| place, fine-tuning | as the identity | random gates | identity - random |",
        "|---|---|---|---|",
        *_table(known),
        "",
        (
            f"- Three times as long a fine-tuning: {_change(long, short)}. Most long ones ran on"
            " another processor, so their backbones have other weights."
        ),
        f"- At the last stage only: {_change(last, short)}.",
        "",
    ]


def _meaning(main: Mean, after_long: Mean | None) -> str:
    if main.shown and main.mean > 0:
        fades = after_long is not None and after_long.mean < main.mean / 2
        return (
            'Put attention into trained weights as the identity (`init = "identity"`, the'
            " default). The published form costs accuracy there"
            + (", most of all in short fine-tunings." if fades else ".")
        )
    if main.shown:
        return 'In trained weights, take the published form (`init = "paper"`).'
    return "Neither start is shown to be better in trained weights."


def _table(known: Scores) -> Iterator[str]:
    for place, schedule in itertools.product(PLACES, SCHEDULES):
        cells_of_row: list[str] = []
        for forms in ((IDENTITY, ""), (RANDOM, ""), (IDENTITY, RANDOM)):
            _, mean = overall(known, forms, place, schedule)
            cells_of_row.append(str(mean or "not known yet"))
        yield f"| {place}, {schedule} | {' | '.join(cells_of_row)} |"


def _change(later: dict[int, float], earlier: dict[int, float]) -> str:
    shared = later.keys() & earlier.keys()
    mean = summary({seed: later[seed] - earlier[seed] for seed in shared})
    if mean is None:
        return "not known yet"
    return f"the difference changes by {mean} points"


# ---------------------------------------------------------------------------------------- figure

LEFT = 150
WIDTH = 420
ROW = 44
TOP = 40
COLOURS = {IDENTITY: BLUE, RANDOM: ORANGE}
NAMED = {IDENTITY: "starts as the identity", RANDOM: "random gates"}


def figure(known: Scores) -> str:
    """An SVG: a row for each problem and backbone, the two starts against the bare backbone."""
    rows = {form: by_pair(known, (form, "")) for form in COLOURS}
    means = [mean for of_form in rows.values() for mean in of_form.values() if mean is not None]
    low = math.floor(min([0.0, *(mean.mean - mean.half for mean in means)])) - 1
    high = math.ceil(max([0.0, *(mean.mean + mean.half for mean in means)])) + 1
    pairs = list(itertools.product(PROBLEMS, BACKBONES))
    height = TOP + ROW * len(pairs) + 40

    def x(points: float) -> float:
        return LEFT + WIDTH * (points - low) / (high - low)

    lines = [head(LEFT + WIDTH + 20, height)]
    step = max(1, round((high - low) / 6))
    for tick in range(low, high + 1, step):
        lines.append(stroke(x(tick), TOP, x(tick), height - 40, GRID))
        lines.append(text(x(tick), height - 22, str(tick), "middle"))
    lines.append(stroke(x(0), TOP, x(0), height - 40, AXIS))
    for number, pair in enumerate(pairs):
        y = TOP + ROW * (number + 0.5)
        lines.append(text(LEFT - 8, y + 4, f"{pair[0]}, {pair[1]}", "end"))
        for form, colour in COLOURS.items():
            mean = rows[form][pair]
            if mean is None:
                continue
            level = y - 7 if form == IDENTITY else y + 7
            style = f'stroke="{colour}" stroke-width="1.5"'
            lines.append(
                stroke(x(mean.mean - mean.half), level, x(mean.mean + mean.half), level, style)
            )
            lines.append(dot(x(mean.mean), level, colour))
    for number, (form, colour) in enumerate(COLOURS.items()):
        left = LEFT + 200 * number
        lines.append(f'<circle cx="{left}" cy="18" r="4" fill="{colour}"/>')
        lines.append(f'<text x="{left + 10}" y="22">{NAMED[form]}</text>')
    lines.append(
        f'<text x="{LEFT + WIDTH / 2:.0f}" y="{height - 4}" text-anchor="middle">points of accuracy'
        " against the bare backbone, 95 %</text>"
    )
    return "\n".join([*lines, "</svg>", ""])


def main() -> None:
    known = scores()
    total = sum(1 for _ in cells())
    print(f"{len(known)} of {total} fine-tunings are done; {total - len(known)} are missing")
    text = page(known)
    if text is None:
        print("too few for the main figure: it needs two seeds that are complete")
        return
    PAGE.write_text(text, encoding="utf-8")
    PICTURE.write_text(figure(known), encoding="utf-8")
    print(f"wrote {PAGE} and {PICTURE}")


if __name__ == "__main__":
    main()
