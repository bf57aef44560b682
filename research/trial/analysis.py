"""Writes the page, the figure and the table of the trial from whatever rows there are.

    python -m research.trial.analysis

research/notes/trials.md has the plan of the analysis; it was fixed before the first run. What the
plan expected is printed beside what came of it.
"""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from research.means import FEWEST_SEEDS, Mean, Means, means
from research.trial.expected import UNKNOWN, expectations, larger_wins
from research.trial.gains import (
    BETTER,
    COLLAPSED,
    FULL,
    HELPS,
    HURTS,
    MEAN,
    NETWORKS,
    NOT_SHOWN,
    PLACE,
    PLACED,
    PLACEMENTS,
    SUMMED,
    WIDER,
    Agreement,
    Trial,
    module_of,
    read,
    verdicts,
    whole,
)
from research.trial.picture import figure
from research.trial.table import BARE, LAST, PROBLEMS, SCHEDULES, SEEDS

DOCS = Path(__file__).resolve().parents[2] / "docs"
PAGE = DOCS / "benchmarks" / "trial.md"
PICTURE = DOCS / "pictures" / "trial.svg"
TABLE = DOCS / "benchmarks" / "data" / "trial.csv"
VERDICTS = {HELPS: "helps", HURTS: "hurts", NOT_SHOWN: "no difference shown"}
HIGHEST = 3
LOWEST = 2
"""Placements that the page names, by their mean gain."""
TWICE_AS_WIDE = WIDER[-1]
MOST = 3 / 4
HALF = 1 / 2


def count(number: int) -> str:
    return f"{number:,}"


# ----------------------------------------------------------------------------------------- table


def table(trial: Trial) -> str:
    """A CSV: a row for each network, problem (and the mean of them) and schedule."""
    differences = {metric: means(trial.differences(metric)) for metric in BETTER}
    signs = {metric: verdicts(differences[metric], BETTER[metric]) for metric in BETTER}
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow([*_names_of_columns()])
    for network in NETWORKS:
        if network == BARE:
            continue
        for problem_number, problem in enumerate(SUMMED):
            for schedule_number, schedule in enumerate(SCHEDULES):
                place = (problem_number, schedule_number, PLACE[network])
                cells = [network, problem, schedule, differences["accuracy"].seeds[place]]
                for metric, values in differences.items():
                    cells += _figures(values, place)
                    cells.append(_verdict_cell(network, float(signs[metric][place])))
                cells += _latency_cells(trial, network, place)
                lines.writerow(cells)
    return file.getvalue()


def _names_of_columns() -> Iterator[str]:
    yield from ("network", "problem", "schedule", "seeds")
    for metric in ("gain", "brier", "loss"):
        before = "" if metric == "gain" else f"{metric}_"
        yield from (metric, f"{before}low", f"{before}high", f"{before}p", f"{before}verdict")
    yield from ("latency_ratio", "latency_low", "latency_high")
    yield from ("against_larger", "against_larger_low", "against_larger_high")


def _figures(values: Means, place: tuple[int, ...]) -> list[str]:
    """Mean, interval and p; empty where they are not known."""
    mean = float(values.mean[place])
    half = float(values.half[place])
    return [_number(mean), _number(mean - half), _number(mean + half), _p(float(values.p[place]))]


def _number(value: float) -> str:
    return f"{value:.5f}" if math.isfinite(value) else ""


def _p(value: float) -> str:
    return f"{value:.3g}" if math.isfinite(value) else ""


def _verdict_cell(network: str, verdict: float) -> str:
    if network in WIDER:
        return "not tested"
    return VERDICTS.get(verdict, UNKNOWN)


def _latency_cells(trial: Trial, network: str, place: tuple[int, ...]) -> list[str]:
    ratio = trial.latencies.get(network)
    bounds = ["", "", ""]
    if ratio is not None:
        bounds = [_number(value) for value in (ratio.ratio, ratio.low, ratio.high)]
    against = _figures(trial.against_larger, place)[:-1]
    return [*bounds, *against] if network in PLACEMENTS else [*bounds, "", "", ""]


# ------------------------------------------------------------------------------------------ page


def page(trial: Trial) -> str:
    """The page, which says of each figure if it is not known yet."""
    done = f"{count(trial.trained)} of {count(trial.planned)} trainings are done"
    lines = [
        "# Which modules help?",
        "",
        (
            "- **Question**: Which attention modules help or hurt, and at what latency?"
            " Does a gain after a quarter of the training stay?"
        ),
        f"- **Answer**: {_answer(trial)}",
        f"- **Key figures**: {_key_figures(trial)}",
        f"- **What it means for you**: {_meaning(trial)}",
        (
            "- **Reproduce**: `python -m research.trial.run --root DATA` (14 hours, 1f0a14c8),"
            " `python -m research.trial.latency` *(1f0a14c8)*, `python -m research.trial.analysis`."
        ),
        "",
        (
            f"{done}; {trial.whole_seeds} of {len(SEEDS)} seeds are whole."
            " The [plan](../../research/notes/trials.md) came first."
            " Networks are small (ResNet-8), as are images (14 to 20 pixels)."
        ),
        "",
        "![Gains of all modules in both places, by problem](../pictures/trial.svg)",
        "",
        (
            "| problem | whole seeds | help | hurt | not shown | best |"
            f" quarter with full: correlation ± standard error | without `{COLLAPSED}` |"
        ),
        "|---|---|---|---|---|---|---|---|",
        *_by_problem(trial),
        "",
        *_extremes(trial),
        f"- Replication: {_replication(trial)}.",
        f"- Shown by a quarter: {_fates(trial)}.",
        f"- Larger network of equal latency: {_against_larger(trial)}.",
        (
            f"- `{COLLAPSED}` had groups of one channel. Two"
            " [lost nothing](../../research/notes/trials.md#changes) on fashion."
        ),
        "",
        "All scores: [trial.csv](data/trial.csv); `research/trial/table.py` reads the rows.",
    ]
    return "\n".join(lines) + "\n"


def _tests(trial: Trial, problems: Sequence[str]) -> list[float]:
    """Verdicts of the full schedule that are known."""
    rows = [SUMMED.index(problem) for problem in problems]
    known = trial.verdicts[rows, FULL][:, PLACED].ravel()
    return [float(verdict) for verdict in known[np.isfinite(known)]]


def _answer(trial: Trial) -> str:
    known = _tests(trial, list(PROBLEMS))
    if not known:
        return "Not known yet: no placement has two seeds."
    plain = sum("conv" in network for network in PLACEMENTS)
    placements = f"{len(PLACEMENTS)} placements, {plain} of them of plain convolutions"
    cases = f"{known.count(HELPS)} of {len(known)} cases ({placements})"
    said = (
        f"n {cases} a placement helps, in {known.count(HURTS)} it hurts, else nothing"
        f" is shown ({_seeds_of_tests(trial)}, false discovery rate 5 %)."
    )
    return f"I{said}" if trial.trained == trial.planned else f"So far, i{said}"


def _seeds_of_tests(trial: Trial) -> str:
    seeds = trial.gains.seeds[: len(PROBLEMS), FULL][:, PLACED]
    known = seeds[seeds >= FEWEST_SEEDS]
    if known.min() == known.max():
        return f"{known.min()} seeds"
    return f"{known.min()} to {known.max()} seeds"


def _known_gains(trial: Trial, problem: str) -> dict[str, Mean]:
    """Placement -> its gain in a problem or the mean of them, the largest first."""
    gains = {network: trial.gain(problem, network) for network in PLACEMENTS}
    known = {network: gain for network, gain in gains.items() if gain is not None}
    return dict(sorted(known.items(), key=lambda item: -item[1].mean))


def _key_figures(trial: Trial) -> str:
    known = _known_gains(trial, MEAN)
    if not known:
        return _key_figures_so_far(trial)
    network, gain = next(iter(known.items()))
    return (
        f"Largest mean gain of a placement: {gain} points ({_named(network)});"
        f" of a network twice as wide: {trial.gain(MEAN, TWICE_AS_WIDE)}."
    )


def _key_figures_so_far(trial: Trial) -> str:
    """Of the problems in which all placements have two seeds."""
    parts = []
    for problem in PROBLEMS:
        highest, lowest = _ends(trial, problem)
        if highest != "–":
            parts.append(f"In {problem}, points: {highest} to {lowest}.")
    return " ".join(parts) or "Not known yet."


def _named(network: str) -> str:
    """A placement's module and place."""
    place = "last stage" if network.startswith(LAST) else "every stage"
    return f"{module_of(network)}, {place}"


def _correlation(agreement: Agreement | None) -> str:
    if agreement is None:
        return UNKNOWN
    if not math.isfinite(agreement.correlation) or not math.isfinite(agreement.error):
        return "too noisy"
    return f"{agreement.correlation:.2f} ± {agreement.error:.2f}"


def _meaning(trial: Trial) -> str:
    said: list[str] = []
    wins = larger_wins(trial)
    if wins is not None:
        said.append(_meaning_of_width(*wins))
    fates = [trial.fate(list(PROBLEMS), verdict) for verdict in (HELPS, HURTS)]
    shown = sum(fate.shown for fate in fates)
    stay = sum(fate.stay for fate in fates)
    if shown:
        begin = "Choose by full trainings: " if stay < MOST * shown else ""
        said.append(
            f"{begin}of {shown} differences shown by a quarter of the training, the full one shows"
            f" {stay}."
        )
    if not said:
        return "Nothing yet. Test what you want to use (`nas-attn test`)."
    text = " ".join(said)
    return text if trial.trained == trial.planned else f"So far: {text[0].lower()}{text[1:]}"


def _meaning_of_width(lost: int, placements: int) -> str:
    if lost >= HALF * placements:
        return "Try a wider network first: at equal latency, it mostly gains as much."
    return "Attention is worth its latency here: mostly it gains more than a wider network."


def _by_problem(trial: Trial) -> Iterator[str]:
    for number, problem in enumerate(PROBLEMS):
        seeds = str(len(whole(trial.scores["accuracy"][number])))
        shown = [problem, seeds, *_counts(trial, problem), _ends(trial, problem)[0]]
        shown += [_correlation(trial.agreement(problem, out)) for out in (None, COLLAPSED)]
        yield f"| {' | '.join(shown)} |"
    yield f"| mean | – | {' | '.join(_counts(trial, MEAN))} | – | – | – |"


def _ends(trial: Trial, problem: str) -> tuple[str, str]:
    """The highest and the lowest gain, where all placements have one."""
    known = list(_known_gains(trial, problem).items())
    if len(known) < len(PLACEMENTS):
        return "–", "–"
    highest, lowest = (f"{gain} ({_named(network)})" for network, gain in (known[0], known[-1]))
    return highest, lowest


def _counts(trial: Trial, problem: str) -> list[str]:
    known = _tests(trial, [problem])
    if not known:
        return [UNKNOWN, "–", "–"]
    return [str(known.count(verdict)) for verdict in (HELPS, HURTS, NOT_SHOWN)]


def _extremes(trial: Trial) -> Iterator[str]:
    """The highest and the lowest means over the problems."""
    known = list(_known_gains(trial, MEAN).items())
    if len(known) <= HIGHEST + LOWEST:
        yield f"Highest and lowest mean gains: {UNKNOWN}."
        yield ""
        return
    yield f"Highest and lowest mean gains, of {len(known)}:"
    yield ""
    yield "| placement | points (95 %) | helps, hurts in | latency | minus larger network |"
    yield "|---|---|---|---|---|"
    for network, gain in [*known[:HIGHEST], *known[-LOWEST:]]:
        of_problems = [trial.verdict(problem, network) for problem in PROBLEMS]
        signs = f"{of_problems.count(HELPS)}, {of_problems.count(HURTS)}"
        ratio = trial.latencies.get(network)
        against = trial.against_larger.at(SUMMED.index(MEAN), FULL, PLACE[network])
        latency = "–" if ratio is None else f"{ratio.ratio:.2f}"
        yield f"| {_named(network)} | {gain} | {signs} | {latency} | {against or '–'} |"
    yield ""


def _replication(trial: Trial) -> str:
    found = trial.replication
    if found is None:
        return UNKNOWN
    return (
        f"of {found.listed} helps and hurts in seeds 0 to 3, {found.held} keep their sign in 4 to 7"
        f" (of all {found.gains} gains, {found.alike}). A problem's best gains"
        f" {found.best_first:+.2f}, then {found.best_later:+.2f} points"
    )


def _fates(trial: Trial) -> str:
    if not np.isfinite(trial.verdicts[: len(PROBLEMS)][:, :, PLACED]).any():
        return UNKNOWN
    gains = trial.fate(list(PROBLEMS), HELPS)
    losses = trial.fate(list(PROBLEMS), HURTS)
    return (
        f"{gains.shown} gains (in full {gains.stay} shown, {gains.open} not, {gains.turn} turned),"
        f" {losses.shown} losses ({losses.stay}, {losses.open}, {losses.turn})"
    )


def _against_larger(trial: Trial) -> str:
    wins = larger_wins(trial)
    if wins is None:
        reason = "" if trial.latencies else ", latencies are not measured"
        return f"{UNKNOWN}{reason}"
    return f"gains as much as {wins[0]} of {wins[1]} placements"


def main() -> None:
    trial = read()
    print(f"{count(trial.trained)} of {count(trial.planned)} trainings are done")
    for expectation in expectations(trial):
        print(f"- {expectation}")
    PAGE.write_text(page(trial), encoding="utf-8")
    PICTURE.write_text(figure(trial), encoding="utf-8")
    TABLE.write_text(table(trial), encoding="utf-8")
    print(f"wrote {PAGE}, {PICTURE} and {TABLE}")


if __name__ == "__main__":
    main()
