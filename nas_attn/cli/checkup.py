"""Parts of the check, with a line of JSON for each result:

python -m nas_attn.cli.checkup environment captures --device cuda --results FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from nas_attn.checkup import append_line
from nas_attn.checkup.parts import CHECKED_PARTS
from nas_attn.words.checkup import finding_json, finding_line

# A program of its own, and no command of nas-attn: tools/gpu_check.sh runs it.


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nas_attn.cli.checkup", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=CHECKED_PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--results", type=Path, help="file to which the lines are added")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    good = True
    for part in arguments.parts:
        for finding in CHECKED_PARTS[part](device):
            good = good and finding.state != "bad"
            print(finding_line(finding), flush=True)
            if arguments.results is not None:
                append_line(arguments.results, finding_json(finding))
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
