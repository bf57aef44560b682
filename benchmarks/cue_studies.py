"""Studies whose runs lie at two values, as a network either finds what the task needs or does not:
how far are the answers right?

    python -m benchmarks.cue_studies --studies 40 --out R.jsonl      # resumable
    python -m benchmarks.cue_studies --report R.jsonl

As cued digits are (docs/benchmarks/tables.md): a run ends at .53 or at .93, with results per image;
how likely a placement finds the cue is its own. From the first run to the answer each study goes as
in trust.py, with two confirming seeds for none, the front and the best uniform one before the
confirmation, as in a search. A placement's truth is its expected accuracy: what another run of it
is worth.

- `never`: nobody finds it.
- `luck P`: every placement, the bare backbone too, with probability P: nothing differs.
- `backbone P`: the same, but it is decided by placement and backbone, of which there are three, and
  new ones in the confirmation.
- `place`: never without attention at stage 1 or 2; at stage 1 with .95, at stage 2 alone with .5.
- `any`: each choice at each site adds to the odds, from next to never to nearly always; the bare
  backbone with .02.
"""

from __future__ import annotations

import argparse
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from benchmarks import trust
from benchmarks.rows import keep_row, read_rows
from benchmarks.simulated_studies import COSTS, SITES, TYPES, Study, World, known
from benchmarks.simulated_studies import FINE_TUNING as NOISE
from benchmarks.trust_figures import SURE, TAKEN, Outcome
from nas_attn.model import ScoredRun
from nas_attn.records import Latency

WORLDS = (
    "never",
    "luck 0.05",
    "luck 0.3",
    "luck 0.7",
    "luck 0.9",
    "luck 0.98",
    "backbone 0.7",
    "place",
    "any",
)
IMAGES = 2000
CONFIRM_SEEDS = 2
NEW = 100
"""Seeds of the confirmation begin here: on backbones of their own, where there are several."""
WITHOUT, WITH = 0.53, 0.93


@dataclass(frozen=True)
class CueWorld:
    """A kind of such studies, with what trust.py asks of a world."""

    kind: str
    candidates: int = 40
    backbones: int = 1
    rungs: int = 1
    pretrained: bool = False

    @property
    def name(self) -> str:
        return f"cue, {self.kind}"


class CueStudy(Study):
    """One of them."""

    world: CueWorld  # type: ignore[assignment]

    def __init__(self, world: CueWorld, rng: np.random.Generator) -> None:
        super().__init__(World(NOISE, "null", world.candidates), rng)
        self.world = world
        self._finds = self._probabilities(list(self.placements.values()))
        self._number = int(rng.integers(1 << 31))
        self._easy = rng.random(IMAGES)
        """(IMAGES,) a run without the cue gets an image right below WITHOUT, up to its own luck;
        with it, below WITH.
        """

    def runs(self, key: str, seed: int, rungs: int | None = None) -> list[ScoredRun]:
        backbone, chance = 0, self._finds[self._index[key]]
        found = self.rng.random() < chance
        if self.world.backbones > 1:
            backbone = seed if seed >= NEW else seed % self.world.backbones
            found = (
                np.random.default_rng([self._number, self._index[key], backbone]).random() < chance
            )
        mixed = np.where(self.rng.random(IMAGES) < 0.1, self.rng.random(IMAGES), self._easy)
        right = mixed < (WITH if found else WITHOUT)
        return [
            ScoredRun(
                key, seed, 0, float(right.mean()), backbone, np.packbits(right).tobytes(), IMAGES
            )
        ]

    def true_value(self, key: str) -> float:
        share = {p: 0.9 * float((self._easy < p).mean()) + 0.1 * p for p in (WITHOUT, WITH)}
        p = self._finds[self._index[key]]
        return float(100 * (p * share[WITH] + (1 - p) * share[WITHOUT]))

    def true_new_value(self, key: str) -> float:
        p = self._finds[self._index[key]]
        return float(100 * (p * WITH + (1 - p) * WITHOUT))

    def latency(self, key: str) -> Latency:
        return known(
            1 + sum(cost * self.placements[key].count(f"={kind}") for kind, cost in COSTS.items())
        )

    def _probabilities(self, texts: list[str]) -> np.ndarray:
        kind, *more = self.world.kind.split()
        if kind in ("never", "luck", "backbone"):
            return np.full(len(texts), float(more[0]) if more else 0.0)
        if kind == "place":
            return np.array(
                [0.95 if "stage1=" in text else 0.5 if "stage2=" in text else 0.0 for text in texts]
            )
        logits = self.rng.normal(0.5, 2.0, (SITES, len(TYPES)))
        worth = {
            f"stage{s + 1}={kind}": logits[s, t]
            for s in range(SITES)
            for t, kind in enumerate(TYPES)
        }
        sums = np.array(
            [-4.0 + sum(worth[part] for part in text.split() if part in worth) for text in texts]
        )
        return np.asarray(1 / (1 + np.exp(-sums)))


def simulate(kind: str, seed: int) -> Outcome:
    """One study, as trust.py carries it out."""
    world = CueWorld(kind, backbones=3 if kind.startswith("backbone") else 1)
    return trust.carry_out(
        CueStudy(world, np.random.default_rng([seed, *world.name.encode()])), CONFIRM_SEEDS
    )


def report(lines: list[dict[str, object]]) -> str:
    """The page's table."""
    rows = [
        (
            "| studies | n | almost surely better | of these truly | attention taken | gain covered"
            " | accuracy covered | all accuracies | optimism, points | one run's noise found |"
        ),
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for kind in WORLDS:
        mine = [Outcome(**line["outcome"]) for line in lines if line["kind"] == kind]  # type: ignore[arg-type]
        if not mine:
            continue
        sure, taken = ([o for o in mine if o.probability >= p] for p in (SURE, TAKEN))
        truly = f"{np.mean([o.true > 0 for o in sure]):.0%}" if sure else "–"
        off = f"{np.mean([o.gain - o.true for o in taken]):+.1f}" if taken else "–"
        covered = [f"{np.mean([float(getattr(o, name)) for o in mine]):.0%}" for name in _COVERS]
        cells = [
            kind,
            str(len(mine)),
            f"{len(sure) / len(mine):.0%}",
            truly,
            f"{len(taken) / len(mine):.0%}",
            *covered,
            off,
        ]
        rows.append(f"| {' | '.join(cells)} | {np.median([o.noise for o in mine]):.1f} |")
    return "\n".join(rows)


_COVERS = ("gain_covers", "value_covers", "all_value_covers")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--studies", type=int, default=40, help="of each kind")
    parser.add_argument(
        "--out", type=Path, help="JSON lines; studies that are there are not done again"
    )
    parser.add_argument(
        "--report", type=Path, help="print the table of these lines, and simulate nothing"
    )
    asked = parser.parse_args()
    lines = read_rows(asked.report or asked.out)
    done = {(line["kind"], line["seed"]) for line in lines}
    for seed in range(0 if asked.report else asked.studies):
        for kind in WORLDS:
            if (kind, seed) not in done:
                keep_row(
                    lines,
                    {"kind": kind, "seed": seed, "outcome": asdict(simulate(kind, seed))},
                    asked.out,
                )
    print(report(lines))


if __name__ == "__main__":
    main()
