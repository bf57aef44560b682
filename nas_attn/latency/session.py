"""Latency sessions in random turns (docs/explain/latency.md)."""

from __future__ import annotations

import gc
import random
import time
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    MutableMapping,
    Sequence,
)
from contextlib import contextmanager, nullcontext
from types import MappingProxyType

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from nas_attn.attention.choice import Knob
from nas_attn.errors import DeviceLost, MeasurementError, Unmeasurable, first_line
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.machine import fingerprint
from nas_attn.latency.nets import (
    Net,
    clock_name,
    example_input,
    prepare,
)
from nas_attn.latency.paired import MAX_CANDIDATES, Times, Turn, summary, time_rounds
from nas_attn.recipe.recipe import LatencySection
from nas_attn.storage.records import BESIDE, Session, SessionSample

# Keys that need more sessions, the neediest first
StillOpen = Callable[[Sequence[Session]], Collection[str]]
# prefix of a candidate's key in the names of a session's networks
CANDIDATE = "candidate "
MIN_COMMAND_ROUNDS = 3


def run_session(  # noqa: PLR0913 - public; all but the first have a name
    section: LatencySection,
    *,
    reference: nn.Module,
    candidates: Mapping[str, nn.Module],
    input_shape: tuple[int, ...],
    seed: int,
    own_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    lock: DeviceLock | None = None,
    kept: MutableMapping[str, Net] | None = None,
    images: Tensor | None = None,
) -> Session:
    """Times up to 8 candidates against the bare backbone, as many rounds as fit
    `section.session_seconds` (at least 5).

    In each round every network has one turn, in random order: one untimed call, then the timed
    ones. It times copies, with batches of the section's size of inputs (C, H, W).

    Args:
        own_shapes: key -> (C, H, W) of the inputs of a candidate that takes others than the
            backbone.
        lock: held while timing, not while compiling or exporting; None: the caller holds it.
        kept: cache for networks that take long to prepare: one mapping per section, reference and
            input shape.
        images: calibrate a quantized mode, float32 (M, C, H, W) as the network takes them; None:
            noise.

    Raises:
        MeasurementError: there are too many candidates, or no such device.
        Unmeasurable: one network does not run.
        Interrupted: it is asked to stop.
    """
    if len(candidates) > MAX_CANDIDATES:
        raise MeasurementError(
            f"a latency session takes at most {MAX_CANDIDATES} candidates, not {len(candidates)}"
        )
    started_at = time.time()
    began = time.perf_counter()
    machine = fingerprint(section)
    with measuring(section):
        shapes = {"reference": input_shape, "control": input_shape}
        shapes |= {candidate_name(key): own_shapes.get(key, input_shape) for key in candidates}
        inputs = {name: example_input(section, shape, seed) for name, shape in shapes.items()}
        nets = _prepare_all(section, reference, candidates, inputs, kept, images)
        alone: list[str] = []
        with lock.exclusive() if lock is not None else nullcontext(alone) as beside:
            times, calls = _rounds(section, nets, candidates, random.Random(seed))
    timed = summary(times, list(candidates), calls)
    timed["samples"] = tuple(SessionSample(**sample) for sample in timed["samples"])
    return Session(
        fingerprint=machine,
        conditions=conditions(section, input_shape),
        started_at=started_at,
        duration_s=time.perf_counter() - began,
        notes={BESIDE: "; ".join(beside)} if beside else {},
        **timed,
    )


def _rounds(
    section: LatencySection, nets: Sequence[Net], keys: Iterable[str], order: random.Random
) -> tuple[list[list[Times]], int]:
    """(Times of the networks in each round, calls in a turn). The networks are the reference, the
    control, and the candidates with these keys.
    """
    names = ("reference", "control", *map(candidate_name, keys))
    turns = [_named(name, net, nets[0], section) for name, net in zip(names, nets, strict=True)]
    command = {}
    if section.by_command:
        command = {"fewest": MIN_COMMAND_ROUNDS, "calls": 1}
    return time_rounds(turns, order, seconds=section.session_seconds, **command)


def measure(  # noqa: PLR0913 - public; all but the first have a name
    section: LatencySection,
    *,
    reference: nn.Module,
    candidates: Mapping[str, nn.Module],
    input_shape: tuple[int, ...],
    seed: int,
    still_open: StillOpen,
    own_shapes: Mapping[str, tuple[int, ...]] = MappingProxyType({}),
    lock: DeviceLock | None = None,
) -> Iterator[Session]:
    """Runs sessions and yields each as it ends. Each has the 8 candidates that need it most; others
    fill free places, at little cost. The lock is held only during a session, so that other
    processes get their turns between.

    Args:
        section: how latency is measured.
        reference: the bare backbone.
        candidates: key -> network.
        input_shape: (C, H, W).
        seed: of the inputs and the order.
        still_open: from the sessions so far, the keys that need more, the neediest first.
        own_shapes: as in `run_session`.
        lock: of the device; None: the caller holds it.

    Returns:
        Sessions, until no key is open.
    """
    rng = random.Random(seed)
    sessions: list[Session] = []
    kept: dict[str, Net] = {}
    while open_ := list(still_open(sessions)):
        others = [key for key in candidates if key not in open_]
        rng.shuffle(others)
        group = [*open_, *others][:MAX_CANDIDATES]
        session = run_session(
            section,
            reference=reference,
            candidates={key: candidates[key] for key in group},
            input_shape=input_shape,
            seed=rng.getrandbits(31),
            own_shapes=own_shapes,
            lock=lock,
            kept=kept,
        )
        sessions.append(session)
        yield session


def candidate_name(key: str) -> str:
    """The name in a session, and in `kept`, of the candidate with this key."""
    return f"{CANDIDATE}{key}"


def conditions(section: LatencySection, input_shape: tuple[int, ...]) -> dict[str, Knob | None]:
    """The conditions of a latency under these settings: batch, input, dtype, memory format,
    threads, mode, clock.
    """
    settings: dict[str, Knob | None] = {
        "batch_size": section.batch_size,
        "input_shape": "x".join(map(str, input_shape)),
        "dtype": section.dtype,
        "channels_last": section.channels_last,
        "threads": section.threads,
        "mode": section.mode,
        "clock": clock_name(section),
    }
    if section.command is not None:
        settings["command"] = section.command
    return settings


@contextmanager
def measuring(section: LatencySection) -> Iterator[None]:
    """No gradients, no garbage collection, the section's threads; restored afterwards."""
    threads = torch.get_num_threads()
    collecting = gc.isenabled()
    gc.collect()
    gc.disable()
    torch.set_num_threads(section.threads)
    try:
        with torch.inference_mode():
            yield
    finally:
        torch.set_num_threads(threads)
        if collecting:
            gc.enable()


def check(
    section: LatencySection,
    reference: nn.Module,
    input_shape: tuple[int, ...],
    images: Tensor | None,
    kept: MutableMapping[str, Net],
) -> None:
    """Prepares the bare backbone and keeps it.

    Args:
        section: how latency is measured.
        reference: the bare backbone.
        input_shape: (C, H, W).
        images: as in `run_session`.
        kept: where it is kept, for `run_session`.

    Raises:
        Unmeasurable: it does not run in this mode, so no candidate does.
    """
    with measuring(section):
        x = example_input(section, input_shape, 0)
        kept["reference"] = _prepare_one("reference", reference, section, x, images)


def _prepare_all(
    section: LatencySection,
    reference: nn.Module,
    candidates: Mapping[str, nn.Module],
    inputs: Mapping[str, Tensor],
    kept: MutableMapping[str, Net] | None,
    images: Tensor | None,
) -> list[Net]:
    """Reference, control, candidates, prepared for timing; `inputs`: of each by its name."""
    store: MutableMapping[str, Net] = {}
    if kept is not None and section.row.costly:
        store = kept
    # each is copied when it is prepared
    named = {"reference": reference, "control": reference}
    named |= {candidate_name(key): model for key, model in candidates.items()}
    for name, model in named.items():
        if name == "control" and section.by_command:
            # the same file, sent once more
            store[name] = store["reference"]
        elif name not in store:
            store[name] = _prepare_one(name, model, section, inputs[name], images)
    return [store[name] for name in named]


def _prepare_one(
    name: str, model: nn.Module, section: LatencySection, x: Tensor, images: Tensor | None
) -> Net:
    if images is not None and images.shape[1:] != x.shape[1:]:
        images = interpolate(images, x.shape[2:], mode="bilinear", antialias=True)
    with _naming(name, section):
        with (
            torch.inference_mode(False),
            torch.no_grad(),
        ):
            # inference tensors cannot be compiled or exported
            net = prepare(model, section, x.clone(), images)
        if not section.by_command:
            net.turn(1)
        return net


@contextmanager
def _naming(name: str, section: LatencySection) -> Iterator[None]:
    """An error inside becomes an Unmeasurable with this network's name."""
    shown = name if name.startswith(CANDIDATE) else "the bare backbone"
    try:
        yield
    except DeviceLost:
        raise
    except MeasurementError as error:
        raise Unmeasurable(name.removeprefix(CANDIDATE), shown, str(error)) from error
    except Exception as error:
        reason = (
            f"the network does not run with {section.dtype} on {section.device}:"
            f" {first_line(error)}"
        )
        raise Unmeasurable(name.removeprefix(CANDIDATE), shown, reason) from error


def _named(name: str, net: Net, reference: Net, section: LatencySection) -> Turn:
    """A network's turn, with errors that name it. If a command fails, it is the network's fault if
    it runs the bare backbone.
    """

    def turn(calls: int) -> Times:
        try:
            with _naming(name, section):
                return net.turn(calls)
        except Unmeasurable as error:
            if net is not reference and isinstance(error.__cause__, MeasurementError):
                reference.turn(1)
            raise

    return turn
