"""The model of latency: what placements that were not measured take, and what each choice costs."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

import numpy as np
from numpy.typing import NDArray

from nas_attn.model.coding import Coding, Shape
from nas_attn.model.evidence import Effects, Solution, Sum, moments
from nas_attn.model.runs import MOST, Data
from nas_attn.records import Latency

Floats = NDArray[np.float64]
Measured = tuple[str, float, float]
"""(explicit notation, ratio to the bare backbone, half of its 95 % interval)."""

SHAPES = (
    Shape(0.4, site=0.5, type=0.498, own=0.002),
    Shape(0.3, site=0.98, own=0.02),
    Shape(0.2, site=0.49, type=0.49, own=0.02),
    Shape(0.1, site=0.4, type=0.4, pair=0.18, own=0.02),
)
"""Latencies are nearly sums over sites: R² of .98 to 1 on the machines that were measured."""
LEAST_MEASURED = 8
"""Measured candidates from which on the model speaks of others."""
OUTLIER = 4.0
"""Measurements this many standard deviations from what all others predict are suspicious."""
LEAST_HALF = 1e-3
"""Half of the interval of a ratio that a model takes for granted, as a share: none is known better."""


class LatencyModel:
    """The ratio of latencies as a sum over sites and types, pairs, and what fits neither; made by `latency_model`."""

    def __init__(self, measured: Sequence[Measured]) -> None:
        self._texts = [text for text, _, _ in measured]
        ratios = np.array([ratio for _, ratio, _ in measured])
        noise = np.array([max(half, LEAST_HALF * ratio) ** 2 for _, ratio, half in measured])
        weight = np.clip(noise / np.median(noise), 0.01, 100.0)
        data = Data.simple(*Coding.of(self._texts, len(measured)), np.arange(len(measured)), ratios, weight)
        self._solution = Solution(data, self._texts, SHAPES)

    def predict(self, texts: Sequence[str]) -> list[tuple[float, float]]:
        """(ratio, standard error) of placements, what is their own included; whether they were measured does not matter."""
        at = {text: i for i, text in enumerate(self._texts)}
        place = np.array([at.get(text, -1) for text in texts], dtype=np.intp)
        return self._moments(*Effects(self._solution, texts, place).marginals())

    def sums(self, sums: Sequence[Sum]) -> list[tuple[float, float]]:
        """(ratio, standard error) of weighted sums of what placements add to the bare backbone."""
        return self._moments(*self._solution.sums(sums))

    @property
    def outliers(self) -> list[int]:
        """Measurements that are far from what all others predict."""
        errors, sds = self._left_out
        return np.flatnonzero(np.abs(errors / sds) > OUTLIER).tolist()

    @property
    def cv_error(self) -> float:
        """Root mean square error of each measurement's prediction from all others."""
        return math.sqrt(float(np.mean(self._left_out[0] ** 2)))

    @cached_property
    def _left_out(self) -> tuple[Floats, Floats]:
        """(errors, their standard deviations) of predictions from all others, at the node of median noise."""
        nodes = self._solution.nodes
        node = int(np.argsort(nodes.noise)[len(nodes.noise) // 2])
        solved = self._solution.at(node)
        inverse = np.linalg.solve(solved.root, np.eye(len(solved.root)))
        down = np.linalg.solve(solved.inner, solved.means.T @ inverse)
        precision = inverse.T @ inverse - down.T @ down
        diagonal = np.diag(precision)
        return precision @ self._solution.data.value / diagonal, nodes.noise[node] / np.sqrt(diagonal)

    def _moments(self, means: Floats, variances: Floats) -> list[tuple[float, float]]:
        mean, sd = moments(self._solution.nodes.weight, means, variances)
        return list(zip(mean.tolist(), sd.tolist(), strict=True))


@lru_cache(maxsize=2)  # a report asks the same of it in several places
def _model(measured: tuple[Measured, ...]) -> LatencyModel:
    return LatencyModel(measured)


def latency_model(latencies: Mapping[str, Latency], texts: Mapping[str, str]) -> LatencyModel | None:
    """The model of measured latencies; None where too few were measured.

    Args:
        latencies: key -> latency; predictions are left out.
        texts: key -> explicit notation.
    """
    found = [
        (texts[key], latency.ratio, (latency.high - latency.low) / 2)
        for key, latency in latencies.items()
        if latency.measured and key in texts
    ]
    if len(found) < LEAST_MEASURED:
        return None
    if len(found) > MOST:
        found = [found[i] for i in np.linspace(0, len(found) - 1, MOST).astype(int)]
    return _model(tuple(found))


def with_predictions(latencies: Mapping[str, Latency], texts: Mapping[str, str]) -> dict[str, Latency]:
    """Latencies with what the model says of candidates that were not measured; unchanged while too few were.

    Args:
        latencies: key -> measured latency, the bare backbone's included.
        texts: key -> explicit notation of all candidates.
    """
    missing = sorted(texts.keys() - latencies.keys())
    model = latency_model(latencies, texts) if missing else None
    if model is None:
        return dict(latencies)
    reference_ms = next(iter(latencies.values())).reference_ms
    predicted = predicted_latencies(model, [texts[key] for key in missing], reference_ms)
    return {**latencies, **dict(zip(missing, predicted, strict=True))}


def predicted_latencies(model: LatencyModel, texts: Sequence[str], reference_ms: float) -> list[Latency]:
    """Latencies that were not measured: the model's ratios with their 95 % intervals."""
    found = []
    for ratio, error in model.predict(texts):
        low = max(ratio - 1.96 * error, 1e-3)
        high = max(ratio + 1.96 * error, low)
        found.append(Latency(max(ratio, low), low, high, reference_ms, sessions=0, measured=False))
    return found


def suspicious(latencies: Mapping[str, Latency], texts: Mapping[str, str]) -> list[str]:
    """Keys whose measured latency is far from what all others predict: worth measuring again. Empty while too few are."""
    keys = [key for key, latency in latencies.items() if latency.measured and key in texts]
    model = latency_model(latencies, texts) if len(keys) <= MOST else None
    return [] if model is None else [keys[index] for index in model.outliers]
