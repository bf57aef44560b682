"""Workers on engines and on shared GPUs: launched, seen and stopped by the same words."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from stubbed_cuda import StubbedCuda

from nas_attn.answer.workers import LaunchState
from nas_attn.errors import StudyError
from nas_attn.recipe.reading import load_recipe
from nas_attn.searching.prepare import beginning
from nas_attn.searching.run import launching, overview
from nas_attn.searching.worker import devices, mps
from nas_attn.storage import opening
from nas_attn.system.memory import Share

PROGRAM = [sys.executable, "-m", "nas_attn.cli.main"]


def types(*arguments: str, status: int = 0, **variables: str) -> str:
    """A command of `nas-attn`; what it says."""
    done = subprocess.run(
        [*PROGRAM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **variables},
    )
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


def until(condition: Callable[[], Any], what: str, seconds: float = 2000.0) -> Any:
    end = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < end, what
        time.sleep(0.2)
    return found


def unless(error: type[Exception], ask: Callable[[], Any]) -> Any:
    """The answer; None where it is this error."""
    try:
        return ask()
    except error:
        return None


@pytest.fixture
def begun() -> Iterator[Callable[[str, int], opening.OpenStudy]]:
    """Begins a study, whose connections are closed afterwards."""
    opened: list[opening.OpenStudy] = []

    def begin(url: str, trials: int) -> opening.OpenStudy:
        changes = {
            "search.trials": trials,
            "name": f"table{trials}",
        }  # the server is other tests', too
        opened.append(beginning.begin(load_recipe("table.toml", overrides=changes), url))
        return opened[-1]

    yield begin
    for study in opened:
        study.book.close()
        study.database.close()


def is_whole(opened: opening.OpenStudy, trials: int) -> bool:
    """Whether all candidates are told, each once."""
    rows = opened.store.candidates()
    told = sum(trial.state.is_finished() for trial in opened.book.all())
    return len({str(row.placement) for row in rows}) == len(rows) == told == trials


def test_engines_that_cannot_be_had_are_one_sentence(
    table: Path, begun: Callable[[str, int], opening.OpenStudy]
) -> None:
    opened = begun("sqlite:///nas_attn.db", 4)
    with pytest.raises(StudyError, match="SQLite"):
        launching.launch(opened, "slurm", launching.Request(2))
    with pytest.raises(StudyError, match="--set are only for Slurm"):
        launching.launch(opened, "local", launching.Request(2, more={"partition": "gpu"}))


@pytest.mark.parametrize(
    ("answer", "state"),
    [
        (
            "echo 'slurm_load_jobs error: Unable to contact slurm controller' >&2; exit 1",
            LaunchState({"launched": 2}, silent="squeue"),
        ),
        ("echo 'slurm_load_jobs error: Invalid job id specified' >&2; exit 1", None),
        ("echo RUNNING; echo PENDING; echo PENDING", LaunchState({"pending": 2, "running": 1})),
    ],
    ids=["away", "ended", "there"],
)
def test_what_squeue_cannot_say_is_not_taken_for_no_jobs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, state: LaunchState | None
) -> None:
    program = tmp_path / "squeue"
    program.write_text(f"#!/bin/sh\n{answer}\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    assert (
        launching.Slurm().state(launching.Launched("slurm", ("7_0", "7_1"), "here", 0.0)) == state
    )


def test_sbatch_gets_options_without_a_value_and_its_own_reason_is_shown(
    table: Path, begun: Callable[[str, int], opening.OpenStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    program = table / "sbatch"
    refusal = (
        'case "$*" in *=nowhere*) echo "sbatch: error: invalid partition specified: nowhere" >&2;'
        " exit 1;; esac"
    )
    program.write_text(f'#!/bin/sh\n{refusal}\necho "$@" > asked; cat > script; echo "7;other"\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{table}:/usr/bin:/bin")
    opened = begun("sqlite:///nas_attn.db", 4)
    jobs = launching.Slurm().launch(
        opened, launching.Request(2, more={"exclusive": "", "time": "5"}), table / "logs"
    )
    assert jobs == ["7_0", "7_1"]
    asked = (table / "asked").read_text().split()
    assert {"--exclusive", "--time=5", "--array=0-1"} <= set(asked)
    assert "sqlite:" not in " ".join(asked) + (table / "script").read_text()
    with pytest.raises(StudyError, match="invalid partition specified: nowhere"):
        launching.Slurm().launch(
            opened, launching.Request(2, more={"partition": "nowhere"}), table / "logs"
        )


@pytest.mark.slow
def test_workers_in_the_background_are_seen_and_stopped(
    table: Path, begun: Callable[[str, int], opening.OpenStudy], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TABLE_SECONDS", "0.5")
    monkeypatch.setenv("PYTHONPATH", f"{table}:{os.environ.get('PYTHONPATH', '')}")
    opened = begun("sqlite:///nas_attn.db", 14)
    said = types("launch", "table14", "--workers", "2", "--device", "cpu")
    assert "launched 2 workers on local" in said
    assert "nas-attn stop table14" in said
    until(lambda: len(overview.overview(opened).workers) == 2, "two workers")
    assert overview.overview(opened).launched == ("local: 2 running",)
    until(lambda: (table / "calls.txt").exists(), "a first evaluation")
    said = types("stop", "table14")
    assert "told 2 workers to stop" in said
    assert "have ended" in said
    assert json.loads(types("status", "table14", "--json"))["workers"] == []
    logs = "".join(path.read_text() for path in (opened.folder / "launched").iterdir())
    assert (
        logs.count("stopping, as requested by nas-attn stop") == logs.count("done (stopped)") == 2
    ), logs
    monkeypatch.setenv("TABLE_SECONDS", "0")
    types("launch", "table14", "--workers", "1", "--device", "cpu")
    until(
        lambda: overview.overview(opened).progress.finished == 14, "later workers work to the end"
    )
    until(lambda: not overview.overview(opened).workers, "and leave")


@pytest.mark.extras("ray")
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # of Ray
def test_a_ray_clusters_workers_come_back_when_their_node_dies(
    table: Path,
    begun: Callable[[str, int], opening.OpenStudy],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from ray._private import services
    from ray.cluster_utils import Cluster

    whole = services.get_node

    def found(*given: Any, **named: Any) -> Any:
        """A busy machine's node may need more than the half minute that Ray gives it."""
        return until(lambda: unless(RuntimeError, lambda: whole(*given, **named)), "a node")

    monkeypatch.setattr(services, "get_node", found)
    monkeypatch.setenv("PYTHONPATH", f"{table}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("TABLE_SECONDS", "0.7")
    monkeypatch.setenv("NAS_ATTN_STORAGE", postgres_url)
    monkeypatch.setenv("RAY_worker_niceness", "0")  # on a busy machine they would never come to run
    opened = begun(postgres_url, 10)
    cluster = Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    try:
        nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
        cluster.wait_for_nodes()
        said = types(
            "launch",
            "table10",
            "--on",
            "ray",
            "--workers",
            "3",
            "--device",
            "cpu",
            RAY_ADDRESS=cluster.address,
        )
        assert "launched 3 workers on ray" in said
        until(lambda: len(opened.store.workers.rows()) == 3, "three workers")
        cluster.remove_node(nodes[0], allow_graceful=False)
        cluster.add_node(num_cpus=1)
        until(lambda: is_whole(opened, 10), "the study to end")
    finally:
        cluster.shutdown()


@pytest.mark.slow
def test_a_slurm_clusters_jobs_go_on_after_they_were_queued_again(
    table: Path,
    begun: Callable[[str, int], opening.OpenStudy],
    postgres_url: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if (
        shutil.which("sinfo") is None
        or subprocess.run(["sinfo"], capture_output=True, check=False).returncode
    ):
        pytest.skip("no Slurm answers here; runners/slurm/one_node.py starts one")
    monkeypatch.setenv("PYTHONPATH", f"{table}:{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.setenv("TABLE_SECONDS", "1")
    monkeypatch.setenv("NAS_ATTN_STORAGE", postgres_url)
    opened = begun(postgres_url, 8)
    said = types(
        "launch",
        "table8",
        "--on",
        "slurm",
        "--workers",
        "2",
        "--device",
        "cpu",
        "--minutes",
        "30",
        "--json",
    )
    jobs = json.loads(said)["jobs"]
    until(lambda: len(opened.store.workers.rows()) == 2, "two workers")
    subprocess.run(["scontrol", "requeue", jobs[0]], check=True)
    logs = opened.folder / "launched"
    until(
        lambda: any("SIGTERM" in path.read_text() for path in logs.glob("*.log")),
        "the worker to hear of it",
    )
    until(lambda: is_whole(opened, 8), "the study to end", 2400)
    until(lambda: not overview.overview(opened).launched, "the jobs to leave the queue", 2400)
    assert {path.suffix for path in logs.iterdir()} == {".log"}
    calls = [line.rsplit("|", 1)[0] for line in (table / "calls.txt").read_text().splitlines()]
    assert len(calls) - len(set(calls)) <= 1, "what was under way is evaluated again, no more"


TWO = ["cuda:0", "cuda:0"]
CONTROL = """#!/bin/sh
echo "$CUDA_VISIBLE_DEVICES" > "$MPS_TEST_LOG.visible"
if [ "$1" = -d ]; then echo "start $CUDA_MPS_PIPE_DIRECTORY" >> "$MPS_TEST_LOG"; else cat >> "$MPS_TEST_LOG"; fi
exit ${MPS_TEST_STATUS:-0}
"""


@pytest.fixture
def control(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A command in the place of NVIDIA's, which writes down what it is told."""
    command, written = tmp_path / "nvidia-cuda-mps-control", tmp_path / "log"
    command.write_text(CONTROL)
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    monkeypatch.setenv("MPS_TEST_LOG", str(written))
    monkeypatch.delenv("CUDA_MPS_PIPE_DIRECTORY", raising=False)
    return written


def test_gpus_are_taken_in_turn(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    chosen = devices.devices_of("auto", 5)
    assert chosen == ["cuda:0", "cuda:1", "cuda:0", "cuda:1", "cuda:0"]
    assert devices.shares_of(chosen) == [
        Share(5, 3),
        Share(5, 2),
        Share(5, 3),
        Share(5, 2),
        Share(5, 3),
    ]
    assert devices.devices_of("cuda:1", 2) == ["cuda:1", "cuda:1"]
    assert devices.devices_of("cpu", 2) == ["cpu", "cpu"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 0)
    assert devices.devices_of("auto", 2) == ["auto", "auto"]


@pytest.mark.parametrize(
    ("gpus", "memory", "cores", "macs", "device", "workers"),
    [
        (1, 80, 16, 2e8, "auto", 4),
        (1, 80, 16, 3e8, "auto", 1),
        (2, 80, 4, 1, "auto", 4),
        (2, 80, 16, 1, "cuda:1", 4),
        (1, 16, 16, 1, "auto", 2),
        (1, 6, 1, 1, "cuda", 1),
        (1, 80, 16, 1, "cpu", 4),
        (0, 80, 3, 1, "auto", 3),
    ],
)
def test_by_default_workers_with_a_small_network_share_a_gpu(
    gpus: int,
    memory: int,
    cores: int,
    macs: float,
    device: str,
    workers: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    properties = SimpleNamespace(total_memory=memory * 2**30)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: properties)
    monkeypatch.setattr(devices, "cores", lambda: cores)
    plan = SimpleNamespace(resolved=lambda placement: None, cost=lambda network: {"macs": macs})
    training = SimpleNamespace(evaluator=None)
    monkeypatch.setattr(devices, "study_plan", lambda store: plan)
    opened: Any = SimpleNamespace(store=None, recipe=SimpleNamespace(training=training))
    assert devices.usual_workers(opened, device) == workers


def test_a_users_evaluator_has_its_gpu_alone(
    table: Path, begun: Callable[[str, int], opening.OpenStudy], stub: StubbedCuda
) -> None:
    assert devices.usual_workers(begun("sqlite:///nas_attn.db", 4), "auto") == 1


def test_a_server_runs_while_workers_share_a_gpu(control: Path) -> None:
    with mps.mps(TWO, pytest.fail, probe=["true"]) as environment:
        folder = environment["CUDA_MPS_PIPE_DIRECTORY"]
        assert control.read_text() == f"start {folder}\n"
        assert Path(folder).is_dir()
    assert control.read_text() == f"start {folder}\nquit\n"
    assert not Path(folder).exists()


@pytest.mark.parametrize(
    ("status", "probe"), [("1", "true"), ("0", "false")], ids=["does not start", "serves no GPU"]
)
def test_a_server_that_does_not_work_is_ended_and_the_workers_go_without(
    control: Path, status: str, probe: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MPS_TEST_STATUS", status)
    said: list[str] = []
    with mps.mps(TWO, said.append, probe=[probe]) as environment:
        assert environment == {}
    assert said == [
        "NVIDIA's MPS is installed but does not work here: the workers on one GPU take turns"
    ]
    assert control.read_text().endswith("quit\n")


@pytest.mark.parametrize(
    "devices", [["cuda:0", "cuda:1"], ["cpu", "cpu"], ["auto", "auto"], [], TWO]
)
def test_no_server_where_no_gpu_is_shared_or_the_user_has_one(
    control: Path, devices: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    if devices == TWO:
        monkeypatch.setenv("CUDA_MPS_PIPE_DIRECTORY", "/somewhere")
    with mps.mps(devices, pytest.fail, probe=["true"]) as environment:
        assert environment == {}
    assert not control.exists()


@pytest.mark.parametrize(
    ("given", "to_clients"),
    [("3", "0"), ("2,0", "0,1"), ("GPU-8932f937,GPU-2b1c", "GPU-8932f937,GPU-2b1c"), (None, "")],
)
def test_clients_number_the_gpus_as_the_server_does(
    control: Path, given: str | None, to_clients: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server with GPU 3 alone calls it 0; a client that asks for 3 finds none."""
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if given is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", given)
    probe = ["sh", "-c", f'test "$CUDA_VISIBLE_DEVICES" = "{to_clients}"']
    with mps.mps(TWO, pytest.fail, probe=probe) as environment:
        workers = {**os.environ, **environment}
        assert workers.get("CUDA_VISIBLE_DEVICES", "") == to_clients
    seen_by_server = control.with_name(f"{control.name}.visible").read_text().strip()
    assert seen_by_server == (given or "")


@pytest.mark.gpu
def test_a_worker_keeps_to_its_share_of_the_memory() -> None:
    device = torch.device("cuda:0")
    total = torch.cuda.get_device_properties(device).total_memory
    with devices.on_device(device, Share(8, 8)), pytest.raises(torch.OutOfMemoryError):
        torch.empty(total // 4, dtype=torch.uint8, device=device)
    torch.cuda.set_per_process_memory_fraction(1.0)
