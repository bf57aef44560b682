"""Several workers on one GPU: processes of their own, whose GPU is a stub."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from stubbed_cuda import StubbedCuda

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.run import local
from nas_attn.searching.run.taking_part import Options
from nas_attn.storage import opening

HERE = Path(__file__).resolve().parent
CHANGES = {
    "data.name": "digits-8x8",
    "objectives": ["accuracy", "params"],
    "target.epochs": 1,
    "training.batch_size": 128,
    "training.augment": [],
    "training.execution": "cuda-graph",
    "search.trials": 2,
    "search.confirm_seeds": 0,
}


def test_workers_share_a_gpu_and_record_their_steps(
    tmp_path: Path, stub: StubbedCuda, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    calls.mkdir()
    known = os.environ.get("PYTHONPATH", "")
    paths = [str(HERE / "with_stub"), str(HERE.parent), known]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(filter(None, paths)))
    monkeypatch.setenv("STUBBED_CUDA_CALLS", str(calls))
    recipe = load_recipe("digits", overrides=CHANGES)
    opened = opening.create_study(recipe, f"sqlite:///{tmp_path / 'study.db'}")
    said: list[str] = []
    try:
        ended = local.run_workers(opened, 2, Options(device="auto", say=said.append))
    finally:
        opened.book.close()
        opened.database.close()
    assert ended == "complete", said
    workers = [json.loads(path.read_text()) for path in calls.glob("*.json")]
    trained = [one for one in workers if one.get("replay")]
    assert trained, (workers, said)
    for worker in trained:
        assert worker["failures"] == 0
