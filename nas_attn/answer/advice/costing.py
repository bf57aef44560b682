"""What candidates cost on this machine, as far as there is time: paired latency sessions, a few
networks at a time.
"""

from __future__ import annotations

import copy
import itertools
import time
from collections.abc import Sequence
from dataclasses import dataclass

from torch import nn

from nas_attn import attachment
from nas_attn.answer.advice.facts import (
    AdvisedPlacement,
    MeasuredPlacement,
    Question,
    RefusedPlacement,
)
from nas_attn.answer.advice.first_look import RoughTiming
from nas_attn.errors import Unmeasurable, first_line
from nas_attn.latency.locks import DeviceLock
from nas_attn.latency.nets import Net, example_input
from nas_attn.latency.paired import MAX_CANDIDATES
from nas_attn.latency.ratios import estimate
from nas_attn.latency.session import candidate_name, run_session
from nas_attn.space.placement import Site
from nas_attn.space.search_space import resolve
from nas_attn.storage.records import Session

INIT_OF_FORM = {"identity": "identity", "random": "paper"}
"""The evidence's form of a module -> `training.init`."""
CALLS = 12
"""Forward passes of a network in the shortest session, its preparation included, about."""
COSTLY_S = 4.0
"""To compile or export a network, about, before one has been."""
FIRST_COSTLY = 2
"""Candidates of the first session where networks are compiled or exported: it shows how long that
takes.
"""
WITH_REFERENCE = 2
"""The bare backbone is in a session twice."""
SAFETY = 1.2
"""A session may take so many times what it is expected to."""


@dataclass(frozen=True, slots=True)
class _Built:
    """A candidate's network."""

    candidate: AdvisedPlacement
    model: nn.Module
    forward_s: float


class CostMeasurement:
    """Measures candidates in one network until the time is over."""

    def __init__(self, model: nn.Module, sites: Sequence[Site], question: Question) -> None:
        """Times the bare backbone once. `sites`: all of the network, blocks included."""
        self.sessions: list[Session] = []
        self.too_slow: list[AdvisedPlacement] = []
        self.refused: list[RefusedPlacement] = []
        self._model = model
        self._sites = sites
        self._shape = question.input_shape
        self._section = question.section
        self._init = INIT_OF_FORM[question.setting.form]
        x = example_input(self._section, self._shape, 0).float().cpu()
        self._rough = RoughTiming(copy.deepcopy(model).eval(), x, self._section.threads)
        self._built: dict[str, _Built] = {}
        self._nets: dict[str, Net] = {}
        self._costly = self._section.row.costly
        # what sessions have taken, in times of what was expected
        self._pace = 1.0

    def measure(self, candidates: Sequence[AdvisedPlacement], until: float) -> None:
        """Runs sessions until this time (`time.monotonic`): first of those without one, the most
        promising first; then of those with the widest intervals.
        """
        waiting = list(candidates)
        lock = DeviceLock.for_section(self._section)
        for seed in itertools.count():
            group = self._next_group(waiting, until)
            if not group:
                return
            expected_s = self._session_s(group)
            began = time.monotonic()
            try:
                session = run_session(
                    self._section,
                    reference=self._model,
                    candidates={key: self._built[key].model for key in group},
                    input_shape=self._shape,
                    seed=seed,
                    lock=lock,
                    kept=self._nets,
                )
            except Unmeasurable as error:
                if error.network not in self._built:
                    raise
                refused = self._built.pop(error.network).candidate
                self.refused.append(RefusedPlacement(refused, error.reason))
                continue
            self.sessions.append(session)
            self._pace = (time.monotonic() - began) / expected_s

    def found(self, candidates: Sequence[AdvisedPlacement]) -> tuple[MeasuredPlacement, ...]:
        """The candidates that have a latency now, in the given order."""
        latencies = estimate(self.sessions)
        measured = {
            built.candidate: latencies[key]
            for key, built in self._built.items()
            if key in latencies
        }
        return tuple(
            MeasuredPlacement(candidate, measured[candidate])
            for candidate in candidates
            if candidate in measured
        )

    def _next_group(self, waiting: list[AdvisedPlacement], until: float) -> list[str]:
        """Keys of the networks of the next session, as many as there is time for. Takes what is
        built from `waiting`.
        """
        latencies = estimate(self.sessions)
        most = MAX_CANDIDATES if self.sessions or not self._costly else FIRST_COSTLY
        group = [key for key in self._built if key not in latencies]
        while waiting and len(group) < most:
            if not self._fits(group, until, unbuilt=1):
                break
            key = self._build(waiting.pop(0))
            if key is not None:
                group.append(key)
        wide = [
            key
            for key in self._built
            if key in latencies and latencies[key].half_width > self._section.tolerance
        ]
        wide.sort(key=lambda key: -latencies[key].half_width)
        chosen: list[str] = []
        for key in [*group, *wide][:most]:
            if self._fits([*chosen, key], until):
                chosen.append(key)
        return chosen

    def _fits(self, group: Sequence[str], until: float, *, unbuilt: int = 0) -> bool:
        left_s = until - time.monotonic()
        return SAFETY * self._pace * self._session_s(group, unbuilt) < left_s

    def _session_s(self, group: Sequence[str], unbuilt: int = 0) -> float:
        """Seconds of a session with these networks, about, and with so many that are not built yet,
        which count as the bare one.
        """
        forward_s = (WITH_REFERENCE + unbuilt) * self._rough.bare_s
        forward_s += sum(self._built[key].forward_s for key in group)
        new = [key for key in group if candidate_name(key) not in self._nets]
        preparing_s = COSTLY_S * (len(new) + unbuilt) if self._costly else 0.0
        return max(CALLS * forward_s, self._section.session_seconds) + preparing_s

    def _build(self, candidate: AdvisedPlacement) -> str | None:
        """The key of a candidate's network; None: it does not run, or is too slow."""
        try:
            resolved = resolve(candidate.placement, self._sites, init=self._init, strict=False)
            model = attachment.attach(copy.deepcopy(self._model), resolved).eval()
            forward_s = self._rough.seconds(model)
        except Exception as error:
            # whatever a network raises with a module in it
            self.refused.append(RefusedPlacement(candidate, first_line(error)))
            return None
        if forward_s is None:
            self.too_slow.append(candidate)
            return None
        self._built[resolved.key] = _Built(candidate, model, forward_s)
        return resolved.key
