"""A study proposes the same on processors that round differently."""

from __future__ import annotations

import numpy as np

from nas_attn.model.functions import Function
from nas_attn.searching.propose.candidates import Beliefs

# one site: the first choice has the first value
FIRST = np.zeros(1, dtype=np.intp)


def test_values_that_only_rounding_tells_apart_are_equal() -> None:
    exact = np.array([3.0, 0.1 + 0.2, -5e-4, 3.0, 0.0])
    nearly = exact * (1 + np.array([4e-16, -4e-16, 1e-14, -1e-12, 0.0]))
    codes = np.arange(5)[:, None]
    first = Beliefs([Function(FIRST, 0.0, exact)]).values(codes)
    second = Beliefs([Function(FIRST, 0.0, nearly)]).values(codes)
    assert first.tolist() == second.tolist()
    assert first[0] == first[3]
    assert np.allclose(first[:, 0], exact, rtol=0, atol=1e-6)
    assert first[2] < first[4], "what differs stays apart"
