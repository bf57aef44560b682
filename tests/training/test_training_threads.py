"""The number of threads: what a few steps show to be quickest, the same for all of a run, looked at again under other load."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from test_training_resume import SECTION, FileSlot, assert_same, network

from nas_attn import data
from nas_attn.errors import NasAttnWarning
from nas_attn.recipe import DataSection
from nas_attn.training import Interrupted, Trainer
from nas_attn.training.stepping import Threads, cores_for, quickest


@pytest.fixture(autouse=True)
def _threads() -> Iterator[None]:
    before = torch.get_num_threads()
    yield
    assert torch.get_num_threads() == before


class Machine:
    """A machine whose steps take a time by the number of threads."""

    def __init__(self, takes_s: dict[int, float]) -> None:
        self.takes_s, self.asked, self.now_s = takes_s, [], 0.0

    def step(self) -> None:
        self.asked.append(torch.get_num_threads())
        self.now_s += self.takes_s[self.asked[-1]]


IDLE = {1: 0.04, 2: 0.02, 4: 0.01, 6: 0.002}
CROWDED = {1: 0.005, 2: 0.3, 4: 0.3, 6: 0.3}


@pytest.mark.parametrize(
    ("takes_s", "most", "expected"),
    [(IDLE, 6, 6), (IDLE, 2, 2), (IDLE | {4: 0.02, 6: 0.001}, 6, 2), (CROWDED, 6, 1), (IDLE, 1, 1)],
)
def test_the_quickest_number_is_taken(
    takes_s: dict[int, float], most: int, expected: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(takes_s)
    monkeypatch.setattr("nas_attn.training.stepping.time", SimpleNamespace(perf_counter=lambda: machine.now_s))
    assert quickest(machine.step, most) == expected


def test_a_number_that_is_far_too_slow_costs_one_step(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(CROWDED)
    monkeypatch.setattr("nas_attn.training.stepping.time", SimpleNamespace(perf_counter=lambda: machine.now_s))
    quickest(machine.step, 6)
    assert machine.asked.count(2) == 1
    assert 4 not in machine.asked


def test_where_there_is_nothing_to_choose_no_step_is_made() -> None:
    machine = Machine(IDLE)
    assert Threads(most=1).number(None, machine.step) == 1
    assert Threads(3).number(None, machine.step) == 3
    assert Threads(most=4).number(2, machine.step) == 2
    assert not machine.asked


def test_a_step_that_fails_is_left_to_the_training_to_report() -> None:
    def step() -> None:
        raise RuntimeError("no memory")

    assert quickest(step, 4) == 1


def test_the_number_is_chosen_once_and_anew_after_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = iter([2, 1])
    monkeypatch.setattr("nas_attn.training.stepping.quickest", lambda step, most: next(chosen))
    threads = Threads(most=2)
    assert [threads.number(None, lambda: None) for _ in range(3)] == [2, 2, 2]
    monkeypatch.setattr("nas_attn.training.stepping.LATEST_S", -1.0)
    assert threads.number(None, lambda: None) == 1


def test_a_users_number_goes_before_the_one_that_a_run_was_begun_with() -> None:
    with pytest.warns(NasAttnWarning, match="began with 2 threads continues with 1"):
        assert Threads(1).number(2, lambda: None) == 1


def fit(path: Path, threads: Threads, stop: Callable[[], bool] | None = None):
    dataset = data.load(DataSection(name="digits-8x8"), device="cpu")
    model = network()
    trainer = Trainer(SECTION, dataset, device="cpu", threads=threads)
    return model, trainer.fit(model, seed=5, rungs=[1], learning_rate=0.05, slot=FileSlot(path), stop=stop)


def test_a_run_goes_on_with_the_threads_that_it_was_begun_with(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    used: list[int] = []
    forward = Trainer._output
    monkeypatch.setattr(Trainer, "_output", lambda *args: used.append(torch.get_num_threads()) or forward(*args))
    whole = fit(tmp_path / "whole", Threads(2))
    asked = iter([False] * 5 + [True])
    with pytest.raises(Interrupted):
        fit(tmp_path / "pieces", Threads(2), stop=lambda: next(asked))
    assert set(used) == {2}
    assert_same(fit(tmp_path / "pieces", Threads(most=1)), whole)
    assert set(used) == {2}


def test_choosing_changes_nothing_in_the_training(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    looks = []

    def look(step: Callable[[], object], most: int) -> int:
        looks.append(most)
        for _ in range(5):
            step()
        return 1

    whole = fit(tmp_path / "fixed", Threads(1))
    monkeypatch.setattr("nas_attn.training.stepping.quickest", look)
    assert_same(fit(tmp_path / "chosen", Threads(most=8)), whole)
    assert looks == [8]


def test_cores_are_shared_out_and_the_environments_word_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas_attn.training.stepping.cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [cores_for(workers) for workers in (1, 3, 4, 20)] == [8, 2, 2, 1]
    monkeypatch.setenv("OMP_NUM_THREADS", "2,1")
    assert [cores_for(workers) for workers in (1, 8)] == [2, 1]
