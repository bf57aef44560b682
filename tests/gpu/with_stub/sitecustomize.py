"""Gives a process that a test starts a stub of a GPU, and writes down what is done with it: on its
`PYTHONPATH`, with `$STUBBED_CUDA_CALLS`, a folder.
"""

from __future__ import annotations

import json
import os
import threading
import time
from pathlib import Path

from stubbed_cuda import StubbedCuda, installed


def report(cuda: StubbedCuda, path: Path) -> None:
    """Writes the calls so far, again and again: workers end without Python's farewell."""
    while True:
        calls = {**cuda.calls, "failures": len(cuda.failures)}
        scratch = path.with_suffix(".new")
        scratch.write_text(json.dumps(calls))
        scratch.replace(path)
        time.sleep(0.05)


KEPT = installed()
CUDA = KEPT.__enter__()
PATH = Path(os.environ["STUBBED_CUDA_CALLS"]) / f"{os.getpid()}.json"
threading.Thread(target=report, args=(CUDA, PATH), daemon=True).start()
