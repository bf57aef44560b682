"""What a user submits to Slurm and to Ray."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from clone import ROOT

from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.storage.opening import OpenStudy

SLURM = ROOT / "runners" / "slurm" / "workers.sh"
RAY = ROOT / "runners" / "ray" / "workers.py"
WORKER = """#!/bin/sh
trap 'echo checkpoint >> said; exit 0' USR2
echo "$@" > said
while :; do sleep 0.1; done
"""


def program(path: Path, text: str) -> None:
    path.write_text(text)
    path.chmod(0o755)


def until(condition: Callable[[], Any], what: str, seconds: float = 2000.0) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.2)


@pytest.mark.skipif(sys.platform == "win32", reason="Slurm's script is one of a Unix shell")
def test_before_its_time_limit_a_job_saves_and_is_queued_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    program(tmp_path / "nas-attn", WORKER)
    program(tmp_path / "scontrol", '#!/bin/sh\necho "$@" >> said\n')
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "7")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "1")
    job = subprocess.Popen(["sh", str(SLURM), "STUDY"], cwd=tmp_path)
    said = tmp_path / "said"
    until(said.exists, "the worker", 60)
    job.send_signal(signal.SIGUSR2)
    assert job.wait(timeout=30) == 0
    assert said.read_text().splitlines() == ["worker STUDY", "checkpoint", "requeue 7_1"]


@pytest.mark.skipif(sys.platform == "win32", reason="Slurm's script is one of a Unix shell")
def test_a_job_ends_as_its_worker_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path / "nas-attn", "#!/bin/sh\nexit 3\n")
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    assert subprocess.run(["sh", str(SLURM), "STUDY"], check=False).returncode == 3


def begun(url: str, trials: int, monkeypatch: pytest.MonkeyPatch, folder: Path) -> OpenStudy:
    """A study of a server, whose workers find the command, the evaluator and the database."""
    monkeypatch.setenv("PYTHONPATH", f"{folder}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    monkeypatch.setenv("TABLE_SECONDS", "0.7")
    monkeypatch.setenv("NAS_ATTN_STORAGE", url)
    changes = {"search.trials": trials, "name": f"table{trials}"}
    return beginning.begin(load_recipe("table.toml", overrides=changes), url)


def is_whole(opened: OpenStudy, trials: int) -> bool:
    """Whether all candidates are told, each once."""
    rows = opened.store.candidates()
    told = sum(trial.state.is_finished() for trial in opened.book.all())
    return len({str(row.placement) for row in rows}) == len(rows) == told == trials


@pytest.mark.slow
def test_a_slurm_clusters_jobs_go_on_after_they_were_queued_again(
    table: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if (
        shutil.which("sinfo") is None
        or subprocess.run(["sinfo"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no Slurm answers here; runners/slurm/one_node.py starts one")
    opened = begun(postgres_url, 8, monkeypatch, table)
    options = ["--parsable", "--array=0-1", "--time=30"]
    submitted = subprocess.run(
        ["sbatch", *options, str(SLURM), "table8"], check=True, capture_output=True, text=True
    )
    array = submitted.stdout.strip().partition(";")[0]
    until(lambda: len(opened.store.workers.rows()) == 2, "two workers")
    subprocess.run(["scontrol", "requeue", f"{array}_0"], check=True)
    until(lambda: is_whole(opened, 8), "the study to end", 2400)
    calls = [line.rsplit("|", 1)[0] for line in (table / "calls.txt").read_text().splitlines()]
    assert len(calls) - len(set(calls)) <= 1, "what was under way is evaluated again, no more"


@pytest.mark.extras("ray")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray
def test_a_ray_clusters_workers_come_back_when_their_node_dies(
    table: Path, postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_worker_niceness", "0")  # on a busy machine they would never come to run
    opened = begun(postgres_url, 10, monkeypatch, table)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        monkeypatch.setenv("RAY_ADDRESS", cluster.address)
        submitted = subprocess.Popen([sys.executable, str(RAY), "table10", "--workers", "3"])
        until(lambda: len(opened.store.workers.rows()) == 3, "three workers")
        cluster.remove_node(nodes[0], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        until(lambda: is_whole(opened, 10), "the study to end")
        assert submitted.wait(timeout=300) == 0
    finally:
        cluster.shutdown()
