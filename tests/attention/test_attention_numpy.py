"""Every module against its equation in NumPy, over random shapes, knobs, weights, forms and modes."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from attention_asking import FAST, ROWS, asked, shake, sizes
from attention_in_numpy import REFERENCES
from hypothesis import given
from hypothesis import strategies as st

from nas_attn.attention import catalogue
from nas_attn.attention.row import INITS, Row
from nas_attn.records import Choice


def test_every_row_has_a_reference() -> None:
    assert set(REFERENCES) == set(catalogue.ROWS)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
@FAST
@given(
    data=st.data(),
    size=sizes(channels=24, side=6),
    batch=st.integers(1, 3),
    init=st.sampled_from(INITS),
    train=st.booleans(),
    seed=st.integers(0, 2**16),
)
def test_module_computes_its_equation(
    row: Row, data: st.DataObject, size: Any, batch: int, init: Any, train: bool, seed: int
) -> None:
    knobs = row.resolve(data.draw(asked(row)), *size, strict=False, init=init).knobs
    module = shake(catalogue.build(Choice(row.name, knobs), *size, init=init).double(), seed).train(train)
    parameters = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    x = torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    with torch.no_grad():
        y = module(x).numpy()
    expected = REFERENCES[row.name](x.numpy(), parameters, {**dict(knobs), "identity": init == "identity"}, train)
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-10)
