"""A Slurm of one node on this machine, from the distribution's packages: to try things out, and for
the tests.

    apt-get install slurmctld slurmd slurm-client munge        # as root
    python runners/slurm/one_node.py start                     # as root
    export SLURM_CONF=…                                        # as it prints
    sbatch --array=0-1 --time=30 runners/slurm/workers.sh STUDY
    python runners/slurm/one_node.py stop

No accounting, no control groups, no preemption but `scontrol requeue`: enough to see that a study's
workers come through.
"""

from __future__ import annotations

import argparse
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo")
PATIENCE_S = 60.0
CONFIGURATION = """\
ClusterName=one
SlurmctldHost={host}
SlurmUser=root
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmdParameters=config_overrides
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
ReturnToService=2
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmdSpoolDir={folder}/spool
StateSaveLocation={folder}/state
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
SlurmctldPort={port}
SlurmdPort={slurmd_port}
SchedulerType=sched/backfill
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
KillWait=60
MinJobAge=300
NodeName={host} CPUs={cpus} State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
"""


def main() -> int:
    """Returns the exit status."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", choices=["start", "stop"])
    parser.add_argument(
        "--folder", type=Path, default=Path("/tmp/nas_attn_slurm"), help="for its files"
    )
    parser.add_argument(
        "--cpus", type=int, default=len(os.sched_getaffinity(0)), help="that it believes to have"
    )
    options = parser.parse_args()
    missing = [name for name in PROGRAMS if shutil.which(name, path=_path()) is None]
    if missing:
        print(
            f"error: {', '.join(missing)} not found: apt-get install slurmctld slurmd slurm-client"
            " munge",
            file=sys.stderr,
        )
        return 1
    if os.getuid():
        print(
            "error: Slurm's daemons start jobs for others and so must be started by root",
            file=sys.stderr,
        )
        return 1
    return start(options.folder, options.cpus) if options.what == "start" else stop(options.folder)


def start(folder: Path, cpus: int) -> int:
    """Starts the daemons, and waits until the node takes jobs."""
    folder.mkdir(parents=True, exist_ok=True)
    for name in ("spool", "state"):
        (folder / name).mkdir(exist_ok=True)
    folder.chmod(0o755)
    key = folder / "munge.key"
    if not key.exists():
        key.touch(mode=0o600)
        key.write_bytes(secrets.token_bytes(128))
    configuration = folder / "slurm.conf"
    host, ports = socket.gethostname(), (_free_port(), _free_port())
    configuration.write_text(
        CONFIGURATION.format(
            host=host, folder=folder, cpus=cpus, port=ports[0], slurmd_port=ports[1]
        )
    )
    munged = ["munged", "--force", f"--key-file={key}", f"--socket={folder}/munge.socket"]
    munged += [
        f"--pid-file={folder}/munged.pid",
        f"--log-file={folder}/munged.log",
        f"--seed-file={folder}/munged.seed",
    ]
    for command in (
        munged,
        ["slurmctld", "-c", "-f", str(configuration)],
        ["slurmd", "-f", str(configuration)],
    ):
        subprocess.run(command, check=True, env=_environment(folder), stdin=subprocess.DEVNULL)
    end = time.monotonic() + PATIENCE_S
    while time.monotonic() < end:
        answer = subprocess.run(
            ["sinfo", "--noheader", "--format", "%T"],
            env=_environment(folder),
            capture_output=True,
            text=True,
            check=False,
        )
        if answer.stdout.split() == ["idle"]:
            print(f"export SLURM_CONF={configuration}")
            return 0
        time.sleep(0.5)
    print(
        f"error: the node does not become idle: {answer.stdout}{answer.stderr}; see {folder}/*.log",
        file=sys.stderr,
    )
    stop(folder)
    return 1


def stop(folder: Path) -> int:
    """Ends the daemons, and the jobs with them."""
    subprocess.run(["scancel", "--user=root"], env=_environment(folder), check=False)
    for name in ("slurmd", "slurmctld", "munged"):
        pid_file = folder / f"{name}.pid"
        if pid_file.exists():
            try:
                os.kill(int(pid_file.read_text()), signal.SIGTERM)
            except (ProcessLookupError, ValueError):
                continue
    return 0


def _environment(folder: Path) -> dict[str, str]:
    return {**os.environ, "PATH": _path(), "SLURM_CONF": str(folder / "slurm.conf")}


def _path() -> str:
    return f"{os.environ.get('PATH', os.defpath)}:/usr/sbin:/sbin"


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    raise SystemExit(main())
