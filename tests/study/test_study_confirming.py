"""What runs again after a search, on real SQLite files, with an evaluator that looks its answers up."""

import threading
from collections import Counter
from pathlib import Path

from nas_attn.recipe_reading import load_recipe
from nas_attn.study import searching
from nas_attn.study.confirming import FURTHER, TOGETHER
from nas_attn.study.opening import OpenStudy, create_study

URL = "sqlite:///nas_attn.db"


def study(trials: int = 60, **search: object) -> OpenStudy:
    """The usual recipe, with other settings of `[search]`."""
    given = {"trials": trials, "sampler": "placement", "confirm_seeds": 0, **search}
    return create_study(load_recipe("table.toml", overrides={f"search.{k}": v for k, v in given.items()}), URL)


def work(opened: OpenStudy, lines: list[str]) -> str:
    return searching.work(opened, searching.Options(say=lines.append, stop=threading.Event(), device="cpu", threads=1))


def test_repeats_go_to_those_whose_place_on_the_front_is_uncertain(table: Path) -> None:
    opened = study(16, confirm_seeds=1, confirm_share=1.0)
    assert work(opened, []) == "complete"
    rows = opened.store.queue.rows(purposes=FURTHER)
    repeats = Counter(row.run.round for row in rows if row.run.purpose == "repeat")
    assert repeats
    assert max(repeats.values()) <= TOGETHER
    assert len(rows) <= 16


def test_no_share_no_repeats(table: Path) -> None:
    opened = study(6, confirm_seeds=1, confirm_share=0.0)
    work(opened, [])
    assert {row.run.purpose for row in opened.store.queue.rows(purposes=FURTHER)} == {"confirm", "duel"}
