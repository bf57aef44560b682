"""CUDA graphs: what a failed capture leaves behind, and captures beside a thread that pins memory.

Each case has a process of its own, since a failed capture may spoil the process:

    python -m nas_attn.checkup.captures CASE
"""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial

import torch
from torch import Tensor
from torch.nn.functional import dropout

from nas_attn import cuda_graphs
from nas_attn.checkup.findings import Finding, found_by, sentence_of

CAPTURES = "captures"
CAPTURE_TIMEOUT_S = 90.0
PINNED_BYTES = 2**20
WAIT_S = 0.002


def findings(device: torch.device) -> Iterator[Finding]:
    """All cases, in processes that run side by side."""
    if device.type != "cuda":
        return
    children = {
        name: subprocess.Popen(
            [sys.executable, "-m", "nas_attn.checkup.captures", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in CASES
    }
    for name, child in children.items():
        yield found_by(partial(_answer, name, child), CAPTURES, name)


def _answer(name: str, child: subprocess.Popen[str]) -> Finding:
    """What a case's process printed last."""
    try:
        output, _ = child.communicate(timeout=CAPTURE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return Finding(CAPTURES, name, "bad", f"no answer within {CAPTURE_TIMEOUT_S:g} s")
    last = (output.strip().splitlines() or ["it printed nothing"])[-1]
    if not last.startswith("{"):
        result = f"the process ended with status {child.returncode}: {last}"
        return Finding(CAPTURES, name, "bad", result)
    return Finding(**json.loads(last))


def _try(work: Callable[[], object]) -> str:
    """`ok`, or the error's sentence."""
    try:
        work()
        return "ok"
    except Exception as error:
        return sentence_of(error)


def _record(work: Callable[[], object], mode: str = "global") -> torch.cuda.CUDAGraph:
    """Captured by torch alone, without what nas_attn adds."""
    graph = torch.cuda.CUDAGraph()
    # A capture that fails leaves its own stream the current one.
    here = torch.cuda.stream(torch.cuda.current_stream())
    with here, torch.cuda.graph(graph, capture_error_mode=mode):
        work()
    return graph


def _fail(x: Tensor) -> Exception | None:
    """A capture that must fail, since it reads a value."""
    try:
        _record(lambda: x.sum().item())
    except Exception as error:
        torch.cuda.synchronize()
        return error
    return None


def torch_alone(x: Tensor) -> Finding:
    """What this torch leaves after a failed capture; torch before 2.12: a spoilt process."""
    name = "torch after a failed capture"
    error = _fail(x)
    if error is None:
        return Finding(CAPTURES, name, "bad", "a capture that reads a value did not fail")
    values = {
        "failed": sentence_of(error),
        "dropout": _try(lambda: dropout(x, 0.5)),
        "empty_cache": _try(torch.cuda.empty_cache),
        "next_capture": _try(lambda: _record(lambda: x + 1).replay()),
    }
    broken = [key for key in ("dropout", "empty_cache", "next_capture") if values[key] != "ok"]
    if not broken:
        return Finding(CAPTURES, name, "ok", "it leaves the process as it was", values)
    result = f"it breaks {', '.join(broken)} (torch {torch.__version__}); nas_attn puts that right"
    return Finding(CAPTURES, name, "ok", result, values)


def mended(x: Tensor) -> Finding:
    """The same, with what nas_attn does after it."""
    name = "nas_attn after a failed capture"
    pool = torch.cuda.graph_pool_handle()
    error: Exception | None = None
    try:
        with cuda_graphs.capture(torch.cuda.CUDAGraph(), x.device, pool):
            x.sum().item()
    except Exception as raised:
        error = raised
    if error is None:
        return Finding(CAPTURES, name, "bad", "a capture that reads a value did not fail")
    values = {
        "failed": sentence_of(error),
        "mend": _try(lambda: cuda_graphs.mend(x.device, pool, error, way_out="see docs/gpu.md")),
        "dropout": _try(lambda: dropout(x, 0.5)),
        "empty_cache": _try(torch.cuda.empty_cache),
        "next_capture": _try(lambda: _record(lambda: dropout(x, 0.5)).replay()),
    }
    broken = [key for key in values if key != "failed" and values[key] != "ok"]
    if broken:
        result = f"{broken[0]} fails: {values[broken[0]]}"
        return Finding(CAPTURES, name, "bad", result, values)
    return Finding(CAPTURES, name, "ok", "the process goes on, and records again", values)


def waits_noticed(x: Tensor) -> Finding:
    """Work that waits is noticed before it is captured."""
    name = "work that waits"
    with cuda_graphs.waits() as noted:
        x.sum().item()
    with cuda_graphs.waits() as silent:
        x.add(1)
    values = {"item": noted, "add": silent}
    if not noted or silent:
        return Finding(CAPTURES, name, "bad", "torch does not tell what waits for the GPU", values)
    return Finding(CAPTURES, name, "ok", "noticed before a capture", values)


def beside_pinning(x: Tensor, mode: str) -> Finding:
    """A capture while another thread pins memory, as those that read images do."""
    name = f"beside pinning, mode {mode}"
    stop = threading.Event()
    errors: list[str] = []

    def pin() -> None:
        # Sizes that are not in the cache of pinned memory yet
        for size in itertools.count(PINNED_BYTES, PINNED_BYTES):
            error = _try(torch.empty(size, dtype=torch.uint8).pin_memory)
            if error != "ok":
                errors.append(error)
            if stop.is_set() or errors:
                return

    def work() -> None:
        for _ in range(50):
            time.sleep(WAIT_S)
            x.add(1)

    thread = threading.Thread(target=pin)
    thread.start()
    time.sleep(10 * WAIT_S)
    captured = _try(lambda: _record(work, mode))
    stop.set()
    thread.join()
    values = {"capture": captured, "other_thread": errors[0] if errors else "ok"}
    broken = [value for value in values.values() if value != "ok"]
    if not broken:
        return Finding(CAPTURES, name, "ok", "works", values)
    if mode == cuda_graphs.CAPTURE_MODE:
        return Finding(CAPTURES, name, "bad", broken[0], values)
    result = "fails, as expected; nas_attn does not use this mode"
    return Finding(CAPTURES, name, "ok", result, values)


CASES: dict[str, Callable[[Tensor], Finding]] = {
    "torch": torch_alone,
    "mended": mended,
    "waits": waits_noticed,
    "pinning": lambda x: beside_pinning(x, cuda_graphs.CAPTURE_MODE),
    "pinning-global": lambda x: beside_pinning(x, "global"),
}


def case(name: str) -> Finding:
    """One case, in this process."""
    x = torch.ones(1000, device="cuda")
    # Libraries start, and the generator is set up.
    dropout(x, 0.5)
    torch.cuda.synchronize()
    return CASES[name](x)


if __name__ == "__main__":
    found = found_by(lambda: case(sys.argv[1]), CAPTURES, sys.argv[1])
    print(json.dumps(asdict(found)), flush=True)
