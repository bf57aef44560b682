"""Which machine measures a study, and what is measured again."""

import sys
import threading
import time
from pathlib import Path

import pytest
from plans_made import plan_recipe
from told_values import told

from nas_attn.errors import NasAttnWarning, Unmeasurable
from nas_attn.latency.machine import fingerprint
from nas_attn.latency.ratios import estimate, open_keys
from nas_attn.recipe.reading import recipe_from
from nas_attn.recipe.recipe import Recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import taking_part
from nas_attn.space.notation import parse
from nas_attn.storage.database import Database
from nas_attn.storage.opening import create_study
from nas_attn.storage.records import Fingerprint, Session, SessionSample
from nas_attn.storage.store import StudyStore
from nas_attn.training.measurer import Measurer, to_text

ELSEWHERE = Fingerprint("cpu", "another machine", (("torch", "1.0"),))


def recipe(**latency: object) -> Recipe:
    return recipe_from(
        {
            "name": "here",
            "space": {"name": "s", "choices": {"eca": {}, "simam": {}}},
            "backbone": {"name": "resnet8", "width": 8},
            "data": {"name": "digits-8x8"},
            "training": {"backbone_epochs": 1, "rungs": [1], "batch_size": 256},
            "latency": {"session_seconds": 0.2, **latency},
            "search": {"trials": 1, "baselines": "none", "sampler": "random", "confirm_seeds": 0},
        },
        where="test",
    )


def store(tmp_path: Path, made: Recipe) -> StudyStore:
    return Database(f"sqlite:///{tmp_path / 'nas_attn.db'}").create_study(
        "here", recipe=made.to_json(), versions={}
    )


def test_a_study_pins_its_machine(tmp_path: Path) -> None:
    made = recipe()
    plan, kept = plan_recipe(made), store(tmp_path, made)
    assert Measurer(plan, kept, owner="test").fits
    assert kept.fingerprint == to_text(fingerprint(made.latency))
    other = Database(f"sqlite:///{tmp_path / 'other.db'}").create_study(
        "here", recipe=made.to_json(), versions={}
    )
    other.set_fingerprint_once(to_text(ELSEWHERE))
    assert not Measurer(plan, other, owner="test").fits


def test_a_worker_elsewhere_trains_and_leaves_the_measuring_to_one_that_fits(
    tmp_path: Path,
) -> None:
    opened = create_study(recipe(), f"sqlite:///{tmp_path / 'nas_attn.db'}")
    opened.store.set_fingerprint_once(to_text(ELSEWHERE))
    stop = threading.Event()
    options = taking_part.Options(threads=1, say=lambda line: None, stop=stop)
    worker = threading.Thread(target=taking_part.work, args=(opened, options))
    worker.start()
    try:
        deadline = time.monotonic() + 120
        while not (opened.store.candidates() and opened.store.scores()):
            assert time.monotonic() < deadline
            assert worker.is_alive()
            time.sleep(0.1)
        row = opened.store.candidates()[0]
        time.sleep(0.5)
        assert opened.store.candidate(row.key).state == "running", "told without a latency"
        assert opened.store.sessions() == []
        sample = SessionSample(row.key, 0.2, 2.4, 0.2, 2.4, 50)
        opened.store.add_session(
            Session(ELSEWHERE, {}, 0.0, 1.0, 2.0, 0.0, (sample,)), owner="other"
        )  # the machine that fits
        worker.join(timeout=60)
        assert not worker.is_alive()
    finally:
        stop.set()
        worker.join()
    assert opened.store.candidate(row.key).state == "scored"
    assert told(opened.book)[row.trial][1] == pytest.approx(
        estimate(opened.store.sessions())[row.key].ratio
    )


@pytest.fixture
def two_sessions(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(open_keys.__kwdefaults__, "max_sessions", 2)


@pytest.mark.usefixtures("two_sessions")
def test_no_more_sessions_than_allowed_and_the_bare_backbone_needs_none(tmp_path: Path) -> None:
    made = recipe(tolerance=0.0001)
    plan = plan_recipe(made)
    measurer = Measurer(plan, store(tmp_path, made), owner="test")
    placements = [plan.resolved(parse(text)) for text in ("none", "stage1=eca", "*=simam")]
    measurer.narrow(placements, 0.0001, 2, lambda: False)
    known = measurer.latencies({p.key: p.placement for p in placements})
    assert known[placements[0].key].ratio == 1.0
    assert [known[p.key].sessions for p in placements[1:]] == [2, 2]
    assert measurer.open_keys([p.key for p in placements[1:]], 0.0001) == []


NOT_TIMED = """
import torch
from torch import nn

class NotTimed(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()

    def forward(self, x):
        if torch.is_inference_mode_enabled():
            raise RuntimeError("not in inference mode")
        return x
"""


@pytest.fixture
def not_timed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A module that can be built and trained, but not timed."""
    (tmp_path / "slow_stranger.py").write_text(NOT_TIMED)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.delitem(sys.modules, "slow_stranger", raising=False)
    return "stage1=slow_stranger:NotTimed"


@pytest.mark.usefixtures("two_sessions")
def test_a_network_that_cannot_be_timed_costs_neither_its_companions_nor_the_study(
    tmp_path: Path, not_timed: str
) -> None:
    made = recipe(tolerance=0.9)
    plan = plan_recipe(made)
    kept = store(tmp_path, made)
    good, bad = (plan.resolved(parse(text)) for text in ("stage1=eca", not_timed))
    measurer = Measurer(plan, kept, owner="test")
    assert measurer.measure(good, [bad]).sessions >= 1
    assert {sample.key for session in kept.sessions() for sample in session.samples} == {good.key}
    with pytest.raises(Unmeasurable, match="not in inference mode") as error:
        measurer.measure(bad, [good])
    assert error.value.network == bad.key
    before = len(kept.sessions())
    with pytest.warns(NasAttnWarning, match="not in inference mode"):
        measurer.narrow([good, bad], 0.0001, 2, lambda: False)
    assert len(kept.sessions()) == before + 2


def test_a_candidate_that_cannot_be_timed_fails_and_the_search_goes_on(
    tmp_path: Path, not_timed: str
) -> None:
    table = recipe().model_dump(mode="json")
    table["search"] |= {"trials": 2, "baselines": "bare"}
    made = recipe_from(table, where="test")
    opened = beginning.begin(made, f"sqlite:///{tmp_path / 'nas_attn.db'}", tried=[not_timed])
    taking_part.work(opened, taking_part.Options(threads=1, say=lambda line: None))
    states = {str(row.placement): (row.state, row.reason) for row in opened.store.candidates()}
    assert states["none"][0] == "scored"
    state, reason = states[not_timed]
    assert state == "failed"
    assert "not in inference mode" in reason
