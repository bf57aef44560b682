"""A study's latencies: chooses the candidates of each session, and decides when a latency is known
well enough.
"""

from __future__ import annotations

import json
import math
import random
import warnings
import zlib
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from statistics import median_high

from pydantic import TypeAdapter
from torch import Tensor, nn

from nas_attn.errors import MeasurementError, NasAttnWarning, Unmeasurable
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.machine import difference, fingerprint
from nas_attn.latency.nets import Net
from nas_attn.latency.paired import MAX_CANDIDATES
from nas_attn.latency.ratios import estimate, open_keys, suspicious, with_predictions
from nas_attn.latency.session import candidate_name, check, run_session
from nas_attn.space.placement import BARE, Placement, ResolvedPlacement
from nas_attn.storage.records import Fingerprint, Latency, Session
from nas_attn.storage.store import StudyStore
from nas_attn.system.waiting import Interrupted, Wait
from nas_attn.training.plan import Plan

# before each session of a first estimate, for a busy machine
PAUSES_S = (
    0.0,
    0.0,
    0.0,
    2.0,
    5.0,
    10.0,
    20.0,
)
# after so many sessions, a latency that looks wrong is accepted
AGAIN = 4
# built models kept for later sessions
MODELS_KEPT = 24


@dataclass
class Measurer:
    """Runs latency sessions for one study on this machine. Making one raises MeasurementError: the
    device or a package is missing, or the backbone does not run in this mode.
    """

    plan: Plan
    store: StudyStore
    # the worker, which the sessions name
    owner: str
    # calibrate a quantized mode
    images: Tensor | None = None

    def __post_init__(self) -> None:
        self._section = self.plan.recipe.latency
        self._random = random.Random(zlib.crc32(self.owner.encode()))
        self._models: OrderedDict[str, nn.Module] = OrderedDict()
        self._nets: dict[str, Net] = {}
        self._estimated: tuple[list[Session], dict[str, Latency]] = [], {}
        self._lock = DeviceLock.for_section(self._section)
        self._here = fingerprint(self._section)
        self.store.set_fingerprint_once(to_text(self._here))
        if self.fits and self._section.row.costly and not self.store.sessions():
            bare = self._model(None)
            check(self._section, bare, self.plan.input_shape, self.images, self._nets)

    @property
    def fits(self) -> bool:
        """Whether the study's latencies belong to this machine, which can change at any time."""
        return self.store.fingerprint == to_text(self._here)

    @property
    def machine(self) -> str:
        """The machine that measures, for people here."""
        return machine_text(from_text(str(self.store.fingerprint)), self._here)

    def known(self, candidate: ResolvedPlacement) -> Latency | None:
        """The estimate of a candidate: measured, or predicted precisely enough by the study's
        additive model; else None.
        """
        limit = self.plan.recipe.limits.max_latency_ms
        if candidate.is_bare and limit and not self.store.sessions():
            # a limit in milliseconds means nothing without its own
            return None
        latency = self.latencies({candidate.key: candidate.placement}).get(candidate.key)
        if latency and not latency.measured and latency.half_width > self._section.tolerance:
            return None
        return latency

    def latencies(self, more: Mapping[str, Placement] | None = None) -> dict[str, Latency]:
        """Key -> estimate of all candidates and of `more`, measured or predicted."""
        placements = {row.key: row.placement for row in self.store.candidates()} | dict(more or {})
        sessions = self.store.sessions()
        if sessions != self._estimated[0]:
            self._estimated = sessions, estimate(sessions)
        bare = {key: self.bare() for key, placement in placements.items() if placement == BARE}
        return with_predictions(bare | self._estimated[1], placements)

    def measure(
        self, candidate: ResolvedPlacement, companions: Sequence[ResolvedPlacement]
    ) -> Latency | None:
        """The candidate's estimate, after sessions with companions, the neediest first. None:
        another machine has become the one that measures. Raises MeasurementError: the machine is
        too busy. Raises Unmeasurable: it, or the bare backbone, does not run. Raises Interrupted.
        """
        group = {r.key: r for r in [candidate, *companions][:MAX_CANDIDATES] if not r.is_bare}
        wait = Wait("a quiet moment to measure latency")
        # a session whose A/A check is off does not count
        for pause in (*PAUSES_S, None):
            latency = self.known(candidate)
            if latency is not None or not self.fits:
                return latency
            if pause is not None:
                wait.pause(pause, lambda: "the machine was too busy for a valid session")
                self._session(group, needed=candidate.key)
        raise MeasurementError(
            f"the latency of '{candidate.text}' could not be measured: several sessions in a row"
            " had two copies of the same network more than 1 % apart; free the machine of other"
            " work, or raise latency.session_seconds"
        )

    def narrow(
        self,
        candidates: Sequence[ResolvedPlacement],
        tolerance: float,
        count: int,
        stop: Callable[[], bool],
    ) -> None:
        """Runs sessions; candidates with the widest intervals come first.

        Args:
            candidates: the networks to measure; the bare one is the reference of all.
            tolerance: relative half-width of an interval that is narrow enough.
            count: number of sessions.
            stop: asked before each of them.
        """
        by_key = {r.key: r for r in candidates if not r.is_bare}
        with suppress(Interrupted):
            for _ in range(count):
                if stop() or not by_key:
                    return
                keys = self.open_keys(list(by_key), tolerance)
                # others fill free places, at little cost
                others = [key for key in by_key if key not in keys]
                self._random.shuffle(others)
                group = {key: by_key[key] for key in [*keys, *others][:MAX_CANDIDATES]}
                for faulty in self._session(group):
                    del by_key[faulty.network]
                    warnings.warn(
                        f"left out of the latency sessions: {faulty}", NasAttnWarning, stacklevel=2
                    )

    def open_keys(self, keys: Sequence[str], tolerance: float) -> list[str]:
        """Those that need another session: first suspicious ones, then those with the widest
        intervals.
        """
        sessions = self.store.sessions()
        wanted = open_keys(sessions, keys, tolerance=tolerance)
        latencies = estimate(sessions)
        odd = suspicious(latencies, {row.key: row.placement for row in self.store.candidates()})
        again = [key for key in odd if key in keys and latencies[key].sessions < AGAIN]
        return list(dict.fromkeys([*again, *wanted]))

    def bare(self) -> Latency:
        """The bare backbone: the ratio's own reference."""
        times = [session.reference_ms for session in self.store.sessions()]
        return Latency(1.0, 1.0, 1.0, median_high(times) if times else math.nan, len(times))

    def _session(self, group: dict[str, ResolvedPlacement], needed: str = "") -> list[Unmeasurable]:
        """Runs a session. Networks that do not run leave the group and are returned; for the
        `needed` one it raises.
        """
        faulty: list[Unmeasurable] = []
        while True:
            try:
                session = run_session(
                    self._section,
                    reference=self._model(None),
                    candidates={key: self._model(resolved) for key, resolved in group.items()},
                    input_shape=self.plan.input_shape,
                    own_shapes={key: self.plan.shape_of(one) for key, one in group.items()},
                    seed=self._random.getrandbits(31),
                    lock=self._lock,
                    kept=self._nets,
                    images=self.images,
                )
            except Unmeasurable as error:
                if error.network == needed or group.pop(error.network, None) is None:
                    raise
                faulty.append(error)
            else:
                self.store.add_session(session, owner=self.owner)
                return faulty

    def _model(self, resolved: ResolvedPlacement | None) -> nn.Module:
        key = resolved.key if resolved else ""
        if key not in self._models:
            self._models[key] = self.plan.network(resolved, 0) if resolved else self.plan.bare(0)
            while len(self._models) > MODELS_KEPT:
                dropped, _ = self._models.popitem(last=False)
                self._nets.pop(candidate_name(dropped), None)
        self._models.move_to_end(key)
        return self._models[key]


def machine_text(pinned: Fingerprint, here: Fingerprint) -> str:
    """The machine that measures a study; if this one has the same name, with the differences."""
    if pinned.name != here.name:
        return f"'{pinned.name}'"
    return f"'{pinned.name}' ({difference(pinned, here)})"


def to_text(fingerprint: Fingerprint) -> str:
    """A fingerprint as the study keeps it."""
    return json.dumps(asdict(fingerprint))


def from_text(text: str) -> Fingerprint:
    """The fingerprint that `to_text` wrote."""
    return TypeAdapter(Fingerprint).validate_json(text)
