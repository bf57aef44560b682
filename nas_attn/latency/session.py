"""One short latency session: candidates, the bare backbone and a second copy of it, in random turns.

Why in turns and against the bare backbone: on a shared machine the mean of 100 calls repeats within 57 %, the ratio
to a reference measured in the same round within 3 % (docs/latency.md). One session says little about its own error:
estimates and intervals come from several sessions spaced in time (`analysis.latency`).
"""

from __future__ import annotations

import gc
import itertools
import math
import random
import statistics
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import torch
from torch import Tensor, nn

from nas_attn.errors import MeasurementError, Unmeasurable
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.machine import fingerprint, state
from nas_attn.latency.nets import Net, Times, clock_name, example_input, prepare
from nas_attn.latency_modes import ROWS
from nas_attn.recipe import LatencySection
from nas_attn.records import BESIDE, Knob, Session, SessionSample

MAX_CANDIDATES = 8
StillOpen = Callable[[Sequence[Session]], Collection[str]]
"""Sessions so far -> keys that need more, the neediest first; none ends the measuring."""
CANDIDATE = "candidate "
"""Stands before a candidate's key in the names of a session's networks."""
MIN_ROUNDS = 5
MIN_COMMAND_ROUNDS = 3
TURN_MS = 10.0
"""A turn repeats a short call until it takes about this long, so that clock and call overhead do not matter."""
MAX_CALLS = 32


def run_session(
    section: LatencySection,
    *,
    reference: nn.Module,
    candidates: Mapping[str, nn.Module],
    input_shape: tuple[int, ...],
    seed: int,
    notes: Mapping[str, str] | None = None,
    lock: DeviceLock | None = None,
    kept: MutableMapping[str, Net] | None = None,
) -> Session:
    """Times up to 8 candidates against the bare backbone, as many rounds as fit `section.session_seconds` (at least 5).

    In each round every network has one turn, in random order: one untimed call, then the timed ones. Copies are timed.

    Args:
        reference: the bare backbone.
        candidates: key -> network, on any device.
        input_shape: (C, H, W); the batch comes from the section.
        seed: of the order of turns and of the input.
        notes: goes into the session's notes, beside clock, temperature and load before and after.
        lock: held exclusively while timing, not while compiling or exporting; None: the caller sees to it.
        kept: networks whose preparation takes long are put here and taken from here: one mapping per section, reference
            and input shape.

    Raises:
        MeasurementError: more than 8 candidates, no such device.
        Unmeasurable: one network does not run as asked.
        Interrupted: the search was asked to stop while this waited for the device.
    """
    if len(candidates) > MAX_CANDIDATES:
        raise MeasurementError(f"a latency session takes at most {MAX_CANDIDATES} candidates, not {len(candidates)}")
    started_at, began = time.time(), time.perf_counter()
    machine = fingerprint(section)
    with measuring(section):
        nets = _prepare_all(section, reference, candidates, example_input(section, input_shape, seed), kept)
        alone: list[str] = []
        with lock.exclusive() if lock is not None else nullcontext(alone) as beside:
            before = state(section)
            rounds, calls = _time_rounds(nets, candidates, section, random.Random(seed))
            after = state(section)
    states = {"before": before, "after": after}.items()
    found = {f"{name}_{when}": text for when, state_ in states for name, text in state_.items()}
    reference_times, control_times, *candidate_times = rounds
    copies = (reference_times, control_times)
    return Session(
        fingerprint=machine,
        conditions=conditions(section, input_shape),
        started_at=started_at,
        duration_s=time.perf_counter() - began,
        reference_ms=statistics.median(own for own, _ in itertools.chain(*copies)),
        control_log_ratio=_log_ratio(control_times, (reference_times,), 0),
        samples=tuple(
            SessionSample(
                key=key,
                log_ratio=_log_ratio(times, copies, 0),
                candidate_ms=statistics.median(own for own, _ in times),
                wall_log_ratio=_log_ratio(times, copies, 1),
                wall_ms=statistics.median(wall for _, wall in times),
                calls=calls * len(times),
            )
            for key, times in zip(candidates, candidate_times, strict=True)
        ),
        notes={**found, **({BESIDE: "; ".join(beside)} if beside else {}), **(notes or {})},
    )


def measure(
    section: LatencySection,
    *,
    reference: nn.Module,
    candidates: Mapping[str, nn.Module],
    input_shape: tuple[int, ...],
    seed: int,
    still_open: StillOpen,
    lock: DeviceLock | None = None,
) -> Iterator[Session]:
    """Runs sessions, each with the 8 neediest candidates, and hands over each as it ends.

    A session with room left takes candidates that need nothing more as companions: that costs little and pairs them.

    Args:
        still_open: decides what goes on: `lambda s: analysis.latency.open_keys(s, keys, tolerance=…, max_sessions=…)`.
        lock: held for each session alone, so that others get their turns between.
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
            lock=lock,
            kept=kept,
        )
        sessions.append(session)
        yield session


def conditions(section: LatencySection, input_shape: tuple[int, ...]) -> dict[str, Knob | None]:
    """What a latency under these settings holds for: batch, input, dtype, memory format, threads, mode, clock."""
    found: dict[str, Knob | None] = {
        "batch_size": section.batch_size,
        "input_shape": "x".join(map(str, input_shape)),
        "dtype": section.dtype,
        "channels_last": section.channels_last,
        "threads": section.threads,
        "mode": section.mode,
        "clock": clock_name(section),
    }
    if section.command is not None:
        found["command"] = section.command
    return found


@contextmanager
def measuring(section: LatencySection) -> Iterator[None]:
    """No gradients, no garbage collection, the section's threads; restored afterwards."""
    threads, collecting = torch.get_num_threads(), gc.isenabled()
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


def _prepare_all(
    section: LatencySection,
    reference: nn.Module,
    candidates: Mapping[str, nn.Module],
    x: Tensor,
    kept: MutableMapping[str, Net] | None,
) -> list[Net]:
    """Reference, control, candidates: ready to be timed."""
    store: MutableMapping[str, Net] = kept if kept is not None and ROWS[section.mode].costly else {}
    named = {"reference": reference, "control": reference}  # each is copied when it is made ready
    named |= {candidate_name(key): model for key, model in candidates.items()}
    for name, model in named.items():
        if name == "control" and section.mode == "command":
            store[name] = store["reference"]  # the same file, sent once more
        elif name not in store:
            store[name] = _prepare_one(name, model, section, x)
    return [store[name] for name in named]


def _prepare_one(name: str, model: nn.Module, section: LatencySection, x: Tensor) -> Net:
    try:
        with torch.inference_mode(False), torch.no_grad():  # inference tensors cannot be compiled or exported
            net = prepare(model, section, x.clone())
        if section.mode != "command":
            net.turn(1)
        return net
    except MeasurementError as error:
        raise _unmeasurable(name, str(error)) from error
    except Exception as error:
        raise _does_not_run(name, section, error) from error


def candidate_name(key: str) -> str:
    """The name in a session, and in `kept`, of the candidate with this key."""
    return f"{CANDIDATE}{key}"


def _unmeasurable(name: str, reason: str) -> Unmeasurable:
    return Unmeasurable(name.removeprefix(CANDIDATE), f"{name}: {reason}")


def _does_not_run(name: str, section: LatencySection, error: Exception) -> Unmeasurable:
    reason = next(iter(str(error).strip().splitlines()), type(error).__name__)
    return _unmeasurable(name, f"the network does not run with {section.dtype} on {section.device}: {reason}")


def _named(name: str, net: Net, reference: Net, section: LatencySection) -> Net:
    """A network whose failing names it. A command's is the network's own where it still takes the bare backbone."""

    def turn(calls: int) -> Times:
        try:
            return net.turn(calls)
        except MeasurementError as error:
            if net is not reference:
                reference.turn(1)
            raise _unmeasurable(name, str(error)) from error
        except Exception as error:
            raise _does_not_run(name, section, error) from error

    return replace(net, turn=turn)


def _time_rounds(
    nets: Sequence[Net], keys: Iterable[str], section: LatencySection, rng: random.Random
) -> tuple[list[list[Times]], int]:
    """(per network its times round by round, timed calls a turn). First come the reference and its copy."""
    by_command = section.mode == "command"
    names = ("reference", "control", *map(candidate_name, keys))
    nets = [_named(name, net, nets[0], section) for name, net in zip(names, nets, strict=True)]
    calls = 1 if by_command else _calls_a_turn(nets)
    fewest = MIN_COMMAND_ROUNDS if by_command else MIN_ROUNDS
    times: list[list[Times]] = [[] for _ in nets]
    order = list(range(len(nets)))
    end = time.perf_counter() + section.session_seconds
    while len(times[0]) < fewest or time.perf_counter() < end:
        rng.shuffle(order)
        for index in order:
            times[index].append(nets[index].turn(calls))
    return times, calls


def _calls_a_turn(nets: Sequence[Net]) -> int:
    """Timed calls a turn: enough for TURN_MS of the reference. All networks run, so that none starts warmer."""
    reference, control, *_ = [net.turn(1)[0] for net in nets]
    return max(1, min(MAX_CALLS, round(TURN_MS / max(min(reference, control), 1e-3))))


def _log_ratio(times: Sequence[Times], copies: Sequence[Sequence[Times]], clock: int) -> float:
    """Median over rounds of log(time / geometric mean of the copies' times in the same round)."""
    return statistics.median(
        math.log(mine[clock]) - statistics.fmean(math.log(theirs[clock]) for theirs in round_copies)
        for mine, *round_copies in zip(times, *copies, strict=True)
    )
