"""`search.rungs = "auto"`: a search that prunes only where scores tell placements apart, with an evaluator that looks its answers up."""

import threading
from collections import Counter
from pathlib import Path

import pytest

import nas_attn as na
from nas_attn.analysis.snapshot import Snapshot, snapshot
from nas_attn.analysis.weak_rungs import FEWEST, REPEATED
from nas_attn.errors import RecipeError
from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.opening import create_study, open_study
from nas_attn.study.telling_rungs import RUNGS, SEED

URL = "sqlite:///nas_attn.db"
BLIND = """
import random

WORTH = {"none": 0.0, "se": 2.0, "eca": 3.0, "simam": -1.0}

def evaluate(model, run):
    with open("calls.txt", "a") as calls:
        calls.write(f"{run.placement}|{run.seed}|{run.rung}\\n")
    parts = [] if run.placement == "none" else run.placement.split(" stage")
    worth = sum(WORTH[part.split("=")[1].split("(")[0]] for part in parts)
    luck = random.Random(f"{run.placement} {run.seed} {run.rung}").gauss(0, 1)
    return {"score": luck if run.rung == 0 else worth + 0.1 * luck, "effort": float(len(parts))}
"""


def search(name: str, *, trials: int, stop_after: str = "", **settings: object) -> Snapshot:
    """A study of that name, carried out by one worker; where a line begins with `stop_after`, it is stopped there and resumed."""
    given = {"trials": trials, "sampler": "placement", "confirm_seeds": 0, "rungs": "auto", **settings}
    overrides = {"name": name, **{f"search.{key}": value for key, value in given.items()}}
    opened, stop = create_study(load_recipe("table.toml", overrides=overrides), URL), threading.Event()

    def say(line: str) -> None:
        if stop_after and line.startswith(stop_after):
            stop.set()

    ended = searching.work(opened, searching.Options(say=say, stop=stop, device="cpu", threads=1))
    assert ended == ("stopped" if stop_after else "complete")
    if stop_after:
        again = open_study(name, URL)
        options = searching.Options(say=lambda line: None, stop=threading.Event(), device="cpu", threads=1)
        assert searching.work(again, options) == "complete"
    return snapshot(open_study(name, URL).store)


def came_out(found: Snapshot) -> list[tuple[object, ...]]:
    return [(view.trial, view.placement, view.state, view.values, view.scores) for view in found.candidates]


def without_time(rows: list[tuple[object, ...]]) -> list[tuple[object, ...]]:
    return [(*row[:4], [(p.purpose, p.seed, p.rung, p.metrics) for p in row[4]]) for row in rows]  # type: ignore[attr-defined]


def test_where_the_first_rung_says_nothing_nobody_is_pruned_and_it_is_said(table: Path) -> None:
    (table / "table_evaluator.py").write_text(BLIND)
    found = search("blind", trials=24)  # after 16, luck alone tells them apart in one search of eight
    assert found.counts["scored"] == 24
    (said,) = found.remarks
    assert "so nobody is pruned there while that is so (search.rungs = 'auto')" in said


@pytest.mark.slow
def test_where_it_tells_placements_apart_it_prunes_once_that_is_known(table: Path) -> None:
    found = search("telling", trials=16)
    pruned = [view.trial for view in found.candidates if view.state == "pruned"]
    assert pruned
    assert min(pruned) >= FEWEST - 1
    assert found.remarks == []
    repeats = [row.run for row in open_study("telling", URL).store.queue.rows(purposes=[RUNGS])]
    assert len({run.key for run in repeats}) == len(repeats) == REPEATED
    assert {run.seed for run in repeats} == {SEED}
    briefly = [point for view in found.candidates for point in view.scores if point.purpose == RUNGS]
    assert [point.rung for point in briefly] == [0] * REPEATED


@pytest.mark.slow
@pytest.mark.parametrize("stop_after", ["repeated briefly", "trial 15:"])
def test_stopped_and_resumed_it_is_the_search_that_it_would_have_been(table: Path, stop_after: str) -> None:
    whole, parts = search("whole", trials=18), search("parts", trials=18, stop_after=stop_after)
    assert without_time(came_out(whole)) == without_time(came_out(parts))


@pytest.mark.slow
def test_several_workers_repeat_as_many_and_nothing_twice(table: Path) -> None:
    overrides = {"search.rungs": "auto", "search.trials": 24, "search.confirm_seeds": 0}
    study = na.search("table.toml", workers=3, overrides=overrides, say=lambda line: None)
    assert sum(study.snapshot().counts.values()) == 24
    calls = Counter(line.rsplit("|", 1)[0] for line in Path("calls.txt").read_text().splitlines())
    assert max(calls.values()) == 1
    assert sum(f"|{SEED}|" in call for call in calls) == REPEATED


def test_a_search_that_prunes_nobody_has_no_rungs_to_choose(table: Path) -> None:
    with pytest.raises(RecipeError, match="rungs = 'auto' says where to prune, and pruner = 'none' prunes nobody"):
        load_recipe("table.toml", overrides={"search.rungs": "auto", "search.pruner": "none"})


@pytest.mark.parametrize("ends", ["nothing", "scores"])
def test_a_rung_at_which_all_score_the_same_prunes_nobody(table: Path, ends: str) -> None:
    """As a detector that has found nothing yet: else the networks' cost alone would decide, and one be left to speak of."""
    returned = "0.0" if ends == "nothing" else "0.0 if run.rung == 0 else worth"
    (table / "table_evaluator.py").write_text(BLIND.replace("luck if run.rung == 0 else worth + 0.1 * luck", returned))
    text = (table / "table.toml").read_text().replace('["score", "-effort"]', '["score", "params"]')
    (table / "table.toml").write_text(text)
    found = search(ends, trials=8, rungs="given", pruner="pareto_halving")
    assert [view.state for view in found.candidates] == ["scored"] * 8
    assert [constant.metric for constant in found.constants] == (["score"] if ends == "nothing" else [])
