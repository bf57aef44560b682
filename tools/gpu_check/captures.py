"""CUDA graphs: what a failed capture leaves behind, and captures beside a thread that pins memory.

Each case has a process of its own, since a failed capture may spoil the process:

    python -m gpu_check.captures CASE
"""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from functools import partial

import torch
from pydantic import TypeAdapter
from torch import Tensor
from torch.nn.functional import dropout

from gpu_check.findings import Finding, error_line, found_by
from nas_attn.system import cuda_graphs

CAPTURES = "captures"
CAPTURE_TIMEOUT_S = 90.0
PINNED_BYTES = 2**20
WAIT_S = 0.002
DID_NOT_FAIL = "a capture that reads a value did not fail"
# as a line of JSON, from a case's process
ANSWER = TypeAdapter(Finding)


def findings(device: torch.device) -> Iterator[Finding]:
    """All cases, in processes that run side by side."""
    if device.type != "cuda":
        return
    children = {
        name: subprocess.Popen(
            [sys.executable, "-m", "gpu_check.captures", name],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for name in CASES
    }
    for name, child in children.items():
        yield found_by(partial(answer, name, child), CAPTURES, name)


def answer(name: str, child: subprocess.Popen[str]) -> Finding:
    """What a case's process found."""
    try:
        output, _ = child.communicate(timeout=CAPTURE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return Finding(CAPTURES, name, "bad", f"no answer within {CAPTURE_TIMEOUT_S:g} s")
    last_line = (output.strip().splitlines() or ["it printed nothing"])[-1]
    if child.returncode != 0:
        said = f"the process ended with status {child.returncode}: {last_line}"
        return Finding(CAPTURES, name, "bad", said)
    return ANSWER.validate_json(last_line)


def _error_of(work: Callable[[], object]) -> str:
    """Empty if it works."""
    try:
        work()
        return ""
    except Exception as error:
        return error_line(error)


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
    subject = "torch after a failed capture"
    failure = _fail(x)
    if failure is None:
        return Finding(CAPTURES, subject, "bad", DID_NOT_FAIL)
    errors = {
        "dropout": _error_of(lambda: dropout(x, 0.5)),
        "empty_cache": _error_of(torch.cuda.empty_cache),
        "next_capture": _error_of(lambda: _record(lambda: x + 1).replay()),
    }
    broken = ", ".join(name for name, error in errors.items() if error)
    said = "it leaves the process as it was"
    if broken:
        said = f"it breaks {broken} (torch {torch.__version__}); nas_attn puts that right"
    return Finding(
        CAPTURES, subject, "ok", said, _values({"failed": error_line(failure), **errors})
    )


def mended(x: Tensor) -> Finding:
    """The same, with what nas_attn does after it."""
    subject = "nas_attn after a failed capture"
    pool = torch.cuda.graph_pool_handle()
    failure: Exception | None = None
    try:
        with cuda_graphs.capture(torch.cuda.CUDAGraph(), x.device, pool):
            x.sum().item()
    except Exception as error:
        failure = error
    if failure is None:
        return Finding(CAPTURES, subject, "bad", DID_NOT_FAIL)
    mend = partial(
        cuda_graphs.mend, x.device, pool, failure, way_out="see docs/develop/gpu-check.md"
    )
    errors = {
        "mend": _error_of(mend),
        "dropout": _error_of(lambda: dropout(x, 0.5)),
        "empty_cache": _error_of(torch.cuda.empty_cache),
        "next_capture": _error_of(lambda: _record(lambda: dropout(x, 0.5)).replay()),
    }
    values = _values({"failed": error_line(failure), **errors})
    for name, broken in errors.items():
        if broken:
            return Finding(CAPTURES, subject, "bad", f"{name} fails: {broken}", values)
    said = "the process goes on, and records again"
    return Finding(CAPTURES, subject, "ok", said, values)


def _values(errors: Mapping[str, str]) -> dict[str, str]:
    """The errors of operations, with `ok` for those that work."""
    return {operation: error or "ok" for operation, error in errors.items()}


def waits_noticed(x: Tensor) -> Finding:
    """Work that waits is noticed before it is captured."""
    with cuda_graphs.waits() as noted:
        x.sum().item()
    with cuda_graphs.waits() as silent:
        x.add(1)
    values = {"item": noted, "add": silent}
    if noted and not silent:
        return Finding(CAPTURES, "work that waits", "ok", "noticed before a capture", values)
    said = "torch does not tell what waits for the GPU"
    return Finding(CAPTURES, "work that waits", "bad", said, values)


def beside_pinning(x: Tensor, mode: str) -> Finding:
    """A capture while another thread pins memory, as those that read images do."""
    stop = threading.Event()
    pinning_errors: list[str] = []

    def pin() -> None:
        # Sizes that are not in the cache of pinned memory yet
        for size in itertools.count(PINNED_BYTES, PINNED_BYTES):
            error = _error_of(torch.empty(size, dtype=torch.uint8).pin_memory)
            if error:
                pinning_errors.append(error)
            if stop.is_set() or pinning_errors:
                return

    def work() -> None:
        for _ in range(50):
            time.sleep(WAIT_S)
            x.add(1)

    thread = threading.Thread(target=pin)
    thread.start()
    time.sleep(10 * WAIT_S)
    capture_error = _error_of(lambda: _record(work, mode))
    stop.set()
    thread.join()
    pinning_error = pinning_errors[0] if pinning_errors else ""
    subject = f"beside pinning, mode {mode}"
    values = _values({"capture": capture_error, "other_thread": pinning_error})
    error = capture_error or pinning_error
    if not error:
        return Finding(CAPTURES, subject, "ok", "works", values)
    if mode == cuda_graphs.CAPTURE_MODE:
        return Finding(CAPTURES, subject, "bad", error, values)
    said = "fails, as expected; nas_attn does not use this mode"
    return Finding(CAPTURES, subject, "ok", said, values)


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


def main() -> None:
    """Answers with one line of JSON, and status 0."""
    name = sys.argv[1]
    found = found_by(lambda: case(name), CAPTURES, name)
    print(ANSWER.dump_json(found).decode(), flush=True)
    # A spoilt process may crash when torch ends, after its answer.
    os._exit(0)


if __name__ == "__main__":
    main()
