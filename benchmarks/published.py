"""What our model says of published tables that have one training per network: `python
benchmarks/published.py`.

The tables and their sources stand in docs/where-attention-helps.md. A run's noise is not known
there; the model assumes it.
"""

from __future__ import annotations

from nas_attn.model import Run, fit
from nas_attn.notation import parse


def at(stages: range | list[int], choice: str) -> str:
    return " ".join(f"stage{stage}={choice}" for stage in stages)


TABLES = {
    "PP-LCNet x0.5, top-1": {
        "none": 62.51,
        at([1, 2], "se"): 61.73,
        at([7, 8], "se"): 62.17,
        at([12, 13], "se"): 63.14,
        at(range(1, 14), "se"): 64.27,
    },
    "resnet33ts, top-1": {
        "none": 79.22,
        at(range(1, 5), "eca"): 80.08,
        at(range(1, 5), "gc"): 80.07,
        at(range(1, 5), "se"): 80.38,
    },
    "ResNet-50, A1": {"none": 80.38, at(range(1, 5), "se"): 80.01},
    "ResNet-50, A2": {"none": 79.83, at(range(1, 5), "se"): 80.10},
    "ResNet-50, A3": {"none": 75.99, at(range(1, 5), "se"): 75.10},
    "Mask R-CNN, AP": {
        "none": 37.2,
        at(range(2, 5), "gc(reduction=16)"): 39.4,
        at(range(2, 5), "gc(reduction=4)"): 39.9,
    },
}


def main() -> None:
    for name, rows in TABLES.items():
        runs = [Run(text, 0, 0, value / 100) for text, value in rows.items()]
        model = fit(runs, {text: parse(text) for text in rows}, metric="accuracy")
        print(f"{name}: best first")
        for text in sorted(rows, key=lambda text: -rows[text]):
            gain = model.gain(text, "none") if model is not None else None
            if gain is None or text == "none":
                continue
            points = (
                f"{100 * gain.mean:+.2f} points ({100 * gain.low:+.2f} to {100 * gain.high:+.2f})"
            )
            print(
                f"  {rows[text] - rows['none']:+.2f} published; {points}, {gain.probability:.0%}"
                f" likely to help: {text}"
            )


if __name__ == "__main__":
    main()
