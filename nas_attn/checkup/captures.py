"""CUDA graphs: what a failed capture leaves behind, and captures beside a thread that pins memory.

Each case has a process of its own, since a failed capture may spoil the process:

    python -m nas_attn.checkup.captures CASE
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

from nas_attn.checkup.findings import (
    BesidePinning,
    FailedCapture,
    FailingCase,
    Finding,
    NoAnswer,
    ProcessEnded,
    State,
    WaitNoticed,
    error_line,
    found_by,
)
from nas_attn.system import cuda_graphs

CAPTURES = "captures"
CAPTURE_TIMEOUT_S = 90.0
PINNED_BYTES = 2**20
WAIT_S = 0.002
# as a line of JSON, from a case's process
ANSWER = TypeAdapter(Finding)


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
        yield found_by(partial(answer, name, child), CAPTURES, name)


def answer(name: str, child: subprocess.Popen[str]) -> Finding:
    """What a case's process found."""
    try:
        output, _ = child.communicate(timeout=CAPTURE_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        child.kill()
        return Finding(CAPTURES, name, "bad", NoAnswer(CAPTURE_TIMEOUT_S))
    last_line = (output.strip().splitlines() or [""])[-1]
    if child.returncode != 0:
        return Finding(CAPTURES, name, "bad", ProcessEnded(child.returncode, last_line))
    return ANSWER.validate_json(last_line)


def _error_of(work: Callable[[], object]) -> str:
    """Empty if it works."""
    try:
        work()
        return ""
    except Exception as error:
        return error_line(error)


def _plain(errors: Mapping[str, str]) -> dict[str, str]:
    """Values of a finding: `ok` for what works."""
    return {operation: error or "ok" for operation, error in errors.items()}


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
    failure = _fail(x)
    if failure is None:
        return _without_failure("torch")
    errors = {
        "dropout": _error_of(lambda: dropout(x, 0.5)),
        "empty_cache": _error_of(torch.cuda.empty_cache),
        "next_capture": _error_of(lambda: _record(lambda: x + 1).replay()),
    }
    return _after_failure("torch", failure, errors)


def mended(x: Tensor) -> Finding:
    """The same, with what nas_attn does after it."""
    pool = torch.cuda.graph_pool_handle()
    failure: Exception | None = None
    try:
        with cuda_graphs.capture(torch.cuda.CUDAGraph(), x.device, pool):
            x.sum().item()
    except Exception as error:
        failure = error
    if failure is None:
        return _without_failure("mended")
    mend = partial(cuda_graphs.mend, x.device, pool, failure, way_out="see docs/gpu.md")
    errors = {
        "mend": _error_of(mend),
        "dropout": _error_of(lambda: dropout(x, 0.5)),
        "empty_cache": _error_of(torch.cuda.empty_cache),
        "next_capture": _error_of(lambda: _record(lambda: dropout(x, 0.5)).replay()),
    }
    return _after_failure("mended", failure, errors)


def _without_failure(case: FailingCase) -> Finding:
    fact = FailedCapture(case, str(torch.__version__), failed=False)
    return Finding(CAPTURES, case, "bad", fact)


def _after_failure(case: FailingCase, failure: Exception, errors: Mapping[str, str]) -> Finding:
    """`errors`: of what is tried after the failure; empty where it works."""
    broken = {operation: error for operation, error in errors.items() if error}
    fact = FailedCapture(case, str(torch.__version__), errors=broken)
    # What torch alone breaks is no harm: nas_attn puts it right.
    state: State = "bad" if broken and case == "mended" else "ok"
    return Finding(CAPTURES, case, state, fact, {"failed": error_line(failure), **_plain(errors)})


def waits_noticed(x: Tensor) -> Finding:
    """Work that waits is noticed before it is captured."""
    with cuda_graphs.waits() as noted:
        x.sum().item()
    with cuda_graphs.waits() as silent:
        x.add(1)
    noticed = bool(noted) and not silent
    values = {"item": noted, "add": silent}
    return Finding(CAPTURES, "waits", "ok" if noticed else "bad", WaitNoticed(noticed), values)


def beside_pinning(x: Tensor, name: str, mode: str) -> Finding:
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
    fact = BesidePinning(mode, mode == cuda_graphs.CAPTURE_MODE, capture_error or pinning_error)
    values = _plain({"capture": capture_error, "other_thread": pinning_error})
    return Finding(CAPTURES, name, "bad" if fact.used and fact.error else "ok", fact, values)


CASES: dict[str, Callable[[Tensor], Finding]] = {
    "torch": torch_alone,
    "mended": mended,
    "waits": waits_noticed,
    "pinning": lambda x: beside_pinning(x, "pinning", cuda_graphs.CAPTURE_MODE),
    "pinning-global": lambda x: beside_pinning(x, "pinning-global", "global"),
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
