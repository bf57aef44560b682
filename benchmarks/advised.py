"""Advice before any training, beside what a search of an hour then finds.

    # goes on where it ended; two at a time on two cores
    python -m benchmarks.advised shufflenet lcnet --out DIR --root DATA
    python -m benchmarks.advised --show

Five networks of libraries that were never trained here before, from random weights, on 4,000 images
of CIFAR-10 in folders (a fifth of them for validation); a test has 2,000 others. For each,
`nas-attn advise` says what to expect, then the search that it names trains, for an hour, on one
thread. A network is one line of docs/benchmarks/data/advised.jsonl.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import random
import re
import shlex
import statistics
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scipy.stats import norm

from benchmarks.rows import append_row, read_rows
from nas_attn.records import BARE_NAME, BaselineName

NETWORKS = {
    "shufflenet": "torchvision:shufflenet_v2_x0_5",
    "regnet": "torchvision:regnet_x_400mf",
    "lcnet": "timm:lcnet_050",
    "mobilenet": "timm:mobilenetv4_conv_small_050",
    "convnext": "timm:convnext_atto",
}
ROWS = Path(__file__).parents[1] / "docs" / "benchmarks" / "data" / "advised.jsonl"
TRAIN, TEST = 4_000, 2_000
SIDE = 64
SEED = 2026
COVERAGE = 0.8
POINTS = 100
Json = dict[str, Any]


def write_photos(folder: Path, root: str) -> None:
    """Images of CIFAR-10 as a user has them: a folder per class in `train` and in `test`."""
    from torchvision.datasets import CIFAR10

    order = random.Random(SEED)
    for split, train, count in (("train", True, TRAIN), ("test", False, TEST)):
        data = CIFAR10(root, train=train)
        left = dict.fromkeys(range(len(data.classes)), count // len(data.classes))
        for index in order.sample(range(len(data)), len(data)):
            image, label = data[index]
            if not left[label]:
                continue
            left[label] -= 1
            place = folder / split / data.classes[label]
            place.mkdir(parents=True, exist_ok=True)
            image.save(place / f"{index:05d}.png")


def call(folder: Path, *words: str) -> str:
    """What `nas-attn` prints, on one thread."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    said = subprocess.run(
        [sys.executable, "-m", "nas_attn", *words],
        cwd=folder,
        env=environment,
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    )
    return said.stdout


def compared(folder: Path, network: str, minutes: float) -> Json:
    """Advice on a network and the result of the search that it names, as a row. The files stay in
    the folder: a second call goes on.
    """
    backbone = NETWORKS[network]
    asked = [backbone, "--target", "scratch", "--data", "folder:photos"]
    advice_file = folder / f"{network}.advice.json"
    if not advice_file.exists():
        said = call(folder, "advise", *asked, "--input", f"3x{SIDE}x{SIDE}", "--json")
        advice_file.write_text(said, "utf-8")
    advice = json.loads(advice_file.read_text("utf-8"))
    store = ["--storage", f"sqlite:///{network}.db"]
    _, *begin = shlex.split(advice["begin"])
    begin[begin.index("--minutes") + 1] = str(minutes)
    call(folder, *begin, "--name", network, "--workers", "1", "--threads", "1", "--quiet", *store)
    return row_of(network, advice, json.loads(call(folder, "pareto", network, "--json", *store)))


def row_of(network: str, advice: Json, now: Json) -> Json:
    """What the comparison needs of `advise --json` and `pareto --json`."""
    return {
        "network": network,
        "input_shape": advice["input_shape"],
        "advice": {
            "gain": advice["gain"] and {k: advice["gain"][k] for k in ("mean", "low", "high")},
            "probability": advice["probability"],
            "smallest_gain": advice["search"]["smallest_gain"],
            "seconds": advice["seconds"],
            "begin": advice["begin"],
            "latency": [
                {key: cost[key] for key in ("placement", "ratio", "low", "high")}
                for cost in advice["latency"]
            ],
        },
        "search": {
            "epochs": now["recipe"]["target"]["epochs"],
            "headline": now["card"]["headline"],
            "verdict": now["card"]["verdict"],
            "gain": now["card"]["gain"],
            "noise": now["noise"],
            "candidates": [candidate_of(one) for one in now["candidates"]],
            "tests": [
                {"verdicts": test["verdicts"], "networks": test["family"]["networks"]}
                for test in now["validations"]
            ],
        },
    }


def candidate_of(one: Json) -> Json:
    """A candidate's placement, latency and accuracies by seed."""
    return {
        "key": one["key"],
        "placement": one["placement"],
        "baseline": one["baseline"],
        "latency": one["latency"],
        "gain": one["gains"].get("accuracy"),
        "scores": last_scores(one["scores"]),
    }


def last_scores(scores: Sequence[Json]) -> dict[str, float]:
    """Accuracy on the validation images by seed, of the longest training."""
    most = max((score["epochs"] for score in scores), default=0)
    return {
        str(score["seed"]): score["metrics"]["accuracy"]
        for score in scores
        if score["epochs"] == most and "accuracy" in score["metrics"]
    }


def differences(row: Json) -> list[tuple[float, int]]:
    """Of each candidate with attention: mean gain over the bare network in points, over the seeds
    that both have, and how many these are.
    """
    candidates = row["search"]["candidates"]
    bare = next(one["scores"] for one in candidates if one["baseline"] == BARE_NAME)
    found = []
    for one in candidates:
        name = BaselineName.read(one["baseline"]) if one["baseline"] else None
        if name is not None and name.kind != "uniform":
            continue
        seeds = one["scores"].keys() & bare.keys()
        if seeds:
            gains = [POINTS * (one["scores"][seed] - bare[seed]) for seed in seeds]
            found.append((statistics.fmean(gains), len(seeds)))
    return found


def widened(row: Json, runs: int) -> float:
    """Half the advice's interval in points, for a gain that is seen through this many pairs of
    runs.
    """
    gain = row["advice"]["gain"]
    half = norm.ppf((1 + COVERAGE) / 2)
    expected = (gain["high"] - gain["low"]) / 2 / half
    noise = POINTS * row["search"]["noise"]["accuracy"]["paired_sd"]
    return float(half * math.hypot(expected, noise / math.sqrt(runs)))


def show(rows: Sequence[Json]) -> None:
    print("| network | advice | candidates inside | their mean | search | latency |")
    print("|---|---|---|---|---|---|")
    for row in rows:
        gain = row["advice"]["gain"]
        found = differences(row)
        inside = [abs(mean - gain["mean"]) <= widened(row, runs) for mean, runs in found]
        print(
            f"| {row['network']} | {gain['mean']:+.2f} ({gain['low']:+.1f} to {gain['high']:+.1f})"
            f" | {sum(inside)} of {len(inside)}"
            f" | {average(found)}"
            f" | {row['search']['headline']} | {latencies(row)} |"
        )


def average(found: Sequence[tuple[float, int]]) -> str:
    """Of the candidates' gains; a search may have ended before it had any."""
    if not found:
        return "–"
    return f"{statistics.fmean(mean for mean, _ in found):+.2f}"


def latencies(row: Json) -> str:
    """How the search's ratio differs from the advice's, of the placement that the advice tries."""
    tried = shlex.split(row["advice"]["begin"])[-1]
    advised = next(cost for cost in row["advice"]["latency"] if cost["placement"] == tried)
    trained = (one for one in row["search"]["candidates"] if module_names(one) == tried)
    found = next(trained, None)
    if found is None:
        return f"{tried}: not trained"
    return f"{tried}: {advised['ratio']:.2f} → {found['latency']['ratio']:.2f}"


def module_names(candidate: Json) -> str:
    """A candidate's placement without settings."""
    return re.sub(r"\([^)]*\)", "", candidate["placement"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("networks", nargs="*", choices=[*NETWORKS, []], metavar="NETWORK")
    parser.add_argument("--out", type=Path, help="where photos and studies are")
    parser.add_argument("--root", help="where torchvision finds CIFAR-10")
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--show", action="store_true", help="only show the rows")
    chosen = parser.parse_args()
    if not chosen.show:
        photos = chosen.out / "photos"
        if not photos.exists():
            write_photos(photos, chosen.root)
        done = {row["network"] for row in read_rows(ROWS)}
        for network in chosen.networks or NETWORKS:
            if network not in done:
                append_row(ROWS, compared(chosen.out, network, chosen.minutes))
    show(read_rows(ROWS))


if __name__ == "__main__":
    main()
