"""Parts of the check, with a line of JSON for each result:

python -m nas_attn.checkup environment captures --device cuda --results FILE
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import torch

from nas_attn.checkup import CHECKED_PARTS, append_line


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m nas_attn.checkup", description=__doc__)
    parser.add_argument("parts", nargs="+", choices=CHECKED_PARTS)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--results", type=Path, help="file to which the lines are added")
    arguments = parser.parse_args()
    device = torch.device(arguments.device)
    good = True
    for part in arguments.parts:
        for finding in CHECKED_PARTS[part](device):
            good = good and finding.state != "bad"
            print(f"{finding.state:4} {finding.subject}: {finding.said}", flush=True)
            if arguments.results is not None:
                append_line(arguments.results, finding.as_plain())
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main())
