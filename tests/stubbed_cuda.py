"""`torch.cuda` over CPU tensors: code that runs only on CUDA runs here, with values, without a GPU.

    with stubbed_cuda.installed() as cuda:
        ...                     # torch.cuda.is_available() is True; tensors say they are on cuda:0
        assert cuda.replays > 0

Inside, a CUDA graph is what it is on a GPU: a capture changes no tensor and draws no random number,
and a replay does the same operations again, in the same memory. What a GPU forbids in a capture
(reading a value, waiting, a copy from pageable memory, pinning memory in another thread in mode
`global`) ends the capture, and `torch.cuda.set_sync_debug_mode` sees it, too.

`failing="2.11"` is torch 2.11 after a failed capture: its pool stays open, so that `empty_cache`
(and with it every later capture) fails, and dropout is refused until a capture succeeds.

Every torch operation of this thread passes a Python function, so networks should be small.
"""

from __future__ import annotations

import os
import threading
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace, TracebackType
from typing import Any, Literal

import pytest
import torch
from torch import Tensor
from torch._subclasses import fake_tensor
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode, _disable_current_modes
from torch.utils._pytree import tree_leaves

from nas_attn.system import cuda_graphs

GIB = 2**30
TORCH = Path(torch.__file__).parent
DEVICE_OF = torch.Tensor.device.__get__
WAITING = {  # Operations whose result the host must know, so that it waits for the device
    "_local_scalar_dense",
    "_unique2",
    "bincount",
    "equal",
    "histc",
    "is_nonzero",
    "masked_select",
    "nonzero",
    "unique_consecutive",
    "unique_dim",
}
READING = {"cpu", "numpy", "tolist", "__array__"}  # methods that copy values to the host
FROM_HOST = {"tensor", "as_tensor"}  # functions that copy values from pageable memory
DROPOUT = {"bernoulli_", "bernoulli", "native_dropout"}
SYNC_WARNING = "called a synchronizing CUDA operation"
MASKS = (torch.bool, torch.uint8)


def waits(name: str, args: Any) -> bool:
    """Whether an operator of ATen makes the host wait for the device: `name` without overload."""
    if name in WAITING:
        return True
    if name == "repeat_interleave":
        return True
    if name in ("index", "index_put", "index_put_", "_index_put_impl_"):
        return any(isinstance(one, Tensor) and one.dtype in MASKS for one in tree_leaves(args[1:2]))
    return False


def caller() -> tuple[str, int]:
    """File and line of what called torch, as torch names it in its warnings."""
    for frame in reversed(traceback.extract_stack()):
        if frame.filename != __file__ and TORCH not in Path(frame.filename).parents:
            return frame.filename, frame.lineno or 0
    return "", 0


def plain_name(func: Any) -> str:
    """The operator's name without namespace and overload."""
    return str(func._schema.name).rpartition("::")[2]


@dataclass
class Operation:
    """A recorded operation and the tensors that it made."""

    func: Any
    args: Any
    kwargs: Any
    made: Any

    def repeat(self) -> None:
        """Does it again, into the same memory."""
        given = {storage_of(one) for one in tensors_in((self.args, self.kwargs))}
        again = self.func(*self.args, **self.kwargs)
        for old, new in zip(tensors_in(self.made), tensors_in(again), strict=True):
            if storage_of(old) not in given and storage_of(old) != storage_of(new):
                old.copy_(new)


def tensors_in(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def storage_of(tensor: Tensor) -> int:
    return tensor.untyped_storage()._cdata


@dataclass
class Capture:
    """A capture under way."""

    graph: CUDAGraph
    mode: str
    thread: int
    pool: tuple[int, int]
    dropout: bool = False
    # Why the capture is invalid; empty as long as it is valid.
    broken: str = ""
    made: set[int] = field(default_factory=set)
    before: dict[int, tuple[Any, Any]] = field(default_factory=dict)
    random_state: Tensor = field(default_factory=torch.get_rng_state)

    def keep(self, given: list[Tensor]) -> None:
        """Remembers tensors that the capture did not make, as they are before it."""
        for tensor in given:
            key = storage_of(tensor)
            if key not in self.made and key not in self.before:
                storage = tensor.untyped_storage()
                self.before[key] = (storage, storage.clone())

    def put_back(self) -> None:
        """Undoes what the operations did: on a GPU, a capture executes none."""
        for storage, content in self.before.values():
            storage.copy_(content)
        torch.set_rng_state(self.random_state)


class StubbedCuda:
    """What the stub saw, and how it answers; change the attributes inside the `with`."""

    def __init__(self, devices: int, failing: Literal["2.11", "2.12"]) -> None:
        self.devices = devices
        self.process = os.getpid()
        self.failing = failing
        # Calls by name: `capture`, `replay`, `empty_cache`, `max_memory_allocated`, `Stream`, …
        self.calls: Counter[str] = Counter()
        self.graphs: list[CUDAGraph] = []
        self.modes: list[str] = []
        # Reasons of captures that failed.
        self.failures: list[str] = []
        # What waited for the device under `set_sync_debug_mode`, warned of or not.
        self.waited: list[str] = []
        self.sync_mode = 0
        self.current_device = 0
        self.stream = Stream()
        self.generator = torch.Generator()
        self.capture: Capture | None = None
        self.pools: set[tuple[int, int]] = set()
        self.generator_captures = False
        self.name = "NVIDIA H100 80GB HBM3"
        self.capability = (9, 0)
        self.total_memory = 80 * GIB
        self.free_memory = 70 * GIB

    @property
    def replays(self) -> int:
        """Replays of all graphs."""
        return self.calls["replay"]

    @property
    def properties(self) -> SimpleNamespace:
        return SimpleNamespace(
            name=self.name,
            total_memory=self.total_memory,
            major=self.capability[0],
            minor=self.capability[1],
            multi_processor_count=132,
            L2_cache_size=50 * 2**20,
            uuid="11111111-2222-3333-4444-555555555555",
            gcnArchName="",
        )

    def host_waits(self, what: str) -> None:
        """The host reads a value, or copies one from pageable memory."""
        if self.captures_here():
            self.break_capture(f"operation not permitted when stream is capturing ({what})")
        if self.sync_mode:
            self.waited.append(what)
        if self.sync_mode == 1:
            filename, line = caller()
            warnings.warn_explicit(f"{SYNC_WARNING} ({what})", UserWarning, filename, line)
        if self.sync_mode == 2:
            raise RuntimeError(f"{SYNC_WARNING} ({what})")

    def captures_here(self) -> bool:
        return self.capture is not None and self.capture.thread == threading.get_ident()

    def break_capture(self, reason: str) -> None:
        """Invalidates the capture under way; raises as the operation does."""
        assert self.capture is not None
        self.capture.broken = self.capture.broken or reason
        raise torch.AcceleratorError(f"CUDA error: {reason}")

    def allocate_on_host(self) -> None:
        """Pinned memory: the driver takes it for a forbidden call while a capture is under way."""
        self.calls["pin_memory"] += 1
        if self.capture is None or self.capture.mode == "relaxed":
            return
        if self.capture.mode == "global" or self.captures_here():
            self.break_capture("operation not permitted when stream is capturing (pin_memory)")

    def empty_cache(self) -> None:
        self.calls["empty_cache"] += 1
        if self.pools:
            raise RuntimeError(
                "captures_underway.empty() INTERNAL ASSERT FAILED at CUDACachingAllocator.cpp"
            )

    def synchronize(self, device: object = None) -> None:
        self.calls["synchronize"] += 1
        if self.captures_here():
            self.break_capture("operation not permitted when stream is capturing (synchronize)")

    def set_sync_debug_mode(self, mode: int | str) -> None:
        names = {"default": 0, "warn": 1, "error": 2}
        self.sync_mode = names[mode] if isinstance(mode, str) else mode

    def begin(self, graph: CUDAGraph, pool: tuple[int, int], mode: str) -> None:
        self.calls["capture"] += 1
        self.modes.append(mode)
        self.capture = Capture(graph, mode, threading.get_ident(), pool)
        self.pools.add(pool)

    def end(self) -> None:
        """Raises AcceleratorError if the capture is invalid; torch 2.11 then leaves it half open."""
        capture, self.capture = self.capture, None
        assert capture is not None
        capture.put_back()
        if not capture.broken or self.failing != "2.11":
            self.pools.discard(capture.pool)
        if capture.broken:
            self.failures.append(capture.broken)
            self.generator_captures |= self.failing == "2.11"
            raise torch.AcceleratorError(
                "CUDA error: operation failed due to a previous error during capture"
            )
        self.generator_captures = False
        self.graphs.append(capture.graph)

    def end_pool(self, device: int, pool: tuple[int, int]) -> None:
        self.calls["_cuda_endAllocateToPool"] += 1
        self.pools.discard(pool)

    def memory_fraction(self, fraction: float, device: object = None) -> None:
        self.calls[f"memory fraction {fraction:.3f}"] += 1


class Stream:
    """A stream; all of them run at once here, so nothing waits."""

    def __init__(self, device: object = None, priority: int = 0, **more: object) -> None:
        _now().calls["Stream"] += 1 if _INSTALLED else 0
        self.device = device

    def wait_stream(self, other: Stream) -> None:
        _now().calls["wait_stream"] += 1

    def wait_event(self, event: Event) -> None:
        pass

    def synchronize(self) -> None:
        _now().synchronize()

    def query(self) -> bool:
        return True

    def is_capturing(self) -> bool:
        return _now().captures_here()


class CurrentStream:
    """`torch.cuda.stream(s)`: the current stream inside."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream
        self.before: Stream | None = None

    def __enter__(self) -> None:
        self.before = _now().stream
        _now().stream = self.stream or self.before

    def __exit__(self, *error: object) -> None:
        assert self.before is not None
        _now().stream = self.before


class Event:
    """An event on the host's clock."""

    def __init__(self, enable_timing: bool = False, blocking: bool = False, **more: bool) -> None:
        self.timing = enable_timing
        self.at: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        self.at = time.perf_counter()

    def synchronize(self) -> None:
        _now().calls["event.synchronize"] += 1

    def query(self) -> bool:
        return True

    def elapsed_time(self, other: Event) -> float:
        if not (self.timing and other.timing):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self.at is None or other.at is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return (other.at - self.at) * 1e3


class CUDAGraph:
    """The operations of a capture."""

    def __init__(self, keep_graph: bool = False) -> None:
        self.operations: list[Operation] = []
        self.replays = 0

    def replay(self) -> None:
        cuda = _now()
        if self not in cuda.graphs:
            raise RuntimeError("Called CUDAGraph::replay without a preceding successful capture.")
        cuda.calls["replay"] += 1
        self.replays += 1
        with _disable_current_modes(), torch.inference_mode():
            for operation in self.operations:
                operation.repeat()

    def reset(self) -> None:
        self.operations = []

    def pool(self) -> tuple[int, int]:
        return (0, id(self))


class Graph:
    """`torch.cuda.graph`, with torch's order of steps: what fails leaves the same behind."""

    def __init__(
        self,
        cuda_graph: CUDAGraph,
        pool: tuple[int, int] | None = None,
        stream: Stream | None = None,
        capture_error_mode: str = "global",
        **more: object,
    ) -> None:
        self.graph = cuda_graph
        self.pool = pool or (0, id(cuda_graph))
        self.mode = capture_error_mode
        self.stream = CurrentStream(stream or Stream())

    def __enter__(self) -> None:
        cuda = _now()
        cuda.synchronize()
        cuda.empty_cache()
        self.stream.__enter__()
        cuda.begin(self.graph, self.pool, self.mode)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        _now().end()
        self.stream.__exit__(kind, error, trace)


class CurrentDevice:
    """`torch.cuda.device(d)`."""

    def __init__(self, device: torch.device | int | str | None) -> None:
        self.index = device_index(device)
        self.before = 0

    def __enter__(self) -> None:
        self.before = _now().current_device
        _now().current_device = self.index

    def __exit__(self, *error: object) -> None:
        _now().current_device = self.before


def device_index(device: torch.device | int | str | None) -> int:
    if isinstance(device, int):
        return device
    index = None if device is None else torch.device(device).index
    return _now().current_device if index is None else index


def on_cpu(value: Any) -> Any:
    """A device of CUDA as the CPU; anything else as it is."""
    if isinstance(value, torch.device):
        return torch.device("cpu") if value.type == "cuda" else value
    return "cpu" if isinstance(value, str) and value.startswith("cuda") else value


def is_cuda(device: Any) -> bool:
    return isinstance(device, int | str | torch.device) and torch.device(device).type == "cuda"


class Functions(TorchFunctionMode):
    """Tensors say that they are on the GPU, and calls that name it get the CPU's memory."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        cuda = _now()
        kwargs = dict(kwargs or {})
        if func == DEVICE_OF:
            device = func(*args)
            # Processes that load images are forked from this one, and use no GPU.
            is_here = device.type == "cpu" and os.getpid() == cuda.process
            return torch.device("cuda", cuda.current_device) if is_here else device
        name = getattr(func, "__name__", "")
        if name in READING or (name == "to" and _names_the_host(args, kwargs)):
            cuda.host_waits(name)
        if name in FROM_HOST and is_cuda(kwargs.get("device")):
            cuda.host_waits(name)
        if "device" in kwargs:
            kwargs["device"] = on_cpu(kwargs["device"])
        if name == "to":
            args = tuple(on_cpu(one) for one in args)
        return func(*args, **kwargs)


def _names_the_host(args: Any, kwargs: dict[str, Any]) -> bool:
    """Whether `to` gets the text "cpu". A torch.device may come from torch's C++, which the stub
    does not reach.
    """
    return "cpu" in [one for one in (*args[1:], kwargs.get("device")) if isinstance(one, str)]


class Operations(TorchDispatchMode):
    """Sees each operation: records those of a capture, and notices the host's waits."""

    def __torch_dispatch__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        cuda, name = _now(), plain_name(func)
        if waits(name, args):
            cuda.host_waits(name)
        if name in DROPOUT and cuda.generator_captures and not cuda.captures_here():
            raise RuntimeError("Offset increment outside graph capture encountered unexpectedly.")
        if not cuda.captures_here():
            return func(*args, **kwargs)
        assert cuda.capture is not None
        given = tensors_in((args, kwargs))
        cuda.capture.keep(given)
        made = func(*args, **kwargs)
        known = {storage_of(one) for one in given}
        cuda.capture.made |= {storage_of(one) for one in tensors_in(made)} - known
        cuda.capture.graph.operations.append(Operation(func, args, kwargs, made))
        return made


_INSTALLED: list[StubbedCuda] = []


def _now() -> StubbedCuda:
    return _INSTALLED[-1] if _INSTALLED else _NOBODY


def _replacements(cuda: StubbedCuda) -> dict[str, Any]:
    """Name in `torch.cuda` -> what stands there instead."""

    def counted(name: str, answer: Any) -> Callable[..., Any]:
        def call(*args: object, **kwargs: object) -> Any:
            cuda.calls[name] += 1
            return answer

        return call

    def seed(number: int) -> None:
        cuda.generator.manual_seed(number)

    def supports_bfloat16(including_emulation: bool = True) -> bool:
        return including_emulation or cuda.capability >= (8, 0)

    def set_state(state: Tensor, device: object = None) -> None:
        cuda.generator.set_state(state)

    return {
        "CUDAGraph": CUDAGraph,
        "Event": Event,
        "Stream": Stream,
        "_is_in_bad_fork": lambda: False,
        "_lazy_init": lambda: None,
        "current_device": lambda: cuda.current_device,
        "current_stream": lambda device=None: cuda.stream,
        "default_stream": lambda device=None: cuda.stream,
        "device": CurrentDevice,
        "device_count": lambda: cuda.devices,
        "empty_cache": cuda.empty_cache,
        "get_device_capability": lambda device=None: cuda.capability,
        "get_device_name": lambda device=None: cuda.name,
        "get_device_properties": lambda device=None: cuda.properties,
        "get_rng_state": lambda device=None: cuda.generator.get_state(),
        "get_sync_debug_mode": lambda: cuda.sync_mode,
        "graph": Graph,
        "graph_pool_handle": lambda: (0, next(_POOLS)),
        "is_available": lambda: True,
        "is_bf16_supported": supports_bfloat16,
        "is_current_stream_capturing": cuda.captures_here,
        "is_initialized": lambda: True,
        "manual_seed": seed,
        "manual_seed_all": seed,
        "max_memory_allocated": counted("max_memory_allocated", GIB),
        "mem_get_info": lambda device=None: (cuda.free_memory, cuda.total_memory),
        "memory_allocated": counted("memory_allocated", 0),
        "memory_reserved": counted("memory_reserved", 0),
        "reset_peak_memory_stats": counted("reset_peak_memory_stats", None),
        "set_device": lambda device: setattr(cuda, "current_device", device_index(device)),
        "set_per_process_memory_fraction": cuda.memory_fraction,
        "set_rng_state": set_state,
        "set_sync_debug_mode": cuda.set_sync_debug_mode,
        "stream": CurrentStream,
        "synchronize": cuda.synchronize,
    }


def _autocast_on_cpu(begin: Callable[..., None]) -> Callable[..., None]:
    """`torch.autocast("cuda")` casts what is computed on the CPU."""

    def begin_on_cpu(self: torch.autocast, device_type: str, *args: Any, **kwargs: Any) -> None:
        begin(self, on_cpu(device_type), *args, **kwargs)

    return begin_on_cpu


_POOLS = iter(range(1, 2**31))
_NOBODY = StubbedCuda.__new__(StubbedCuda)
_NOBODY.calls = Counter()


@contextmanager
def installed(
    devices: int = 1, failing: Literal["2.11", "2.12"] = "2.11", *, values: bool = True
) -> Iterator[StubbedCuda]:
    """Inside, `torch.cuda` is the stub, with so many GPUs; afterwards all is as before. Without
    `values`, only its functions are there, for tensors that have none (FakeTensorMode).
    """
    cuda = StubbedCuda(devices, failing)
    accelerator = {
        "is_available": lambda: True,
        "current_accelerator": lambda check_available=False: torch.device("cuda"),
        "current_device_index": lambda: cuda.current_device,
        "current_stream": lambda device=None: cuda.stream,
        "device_count": lambda: cuda.devices,
        "set_device_index": lambda device: None,
    }

    def pin_memory(tensor: Tensor, device: object = None) -> Tensor:
        cuda.allocate_on_host()
        return tensor

    patch = pytest.MonkeyPatch()
    _INSTALLED.append(cuda)
    cuda_graphs.kept_stream.cache_clear()
    try:
        for name, value in _replacements(cuda).items():
            patch.setattr(torch.cuda, name, value)
        for name, value in accelerator.items():
            patch.setattr(torch.accelerator, name, value)
        patch.setattr(torch._C, "_cuda_endAllocateToPool", cuda.end_pool, raising=False)
        patch.setattr(torch.Tensor, "pin_memory", pin_memory)
        patch.setattr(torch.Tensor, "record_stream", lambda tensor, stream: None)
        if values:
            patch.setattr(torch.autocast, "__init__", _autocast_on_cpu(torch.autocast.__init__))
            with Functions(), Operations():
                yield cuda
        else:
            patch.setattr(fake_tensor, "init_gpu_context", lambda device: None)
            yield cuda
    finally:
        patch.undo()
        cuda_graphs.kept_stream.cache_clear()
        _INSTALLED.pop()
