"""Parts of the check, with a line of JSON for each result:

PYTHONPATH=.:tools python -m gpu_check environment captures --device cuda --results FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from benchmarks.rows import append_row
from gpu_check import captures, casts, environment, modules, sessions, training

PARTS = {
    "environment": [environment.findings],
    "captures": [captures.findings],
    "modules": [modules.findings],
    "epochs": [training.epochs],
    "profiles": [casts.findings, training.profiles],
    "latency": [sessions.findings],
}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m gpu_check", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--results", type=Path, help="file to which the lines are added")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    good = True
    looks = [look for part in arguments.parts for look in PARTS[part]]
    for look in looks:
        for finding in look(device):
            good = good and finding.state != "bad"
            print(finding.line, flush=True)
            if arguments.results is not None:
                append_row(arguments.results, finding.as_row())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
