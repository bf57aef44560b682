"""What every row of the catalogue promises, its equation included: a new row is tested from the day
it comes.
"""

from __future__ import annotations

import copy
import itertools
import math
from typing import Any

import attention_in_numpy
import numpy as np
import pytest
import torch
from attention_asking import FAST, ROWS, asked, choices, shake, sizes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn import functional

from nas_attn import attention
from nas_attn.attention import catalogue
from nas_attn.attention.choice import INITS, Choice
from nas_attn.attention.gates import adaptive_mean
from nas_attn.attention.row import Row

every_row = pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
# the forms differ in what scales the map at the end: of the large sums, one is enough each time
either_form = pytest.mark.parametrize(
    "init",
    [pytest.param(init, marks=pytest.mark.slow if init == "identity" else ()) for init in INITS],
)


def drawn(data: st.DataObject, row: Row, size: tuple[int, int, int], init: Any) -> nn.Module:
    """A module with some knobs that a search could name on this shape, random weights included."""
    knobs = row.resolve(data.draw(asked(row)), *size, strict=False, init=init)
    module = catalogue.build(Choice(row.name, knobs), *size, init=init)
    return shake(module, 7) if data.draw(st.booleans(), "random weights") else module


def image(batch: int, size: tuple[int, int, int], seed: int = 0) -> Tensor:
    return torch.randn(batch, *size, generator=torch.Generator().manual_seed(seed))


@every_row
@FAST
@given(
    data=st.data(),
    size=sizes(),
    batch=st.integers(1, 3),
    init=st.sampled_from(INITS),
    train=st.booleans(),
)
def test_shape_dtype_input_and_finiteness(
    row: Row, data: st.DataObject, size: Any, batch: int, init: Any, train: bool
) -> None:
    module = drawn(data, row, size, init).train(train)
    x = image(batch, size)
    if data.draw(st.booleans(), "constant map"):
        x = x.amax((2, 3), keepdim=True).expand_as(x).contiguous()
    x.requires_grad_()
    before = x.detach().clone()
    y = module(x)
    assert y.shape == x.shape
    assert y.dtype == x.dtype
    assert y.data_ptr() != x.data_ptr()
    (y * image(batch, size, 1)).sum().backward()
    assert torch.equal(x, before)
    assert x.grad is not None
    for value in (
        y,
        x.grad,
        *(p.grad for p in module.parameters() if p.grad is not None),
        *module.buffers(),
    ):
        assert torch.isfinite(value).all()


@every_row
@FAST
@given(data=st.data(), size=sizes(), init=st.sampled_from(INITS), autocast=st.booleans())
def test_bfloat16_in_bfloat16_out(
    row: Row, data: st.DataObject, size: Any, init: Any, autocast: bool
) -> None:
    module = drawn(data, row, size, init)
    if not autocast:
        module = module.bfloat16()
    x = image(2, size).bfloat16().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = module(x)
    y.float().sum().backward()
    assert y.dtype == torch.bfloat16
    assert x.grad is not None
    assert torch.isfinite(y).all()
    assert torch.isfinite(x.grad).all()


def grows_with_the_square_of_the_pixels(row: Row) -> bool:
    small, large = (catalogue.cost(Choice(row.name), 8, side, side).macs for side in (16, 32))
    return large > 8 * small


@every_row
@either_form
def test_float16_is_near_float32_on_large_maps(row: Row, init: Any) -> None:
    """As in automatic mixed precision or after `.half()`, on the first maps of a detector: a sum
    over all pixels leaves the range of float16.
    """
    light = row.family == "channel" or row.name in ("simam", "sge", "psa", "shuffle", "mlca")
    side = 512 if light else 128
    if grows_with_the_square_of_the_pixels(row):
        side = 32
    size = (8, side, side)
    x = (image(1, size) * 8 + 1).half()
    choices_tried = choices(row) if light else [{}]
    for knobs in choices_tried:
        choice = Choice(row.name, row.resolve(knobs, *size, strict=False, init=init))
        torch.manual_seed(0)
        module = catalogue.build(choice, *size, init=init).eval()
        with torch.no_grad():
            for p in module.parameters():
                fan_in = math.prod(p.shape[1:])
                p.add_(torch.randn_like(p) * 0.1 / fan_in**0.5)
            expected = module(x.float())
            halved = copy.deepcopy(module).half()(x)
            with torch.autocast("cpu", torch.float16):
                mixed = module(x)
        for y in (halved, mixed):
            assert y.dtype == torch.float16
            error = (y.float() - expected).abs().max() / expected.abs().max()
            assert error < 0.01, (knobs, error)


VALUES = {
    "zeros": lambda noise: noise * 0,
    "small": lambda noise: noise * 1e-3,
    "large": lambda noise: functional.relu(noise + 0.5) * 110,
}
"""A map by its noise: values as they are behind a ReLU, up to 400."""


OUT_OF_RANGE_IN_FILES = ("ema", "gct", "grn", "sge", "simam", "srm")
"""Traced in float16, they square values, or divide, in float16 (docs/how-to/own-model.md)."""
OUT_OF_RANGE = ("mhsa", "mqa")
"""Their products of queries and keys leave float16 where values are large (docs/how-to/own-model.md)."""


@every_row
@either_form
@pytest.mark.filterwarnings("ignore")  # the tracer's own
def test_float16_is_near_float32_for_usual_values(row: Row, init: Any) -> None:
    """Eager, under autocast, and traced for a file: squares, products and divisors can leave the
    range of float16.
    """
    size = (32, 28, 28)
    choice = Choice(row.name, row.resolve({}, *size, strict=False, init=init))
    torch.manual_seed(0)
    module = catalogue.build(choice, *size, init=init).eval()
    halved = copy.deepcopy(module).half()
    for name, values in VALUES.items():
        if name == "large" and row.name in OUT_OF_RANGE:
            continue
        x = values(image(1, size)).half()
        with torch.no_grad():
            expected = module(x.float())
            with torch.autocast("cpu", torch.float16):
                mixed = module(x)
            outputs = {"half": halved(x), "autocast": mixed}
            if row.name not in OUT_OF_RANGE_IN_FILES:
                traced = torch.jit.trace(halved, (x,), check_trace=False)
                outputs["traced"] = traced(x)
        for form, y in outputs.items():
            error = (y.float() - expected).abs().max()
            assert error <= 0.01 * expected.abs().max(), (form, name)


@every_row
def test_a_layer_behind_may_work_in_place(row: Row) -> None:
    for init, size, autocast in itertools.product(INITS, ((16, 5, 4), (64, 1, 1)), (False, True)):
        choice = Choice(row.name, row.resolve({}, *size, strict=False, init=init))
        module = shake(catalogue.build(choice, *size, init=init), 7)
        inputs = [image(8, size).requires_grad_() for _ in range(2)]
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            outputs = [
                nn.functional.relu(module(x), inplace=in_place)
                for x, in_place in zip(inputs, (True, False), strict=True)
            ]
        torch.testing.assert_close(*outputs)
        for y in outputs:
            y.float().sum().backward()
        assert inputs[0].grad is not None
        torch.testing.assert_close(inputs[0].grad, inputs[1].grad)


@every_row
@FAST
@given(data=st.data(), size=sizes(channels=24), init=st.sampled_from(INITS))
def test_memory_format_single_images_copies_and_restored_states(
    row: Row, data: st.DataObject, size: Any, init: Any
) -> None:
    """In evaluation: channels_last in and out, images that do not see each other, copies that share
    nothing.
    """
    knobs = row.resolve(data.draw(asked(row)), *size, strict=False, init=init)
    module, other = (
        catalogue.build(Choice(row.name, knobs), *size, init=init).eval() for _ in range(2)
    )
    x = image(3, size)
    other.load_state_dict(shake(module, 3).state_dict())
    y = module(x)
    assert y.is_contiguous()
    last = module(x.to(memory_format=torch.channels_last))
    assert last.is_contiguous(memory_format=torch.channels_last)
    alone = torch.cat([module(x[i : i + 1]) for i in range(3)])
    for again in (last, alone):
        torch.testing.assert_close(again, y, rtol=1e-4, atol=1e-5)
    twin = copy.deepcopy(module)
    assert torch.equal(other(x), y)
    assert torch.equal(twin(x), y)
    shake(twin, 4)
    assert torch.equal(module(x), y)


@every_row
@FAST
@given(data=st.data(), size=sizes(), batch=st.integers(1, 3), train=st.booleans())
def test_identity_start_is_the_identity(
    row: Row, data: st.DataObject, size: Any, batch: int, train: bool
) -> None:
    knobs = row.resolve(data.draw(asked(row)), *size, strict=False, init="identity")
    module = catalogue.build(Choice(row.name, knobs), *size, init="identity").train(train)
    x = image(batch, size)
    assert torch.equal(module(x), x)


WITHOUT_EFFECT = {
    "bam": {
        "channel.0.bias",
        "channel.3.bias",
        "spatial.0.bias",
        "spatial.3.bias",
        "spatial.6.bias",
        "spatial.9.bias",
    },
    "caa": {"columns.bias"},
    "coord": {"reduce.bias"},
    "gam": {"spatial.0.bias", "spatial.3.bias"},
    "gc": {"mask.bias"},
}
"""Published biases that a batch normalisation or a softmax behind them takes out again: their
gradient is rounding.
"""


@every_row
def test_training_reaches_every_parameter(row: Row) -> None:
    """With each choice that it offers: a gradient at the first step, on every parameter after one,
    and all of them move.
    """
    for knobs, init in itertools.product(choices(row), INITS):
        size = (64, 4, 3)
        torch.manual_seed(0)
        choice = Choice(row.name, row.resolve(knobs, *size, strict=False, init=init))
        module = catalogue.build(
            choice, *size, init=init
        ).double()  # a small step is not lost in rounding
        parameters = {
            n: p for n, p in module.named_parameters() if n not in WITHOUT_EFFECT.get(row.name, ())
        }
        if not parameters:
            continue
        before = {n: p.detach().clone() for n, p in parameters.items()}
        optimizer = torch.optim.SGD(module.parameters(), lr=0.1)
        x, target = image(8, size).double(), image(8, size, 1).double()
        for step in range(2):
            module.zero_grad()
            (module(x) - target).square().mean().backward()
            moving = {
                n for n, p in parameters.items() if p.grad is not None and p.grad.abs().max() > 0
            }
            assert moving if step == 0 else moving == set(parameters), (knobs, init)
            optimizer.step()
        assert all(not torch.equal(p, before[n]) for n, p in parameters.items()), (knobs, init)


@every_row
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
    knobs = row.resolve(data.draw(asked(row)), *size, strict=False, init=init)
    module = shake(catalogue.build(Choice(row.name, knobs), *size, init=init).double(), seed).train(
        train
    )
    parameters = {name: value.numpy().copy() for name, value in module.state_dict().items()}
    x = torch.randn(
        batch, *size, generator=torch.Generator().manual_seed(seed), dtype=torch.float64
    )
    with torch.no_grad():
        y = module(x).numpy()
    reading = getattr(attention_in_numpy, row.name)
    expected = reading(
        x.numpy(), parameters, {**dict(knobs), "identity": init == "identity"}, train
    )
    np.testing.assert_allclose(y, expected, rtol=1e-9, atol=1e-10)


SIDES = st.integers(1, 12)


@settings(max_examples=30, deadline=None)
@given(height=SIDES, width=SIDES, rows=SIDES, columns=SIDES, growing=st.booleans())
def test_it_is_torchs(height: int, width: int, rows: int, columns: int, growing: bool) -> None:
    x = torch.randn(
        2, 3, height, width, dtype=torch.float64, generator=torch.Generator().manual_seed(0)
    )
    inputs = [x.clone().requires_grad_() for _ in range(2)]
    outputs = [
        adaptive_mean(inputs[0], rows, columns, growing=growing),
        functional.adaptive_avg_pool2d(inputs[1], (rows, columns)),
    ]
    torch.testing.assert_close(*outputs)
    for y in outputs:
        y.square().sum().backward()
    torch.testing.assert_close(*(x.grad for x in inputs))


@pytest.mark.parametrize("mlp", [False, True])
@pytest.mark.parametrize("size", [(4, 4), (3, 9), (1, 1), (20, 31)])
def test_a_global_kernel_of_gather_excite_serves_maps_of_other_sizes(
    size: tuple[int, int], mlp: bool
) -> None:
    torch.manual_seed(0)
    module = attention.create(
        "ge", 6, height=7, width=5, gather="conv", mlp=mlp, reduction=2
    ).eval()
    channels = torch.randn(2, 6, 1, 1)
    x, other = channels.expand(2, 6, 7, 5), channels.expand(2, 6, *size).contiguous()
    torch.testing.assert_close(
        module(other), module(x)[:, :, :1, :1].expand_as(other), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("init", INITS)
def test_simam_keeps_the_dtype_of_its_image_under_cudas_autocast(
    init: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In float32, it would double the memory and the time of all layers up to the next
    convolution.
    """
    monkeypatch.setattr(torch.cuda.amp.common, "amp_definitely_not_available", lambda: False)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda **options: True)
    module = catalogue.create("simam", 8, height=4, width=4, init=init)
    with FakeTensorMode(allow_non_fake_inputs=True), torch.autocast("cuda", torch.bfloat16):
        x = torch.zeros(2, 8, 4, 4, device="cuda", dtype=torch.bfloat16)
        assert module.to("cuda")(x).dtype == torch.bfloat16
