"""A study as a search would have left it, written through the real store: known true accuracies,
noisy runs, sessions.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nas_attn.answer.answer import SURE_ENOUGH, Answer, Option, answer_of
from nas_attn.answer.pair_tests import Family, TestedNetwork
from nas_attn.answer.reading import families, keep_family
from nas_attn.answer.snapshot import CandidateView, Means, Snapshot
from nas_attn.model import Gain
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.space.notation import parse
from nas_attn.space.placement import BARE
from nas_attn.storage.database import Database
from nas_attn.storage.records import Fingerprint, Score, Session, SessionSample
from nas_attn.storage.rows import Run
from nas_attn.storage.store import StudyStore

IMAGES = 2000
TRUE_GAIN = {
    "se(reduction=8)": 0.006,
    "cbam(reduction=16, spatial_kernel_size=7)": 0.010,
    "ela(kernel_size=7)": -0.012,
}
TRUE_COST = {
    "se(reduction=8)": 0.05,
    "cbam(reduction=16, spatial_kernel_size=7)": 0.20,
    "ela(kernel_size=7)": 0.15,
}


def recipe(**changes: Any) -> Recipe:
    """A recipe of three stages and three types; `changes` replace its tables."""
    table: dict[str, Any] = {
        "name": "made",
        "space": {
            "name": "made",
            "choices": {"se": {"reduction": [8]}, "cbam": {}, "ela": {"kernel_size": [7]}},
        },
        "objectives": ["accuracy", "latency"],
        "backbone": {"name": "resnet8"},
        "data": {"name": "digits"},
        "training": {"start": "backbone", "rungs": [1, 3]},
    }
    return recipe_from(table | changes, where="made_study")


def recommended(now: Snapshot) -> CandidateView:
    """The placement that the answer chooses, or the bare backbone where it chooses none."""
    found = answer_of(now)
    view = now.bare if found.chosen is None else found.chosen.view
    assert found.reason is not None
    assert view is not None
    return view


def taking(now: Snapshot, key: str) -> Answer:
    """The answer of a study if it took a network instead of attention."""
    view = now.find(key)
    assert view is not None
    gain = view.gains.get(now.metric, Gain())
    return replace(answer_of(now), taken=Option(Means.LARGER, view, gain, SURE_ENOUGH))


def _networks(placements: dict[str, str], recommended: str) -> tuple[TestedNetwork, ...]:
    """Those of a test, from key -> placement."""
    tested = []
    for key, placement in placements.items():
        role = "none" if placement == "none" else "named"
        if key == recommended:
            role = "recommended"
        tested.append(TestedNetwork(key, parse(placement), role))
    return tuple(tested)


class MadeStudy:
    """Writes candidates into a new study's store."""

    def __init__(
        self, folder: Path, made_from: Recipe | None = None, *, name: str = "made", seed: int = 0
    ) -> None:
        self.recipe = made_from or recipe()
        self.database = Database(f"sqlite:///{folder / 'made.db'}")
        self.store: StudyStore = self.database.create_study(
            name,
            recipe=self.recipe.to_json(),
            versions={"torch": "2.15.0", "nas-attn": "0.1.0"},
            trials=self.recipe.search.trials,
        )
        self.rng = np.random.default_rng(seed)
        self.hard = self.rng.random(IMAGES)
        self.trials = 0
        lease = self.store.acquire("trial", owner="test")
        assert lease is not None
        self.lease = lease

    def candidate(
        self,
        placement: str,
        *,
        baseline: str | None = None,
        state: str | None = "scored",
        seeds: int = 1,
        rungs: int | None = None,
        reason: str = "",
    ) -> str:
        """One candidate, scored with `seeds` seeds at the first `rungs` rungs; returns its key."""
        key = f"key-{self.trials:03}"
        rungs = len(self.recipe.training.rungs) if rungs is None else rungs
        store, lease = self.store, self.lease
        store.claim(
            key, placement=parse(placement), trial=self.trials, baseline=baseline, lease=lease
        )
        self.trials += 1
        modules = sum(placement.count(choice) for choice in TRUE_GAIN)
        store.set_cost(
            key,
            {
                "params": 78_000 + 1_500 * modules,
                "macs": 12_500_000 + 40_000 * modules,
                "memory": 3_000_000,
            },
            lease,
        )
        for seed in range(seeds):
            for rung in range(rungs):
                purpose = "search" if seed == 0 else "confirm"
                run = Run(key, parse(placement), seed, purpose=purpose)
                store.add_score(run, self.score(placement, seed, rung), lease=lease)
        if state is not None:
            store.end_candidate(key, state=state, reason=reason, lease=lease)
        return key

    def score(self, placement: str, seed: int, rung: int) -> Score:
        """A run: the same images are hard for everyone, some flip from run to run."""
        level = 0.62 + 0.08 * rung + true_sum(TRUE_GAIN, placement)
        right = self.hard + 0.06 * self.rng.standard_normal(IMAGES) < level
        metrics = {
            "accuracy": float(right.mean()),
            "loss": 1.5 - float(right.mean()),
            "train_loss_sum": 3.0,
        }
        bits = np.packbits(right).tobytes()
        epochs = self.recipe.training.rungs[rung]
        score = Score(
            seed, rung, epochs, metrics, correct=bits, examples=IMAGES, wall_s=4.0, device_s=3.5
        )
        return self.completed(score)

    def completed(self, score: Score) -> Score:
        """A score with what a study of another kind has in it, too."""
        return score

    def backbone(self) -> None:
        """The backbone's own training: three points."""
        for rung, accuracy in enumerate((0.40, 0.58, 0.66)):
            score = Score(
                0, rung, 3 * (rung + 1), {"accuracy": accuracy, "loss": 1.5 - accuracy}, wall_s=8.0
            )
            self.store.add_score(
                Run("backbone", BARE, 0, purpose="backbone"), score, lease=self.lease
            )

    def validation(
        self,
        networks: dict[str, str],
        *,
        blocks: int = 8,
        done: int | None = None,
        margin: float | None = None,
        gain: dict[str, float] | None = None,
        diverged: str = "",
        evaluator: bool = False,
        metric: str = "accuracy",
        recommended: str = "",
        arithmetic: Callable[[str, int], str | None] = lambda key, block: None,
    ) -> Family:
        """A validation of key -> placement, the first against the last and `none`, of whose blocks
        `done` are finished.

        Args:
            gain: key -> true gain on the test split.
            diverged: key of a network whose run of the first block failed.
            evaluator: no results per image, and no chance to count a failed run as.
            recommended: key of what the search recommended; nothing of the kind where it is empty.
            arithmetic: (key, block) -> what the run was computed in.
        """
        keys = list(networks)
        number = 1 + len(families(self.store))
        family = Family(
            number=number,
            networks=_networks(networks, recommended),
            comparisons=tuple((key, keys[-1]) for key in keys[:-1]),
            blocks=blocks,
            margin=margin,
            metric=metric,
            first_seed=1000 * number,
            epochs=9,
            chance=None if evaluator else 0.1,
        )
        keep_family(self.store, family)
        for block in range(blocks if done is None else done):
            for key, placement in networks.items():
                seed = family.first_seed + block
                run = Run(key, parse(placement), seed, seed, "target", "validate")
                lost = key == diverged and block == 0
                self._end(run, lost=lost)
                if not lost:
                    score = self._tested(
                        (gain or {}).get(key, 0.0),
                        seed,
                        arithmetic(key, block),
                        per_image=not evaluator,
                    )
                    self.store.log_test_reading(f"validate {run.files}")
                    self.store.add_score(
                        replace(run, protocol="target/test"),
                        self.completed(score),
                        lease=self.lease,
                    )
        return family

    def _end(self, run: Run, *, lost: bool) -> None:
        """Queues a run of a test and ends it; `lost`: as one that diverged."""
        self.store.queue.want([run])
        rows = self.store.queue.rows(protocol="target", key=run.key)
        (row,) = (row for row in rows if row.run.seed == run.seed)
        if lost:
            self.store.queue.finish(row, "failed", "diverged", self.lease)
        else:
            self.store.queue.finish(row, "done", "", self.lease)

    def _tested(self, gain: float, seed: int, computed_in: str | None, *, per_image: bool) -> Score:
        """A score on the test split of a network with this true gain."""
        right = self.hard + 0.06 * self.rng.standard_normal(IMAGES) < 0.7 + gain
        return Score(
            seed,
            0,
            9,
            {"accuracy": float(right.mean())},
            correct=np.packbits(right).tobytes() if per_image else None,
            examples=IMAGES,
            arithmetic=computed_in,
        )

    def sessions(self, count: int = 4, *, control: float = 0.001) -> None:
        """Latency sessions over all candidates but the bare one."""
        rows = [row for row in self.store.candidates() if "=" in str(row.placement)]
        for index in range(count):
            samples = tuple(self.sample(row.key, str(row.placement)) for row in rows)
            conditions: dict[str, Any] = {"batch_size": 1, "threads": 1, "dtype": "float32"}
            device = Fingerprint("cpu", "Test CPU 3000", (("torch", "2.15.0"),))
            self.store.add_session(
                Session(device, conditions, 1e9 + index, 2.5, 4.0, control, samples), owner="test"
            )

    def sample(self, key: str, placement: str) -> SessionSample:
        ratio = math.log(1 + true_sum(TRUE_COST, placement)) + 0.005 * float(
            self.rng.standard_normal()
        )
        return SessionSample(key, ratio, 4.0 * math.exp(ratio), ratio, 4.0 * math.exp(ratio), 100)


def true_sum(table: dict[str, float], placement: str) -> float:
    """What the modules of a placement add to the accuracy, or to the latency ratio."""
    return sum(each * placement.count(choice) for choice, each in table.items())


def everywhere(choice: str) -> str:
    """One choice at all three stages."""
    return " ".join(f"stage{i}={choice}" for i in (1, 2, 3))


def usual(
    folder: Path, made_from: Recipe | None = None, *, searched: int = 12, seed: int = 0
) -> MadeStudy:
    """Baselines with three seeds, searched candidates with one or three, some pruned, one
    infeasible, one failed.
    """
    made = MadeStudy(folder, made_from, seed=seed)
    made.backbone()
    made.candidate("none", baseline="none", seeds=3)
    for choice in TRUE_GAIN:
        made.candidate(everywhere(choice), baseline=f"uniform {choice}", seeds=3)
    choices = ["none", *TRUE_GAIN]
    for index in range(searched):
        picked = [choices[int(i)] for i in made.rng.integers(len(choices), size=3)]
        parts = [f"stage{i + 1}={choice}" for i, choice in enumerate(picked) if choice != "none"]
        pruned = index % 4 == 3
        made.candidate(
            " ".join(parts) or "none",
            state="pruned" if pruned else "scored",
            seeds=3 if index % 3 == 0 and not pruned else 1,
            rungs=1 if pruned else None,
            reason="at 1 epoch behind the best third" if pruned else "",
        )
    made.candidate(
        everywhere("se(reduction=8)") + " stage4=se(reduction=8)",
        state="infeasible",
        rungs=0,
        reason="latency ratio 1.62 is above the limit of 1.5",
    )
    made.candidate(
        "stage1=se(reduction=8) stage3=ela(kernel_size=7)",
        state="failed",
        rungs=0,
        reason="<b>loss</b> became NaN & stopped",
    )
    made.candidate("stage2=se(reduction=8)", state=None, rungs=1)
    made.sessions()
    return made
