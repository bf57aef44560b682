"""A user's evaluator: what it is told, what it may return, what a restart keeps."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from slots import MemorySlot as Slot
from torch import nn

from nas_attn.errors import OperationError, RecipeError, TrainingError, UserError
from nas_attn.space.placement import BARE, ResolvedPlacement
from nas_attn.storage.records import Score
from nas_attn.system.waiting import Interrupted
from nas_attn.training.evaluators import (
    EvaluatorRun,
    EvaluatorTrainer,
    Job,
    find_evaluator,
)
from nas_attn.training.run import Callbacks

BARE_NETWORK = ResolvedPlacement((), BARE, "paper", "key")


def test_one_that_yields_trains_through_and_goes_on_after_a_restart(tmp_path: Path) -> None:
    begun, slot = [], Slot()

    def evaluate(model: nn.Module, run: EvaluatorRun) -> Iterator[tuple[int, dict[str, float]]]:
        begun.append(run.rung)
        for epoch in range(1, run.last + 1):
            yield epoch, {"miou": epoch}

    with pytest.raises(Interrupted):
        fit(evaluate, tmp_path, slot, stop=lambda: slot.load() is not None)
    assert [score.metrics["miou"] for score in fit(evaluate, tmp_path, slot)] == [1, 3, 9]
    assert begun == [0, 1]


class Judge:
    """Notes each run; its metric is the number of epochs."""

    def __init__(self) -> None:
        self.runs: list[EvaluatorRun] = []

    def __call__(self, model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        self.runs.append(run)
        (run.folder / "epochs").write_text(str(run.epochs))
        return {"miou": run.epochs}


def fit(evaluator: Any, folder: Path, slot: Slot, **changes: Any) -> tuple[Score, ...]:
    what = {name: changes.pop(name) for name in ("rungs", "needed") if name in changes}
    rungs = what.pop("rungs", [1, 3, 9])
    job = Job(5, BARE_NETWORK, rungs, slot, Callbacks(**changes), folder="k-5", **what)
    trainer = EvaluatorTrainer(evaluator, folder=folder, device="cpu", threads=1)
    return trainer.fit(nn.Identity(), job)


def test_rungs_in_turn_with_a_folder_that_stays(tmp_path: Path) -> None:
    judge = Judge()
    scores = fit(judge, tmp_path, Slot())
    assert [(run.rung, run.epochs, run.new_epochs) for run in judge.runs] == [
        (0, 1, 1),
        (1, 3, 2),
        (2, 9, 6),
    ]
    assert {(run.placement, run.seed, run.device) for run in judge.runs} == {("none", 5, "cpu")}
    assert [score.metrics for score in scores] == [{"miou": 1.0}, {"miou": 3.0}, {"miou": 9.0}]
    assert len({run.folder for run in judge.runs}) == 1
    assert (judge.runs[0].folder / "epochs").read_text() == "9"
    pruned = Judge()
    assert (
        len(fit(pruned, tmp_path, Slot(), on_rung=lambda score: score.rung < 1))
        == len(pruned.runs)
        == 2
    )


@pytest.mark.parametrize(
    ("metrics", "way_out"),
    [
        ({"accuracy": 55.0}, "return 0.55"),
        ({"miou": 1.0, "accuracy": -0.5}, "share from 0 to 1"),
        ({"map50": 300.0}, "share from 0 to 1"),
    ],
)
def test_a_share_outside_0_to_1_ends_the_search_with_the_way_out(
    tmp_path: Path, metrics: dict[str, float], way_out: str
) -> None:
    slot = Slot()
    with pytest.raises(RecipeError, match=way_out):
        fit(lambda model, run: metrics, tmp_path, slot, rungs=[1])
    assert slot.load() is None


def test_a_share_may_be_beside_0_and_1_by_rounding_and_other_metrics_are_free(
    tmp_path: Path,
) -> None:
    returned = {"accuracy": 1.0000001, "macro_f1": -1e-9, "my_metric": 55.0, "loss": 7.0}
    (score,) = fit(lambda model, run: returned, tmp_path, Slot(), rungs=[1])
    assert score.metrics == {"accuracy": 1.0, "macro_f1": 0.0, "my_metric": 55.0, "loss": 7.0}


def test_an_interrupt_that_nobody_sent_keeps_the_run(tmp_path: Path) -> None:
    def raises(model: nn.Module, run: EvaluatorRun) -> dict[str, float]:
        raise KeyboardInterrupt

    slot = Slot()
    with pytest.raises(OperationError, match=r"KeyboardInterrupt for 'none'.*resumed"):
        fit(raises, tmp_path, slot)
    assert slot.load() is None


def test_one_that_is_to_stop_leaves_and_goes_on_from_its_own_folder(tmp_path: Path) -> None:
    to_stop = [False]

    def evaluate(model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        kept = run.folder / "steps"
        begin = int(kept.read_text()) if kept.exists() else 0
        for step in range(begin, 10):
            if run.stopping:
                kept.write_text(str(step))
                run.leave()
            to_stop[0] = step == 3
        return {"begun_at": float(begin)}

    with pytest.raises(Interrupted):
        fit(evaluate, tmp_path, Slot(), stop=lambda: to_stop[0], rungs=[1])
    to_stop[0] = False
    (score,) = fit(evaluate, tmp_path, Slot(), rungs=[1])
    assert score.metrics == {"begun_at": 4.0}


def test_a_folder_in_which_nothing_was_put_goes(tmp_path: Path) -> None:
    seen: list[bool] = []

    def evaluate(model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        seen.append(run.folder.is_dir())
        return {"miou": 0.5}

    fit(evaluate, tmp_path, Slot())
    assert seen == [True] * 3
    assert list(tmp_path.iterdir()) == []


def test_finished_rungs_are_not_repeated_after_a_restart(tmp_path: Path) -> None:
    slot, first = Slot(), Judge()
    with pytest.raises(Interrupted):
        fit(first, tmp_path, slot, stop=lambda: len(first.runs) == 2)
    second, seen = Judge(), []
    scores = fit(second, tmp_path, slot, on_rung=lambda score: seen.append(score) is None)
    assert [run.rung for run in first.runs] == [0, 1]
    assert [run.rung for run in second.runs] == [2]
    assert [score.rung for score in scores] == [score.rung for score in seen] == [0, 1, 2]
    assert second.runs[0].folder == first.runs[0].folder


@pytest.mark.parametrize(
    "answer", [None, 3, {}, [], {"miou": "high"}, {"miou": float("nan")}, {"miou": None}]
)
def test_what_is_no_metric_is_refused_by_name(tmp_path: Path, answer: Any) -> None:
    with pytest.raises(TrainingError, match=r"evaluator returned .* 'none'"):
        fit(lambda model, run: answer, tmp_path, Slot())


@pytest.mark.parametrize(
    ("raised", "told", "sentence"),
    [
        (
            ZeroDivisionError(),
            TrainingError,
            "the evaluator raised ZeroDivisionError for 'none': ZeroDivisionError",
        ),
        (UserError("give a folder"), UserError, "^give a folder"),
    ],
)
def test_what_it_raises_is_told_in_one_sentence(
    tmp_path: Path, raised: Exception, told: type[Exception], sentence: str
) -> None:
    def breaks(model: nn.Module, run: EvaluatorRun) -> dict[str, float]:
        raise raised

    with pytest.raises(told, match=sentence):
        fit(breaks, tmp_path, Slot())


NAMES = [
    "evaluate",
    "os:",
    ":x",
    "no_such_package:f",
    "os:nosuch",
    "os:sep",
]


@pytest.mark.parametrize("name", NAMES)
def test_names_that_name_no_evaluator(name: str) -> None:
    with pytest.raises(RecipeError, match=r"training\.evaluator"):
        find_evaluator(name)


def test_a_network_that_is_needed_is_trained_again_where_its_process_was_killed(
    tmp_path: Path,
) -> None:
    """Else the test split would be scored by a network that was never trained."""
    slot, judge = Slot(), Judge()
    fit(judge, tmp_path, slot, rungs=[9])
    fit(judge, tmp_path, slot, rungs=[9])
    assert len(judge.runs) == 1
    fit(judge, tmp_path, slot, rungs=[9], needed=True)
    assert [(run.rung, run.new_epochs) for run in judge.runs] == [(0, 9), (0, 9)]


def test_results_per_image_become_the_accuracy_and_survive_a_restart(tmp_path: Path) -> None:
    def judge(model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        run.right(torch.tensor([True, False, True, True]))
        return {"miou": 0.5}

    slot = Slot()
    (score,) = fit(judge, tmp_path, slot, rungs=[1])
    assert score.metrics == {"miou": 0.5, "accuracy": 0.75}
    assert score.examples == 4
    assert np.unpackbits(np.frombuffer(score.correct or b"", np.uint8), count=4).tolist() == [
        1,
        0,
        1,
        1,
    ]
    assert fit(judge, tmp_path, slot, rungs=[1]) == (score,)


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        ([0.3, 1.0], "one true or false for each image, not an array of shape"),
        ([[True]], r"not an array of shape \(1, 1\)"),
        (
            [True, False],
            (
                r"returned accuracy = 0.9 for 'none', but told run.right that 0.5 of the images are"
                r" right"
            ),
        ),
    ],
)
def test_results_per_image_that_are_none_are_refused(
    tmp_path: Path, flags: Any, message: str
) -> None:
    def judge(model: nn.Module, run: EvaluatorRun) -> Mapping[str, float]:
        run.right(flags)
        return {"accuracy": 0.9}

    with pytest.raises(TrainingError, match=message):
        fit(judge, tmp_path, Slot())
