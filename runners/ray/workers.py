"""Workers of a study as tasks of a Ray cluster, which runs them again if their node dies.

    export NAS_ATTN_STORAGE=postgresql+psycopg://USER:PASSWORD@HOST/DATABASE
    python runners/ray/workers.py STUDY --workers 16 --gpus 0.25

Call it in the folder that the study began in, on a machine of the cluster; it ends with the study.
`nas-attn stop STUDY` ends the workers.
"""

from __future__ import annotations

import argparse
import os
import subprocess
from pathlib import Path

import ray


@ray.remote(max_retries=-1)
def work(study: str, folder: str, environment: dict[str, str]) -> int:
    """Runs a worker; returns its exit status."""
    done = subprocess.run(
        ["nas-attn", "worker", study], cwd=folder, env={**os.environ, **environment}, check=False
    )
    return done.returncode


def main() -> int:
    """Returns the exit status: that of the worker that fared worst."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("study")
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--gpus", type=float, default=0.0, help="per worker; also fractions")
    parser.add_argument("--cpus", type=int, default=1, help="per worker")
    options = parser.parse_args()
    ray.init(address=os.environ.get("RAY_ADDRESS", "auto"))
    environment = {
        "NAS_ATTN_STORAGE": os.environ["NAS_ATTN_STORAGE"],
        "OMP_NUM_THREADS": str(options.cpus),
    }
    task = work.options(num_cpus=options.cpus, num_gpus=options.gpus)
    tasks = [
        task.remote(options.study, str(Path.cwd()), environment) for _ in range(options.workers)
    ]
    return max(ray.get(tasks))


if __name__ == "__main__":
    raise SystemExit(main())
