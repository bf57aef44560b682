"""One arithmetic for a study, whatever its workers would decide by themselves; and studies from
before it was recorded.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tarfile
from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from command_line import Nas

from nas_attn.answer.reading import snapshot
from nas_attn.errors import StudyError
from nas_attn.recipe import tasks
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.space.notation import parse
from nas_attn.storage.opening import OpenStudy, open_study
from nas_attn.storage.records import FILLED, Arithmetic, StoredScore
from nas_attn.training.learning_rates import candidate_rates
from nas_attn.training.plan import make_plan
from nas_attn.training.tasks.data import data_of
from nas_attn.training.trainer import Trainer

WORKER = Path(__file__).with_name("arithmetic_worker.py")
BEFORE = Path(__file__).parents[2] / "storage" / "before" / "0001.tar.xz"
RECIPE = """
name = "mixed"
objectives = ["accuracy", "params"]
space = { name = "mixed", choices = { se = { reduction = [2, 4] }, eca = {}, simam = {} } }
backbone = { name = "resnet8", width = 4 }
[data]
name = "digits"
train_subset = 140
options = { train = 400, validation = 100, test = 50 }
[training]
start = "scratch"
rungs = [1, 2]
batch_size = 32
[search]
trials = 4
sampler = "random"
baselines = "bare"
confirm_seeds = 0
"""


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenStudy:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mixed.toml").write_text(RECIPE)
    return beginning.begin(load_recipe("mixed.toml"), f"sqlite:///{tmp_path / 'mixed.db'}")


@pytest.fixture
def loaded() -> Iterator[None]:
    """A process keeps a core busy."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield
    finally:
        process.kill()
        process.wait()


def work(study: OpenStudy, *choices: str) -> list[str]:
    """Workers that begin at the same time; returns what each of them printed."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    processes = [
        subprocess.Popen(
            [sys.executable, str(WORKER), study.url, choice],
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for choice in choices
    ]
    printed = [process.communicate(timeout=300)[0] for process in processes]
    assert [text.split()[-1] for text in printed] == ["complete"] * len(choices), printed
    return printed


@cache
def alone(toml: str, placement: str, seed: int, text: str) -> list[dict[str, float]]:
    """Metrics of a run at each rung, trained here and now in an arithmetic."""
    recipe = load_recipe(toml)
    dataset = data_of(tasks.of(recipe)).load(recipe, device=torch.device("cpu"))
    plan = make_plan(recipe, dataset.input_shape, len(dataset.classes))
    model = plan.network(plan.resolved(parse(placement)), seed)
    rates = candidate_rates(plan, model)
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        trainer = Trainer(
            recipe.training, dataset, device="cpu", arithmetic=Arithmetic.from_text(text)
        )
        scores = trainer.fit(
            model,
            seed=seed,
            rungs=recipe.training.rungs,
            rates=rates,
        )
    finally:
        torch.set_num_threads(before)
    return [dict(score.metrics) for score in scores]


def check_runs(study: OpenStudy) -> Counter[str]:
    """Each run has one arithmetic, and is what it is when it is trained alone in it; returns how
    many have which precision.
    """
    placements = {row.key: str(row.placement) for row in study.store.candidates()}
    runs: dict[tuple[str, int], list[StoredScore]] = {}
    for stored in study.store.scores():
        runs.setdefault((stored.key, stored.score.seed), []).append(stored)
    found = Counter[str]()
    for (key, seed), scores in runs.items():
        (text,) = {stored.score.arithmetic for stored in scores}
        assert text is not None
        expected = alone("mixed.toml", placements[key], seed, text)
        for stored in scores:
            assert stored.score.metrics["loss"] == expected[stored.score.rung]["loss"]
        found[Arithmetic.from_text(text).precision] += 1
    return found


@pytest.mark.slow
def test_workers_that_would_decide_otherwise_compute_as_the_first_one_decided(
    study: OpenStudy, loaded: None
) -> None:
    printed = work(study, "bfloat16", "float32")
    (text,) = study.store.arithmetics.all().values()
    agreed = Arithmetic.from_text(text)
    assert agreed.batches == FILLED
    found = check_runs(study)
    assert set(found) == {agreed.precision}
    assert "marked" not in "".join(printed)


def test_a_machine_that_cannot_do_the_same_is_refused_with_the_way_out(
    study: OpenStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    low = Arithmetic("bfloat16", "channels_last", "eager", "none", True, FILLED)
    study.store.arithmetics.put_once("cpu", low.text)
    monkeypatch.setattr(torch.cpu, "get_capabilities", dict)
    options = taking_part.Options(say=lambda line: None, device="cpu", threads=1)
    with pytest.raises(StudyError, match=r"differs in bfloat16: .* training.precision = 'float32'"):
        taking_part.work(study, options)
    assert not list(study.store.scores())


@pytest.fixture
def before(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> OpenStudy:
    """A study from before, which was stopped in the middle of its second network."""
    monkeypatch.chdir(tmp_path)
    with tarfile.open(BEFORE) as archive:
        archive.extractall(tmp_path, filter="data")
    return open_study("before", f"sqlite:///{tmp_path / 'before.db'}")


# a study of an earlier version, searched in a process of its own
@pytest.mark.slow
def test_a_study_from_before_says_not_recorded(before: OpenStudy, nas: Nas) -> None:
    assert (
        "Arithmetic not recorded (2 runs)" in nas("status", "before", "--storage", before.url).out
    )
    options = taking_part.Options(device="cpu", threads=1, say=lambda line: None)
    assert taking_part.work(before, options) == "complete"
    scores = {(s.key, s.score.rung): s.score.arithmetic for s in before.store.scores()}
    recorded = {Arithmetic.from_text(text) for text in scores.values() if text is not None}
    assert {one.batches for one in recorded} == {FILLED}
    assert len(recorded) == 1
    assert sum(text is None for text in scores.values()) == 3, "runs from before, or what they told"
    known = nas("status", "before", "--json", "--storage", before.url).json["arithmetic"]
    assert [(use["devices"], use["runs"]) for use in known] == [(["cpu"], 1), ([], 2)]
    gains = snapshot(before.store).candidates[1].gains
    assert gains, "what was not recorded is compared as before"
