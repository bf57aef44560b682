"""Rows: knobs checked, made explicit for a shape, counted; modules built from them, ours and
others'.
"""

from __future__ import annotations

import inspect
import math
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest
import torch
from attention_asking import FAST, ROWS, asked, sizes
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from benchmarks import runtimes
from nas_attn import attention
from nas_attn.attention import catalogue
from nas_attn.attention.choice import INITS, Choice, Knob
from nas_attn.attention.knobs import Groups
from nas_attn.attention.row import Row
from nas_attn.errors import KnobError, NasAttnWarning


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
def test_a_class_tells_its_title_its_paper_its_start_and_its_knobs(row: Row) -> None:
    assert row.paper, "its docstring has no line `Paper:`"
    assert "Start: " in (row.load().__doc__ or "")
    assert all(knob.doc for knob in row.knobs)
    for knob in row.knobs:
        assert knob.choices or knob.kind is bool or math.isfinite(knob.limits.high)
    parameters = inspect.signature(row.load()).parameters
    keywords = {n: p for n, p in parameters.items() if p.kind is inspect.Parameter.KEYWORD_ONLY}
    assert [n for n in parameters if n not in keywords] == ["channels"]
    assert keywords.pop("init").default == "paper"
    keywords = {n: p for n, p in keywords.items() if n not in ("height", "width")}
    assert list(keywords) == [k.name for k in row.knobs if not k.preset]


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
@FAST
@given(data=st.data(), size=sizes(), init=st.sampled_from(INITS))
def test_costs_counted_on_shapes_alone_are_those_of_the_module(
    row: Row, data: st.DataObject, size: Any, init: Any
) -> None:
    knobs = row.resolve(data.draw(asked(row)), *size, strict=False, init=init)
    assert [name for name, _ in knobs] == [k.name for k in row.knobs if not k.preset]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert row.resolve(knobs, *size, strict=True, init=init) == knobs
    choice = Choice(row.name, knobs)
    module = catalogue.build(choice, *size, init=init).eval()
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        y = module(torch.zeros(1, *size))
    assert y.shape == (1, *size)
    parameters = sum(p.numel() for p in module.parameters())
    macs = counter.get_total_flops() // 2
    assert catalogue.cost(choice, *size, init=init) == (parameters, macs)


@pytest.mark.parametrize("row", ROWS, ids=lambda r: r.name)
@FAST
@given(data=st.data(), size=sizes())
def test_equal_knobs_and_only_they_build_equal_networks(
    row: Row, data: st.DataObject, size: Any
) -> None:
    first, second = (row.resolve(data.draw(asked(row)), *size, strict=False) for _ in range(2))
    prints = [fingerprint(row, knobs, size) for knobs in (first, second)]
    assert (first == second) == (prints[0] == prints[1])


def fingerprint(row: Row, knobs: Any, size: tuple[int, int, int]) -> Any:
    """Shapes of the parameters, and the settings that layers and module hold."""
    module = catalogue.build(Choice(row.name, knobs), *size)
    settings_ = [
        {k: v for k, v in vars(m).items() if isinstance(v, int | float | str | tuple)}
        for m in module.modules()
    ]
    return [(n, tuple(p.shape)) for n, p in module.state_dict().items()], settings_


def test_wrong_knobs_are_one_sentence() -> None:
    wrong: dict[type, Any] = {int: 2.5, float: "high", bool: 1, str: 3}
    for row in ROWS:
        for name, value in [
            ("nonsense", 1),
            *((knob.name, wrong[knob.kind]) for knob in row.knobs),
        ]:
            with pytest.raises(KnobError, match=f"^{row.name}: .*{name}") as error:
                row.check(name, value)
            assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("name", "channels", "knobs", "message"),
    [
        ("se", 16, {"reduction": 32}, "se: reduction=32 leaves .* the largest possible is 16"),
        ("se", 16, {"reducton": 4}, "se: unknown knob 'reducton': did you mean 'reduction'"),
        (
            "eca",
            16,
            {"kernel_size": 4},
            "eca: kernel_size=4 is even .* nearest possible are 3 and 5",
        ),
        ("eca", 2, {"kernel_size": 9}, "the largest possible is 3"),
        (
            "psa",
            16,
            {"layout": "paralel"},
            "psa: unknown layout 'paralel': did you mean 'parallel'",
        ),
        ("coord", 16, {"reduction": 17}, "coord: reduction=17 is more than the 16 channels"),
        (
            "ela",
            64,
            {"variant": "T", "kernel_size": 7},
            "ela: variant=T means kernel_size=5 .* leave one out",
        ),
        ("ela", 64, {"variant": "t"}, "ela: unknown variant 't'"),
        ("sse", 16, {}, "unknown attention type 'sse': did you mean 'se'"),
        (
            "nowhere.at_all:Module",
            16,
            {},
            "attention type 'nowhere.at_all:Module': importing 'nowhere.at_all' failed",
        ),
        (
            "torch.nn:relu",
            16,
            {},
            "attention type 'torch.nn:relu': 'torch.nn' has no 'relu': did you mean",
        ),
        ("torch.nn:", 16, {}, "attention type 'torch.nn:'"),
        (
            "math:gcd",
            16,
            {},
            "'math:gcd' is not a subclass of torch.nn.Module, but builtin_function_or_method",
        ),
        (
            "torch.nn:Bilinear",
            16,
            {},
            "torch.nn:Bilinear does not work on 16 channels: TypeError: ",
        ),
    ],
)
def test_what_cannot_be_is_refused(
    name: str, channels: int, knobs: dict[str, Any], message: str
) -> None:
    with pytest.raises(KnobError, match=message):
        attention.create(name, channels, **knobs)


def test_groups_that_do_not_divide_a_knob_named_twice_and_an_unknown_start_are_said() -> None:
    with pytest.warns(NasAttnWarning, match="norm_groups=32 .*48 .*norm_groups=24"):
        module = attention.create("ela", 48, norm_groups=32)
    assert module.norm_h.num_groups == 24
    with pytest.warns(NasAttnWarning, match="variant=T has norm_groups=32"):
        attention.create("ela", 16, variant="T")
    with pytest.raises(KnobError, match=r"reduction .* 4 and as 8"):
        catalogue.build(Choice("se", (("reduction", 4), ("reduction", 8))), 16, 4, 4)
    with pytest.raises(KnobError, match="'Identity'"):
        attention.create("se", 16, init="Identity")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "channels", "knobs", "canonical"),
    [
        ("eca", 128, {}, {"kernel_size": 5}),
        ("eca", 64, {}, {"kernel_size": 3}),
        ("ela", 64, {"variant": "T"}, {"kernel_size": 5, "groups": 64, "norm_groups": 32}),
        ("ela", 64, {"variant": "L"}, {"kernel_size": 7, "groups": 8, "norm_groups": 16}),
        ("ela", 16, {"variant": "T"}, {"kernel_size": 5, "groups": 16, "norm_groups": 16}),
        ("se", 16, {"reduction": 6}, {"reduction": 8}),
        ("coord", 23, {"reduction": 32}, {"reduction": 3}),
        ("coord", 256, {}, {"reduction": 32}),
    ],
)
def test_canonical_form(
    name: str, channels: int, knobs: dict[str, Any], canonical: dict[str, Any]
) -> None:
    resolved = dict(catalogue.find(name).resolve(knobs, channels, 14, 14, strict=False))
    assert {k: resolved[k] for k in canonical} == canonical
    assert "variant" not in resolved


def test_a_map_given_by_one_side_is_square() -> None:
    tables = attention.create("mhsa", 8, height=5)
    assert tables.row_table.shape == tables.column_table.shape == (9, 2)
    with pytest.raises(KnobError, match="mhsa: height=0"):
        attention.create("mhsa", 8, height=0)


class Scale(nn.Module):
    """One factor per channel.

    As a user would write it.

    Args:
        start: the factors before training.
        mode: whether they are
            doubled.
    """

    def __init__(
        self,
        channels: int,
        *,
        start: float = 0.5,
        mode: Literal["plain", "double"] = "plain",
        groups: Groups = 4,
    ) -> None:
        super().__init__()
        self.groups = groups
        factor = start * (2 if mode == "double" else 1)
        self.factor = nn.Parameter(torch.full((channels, 1, 1), factor))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.factor


@pytest.fixture
def foreign() -> Iterator[str]:
    sys.modules["strange_modules"] = module = type(sys)("strange_modules")
    module.Scale = Scale  # type: ignore[attr-defined]
    yield "strange_modules:Scale"
    del sys.modules["strange_modules"]


def test_a_foreign_module_joins_by_path(foreign: str) -> None:
    row = catalogue.find(foreign)
    assert row.title == "One factor per channel."
    assert [knob.doc for knob in row.knobs] == [
        "the factors before training.",
        "whether they are doubled.",
        "",
    ]
    asked: dict[str, Knob] = {"mode": "double", "groups": 3}
    knobs = row.resolve(asked, 8, 4, 4, strict=False)
    assert knobs == (("start", 0.5), ("mode", "double"), ("groups", 2))
    with pytest.raises(KnobError, match="groups=0 is not possible, it must be 1 to 65536"):
        row.check("groups", 0)
    assert catalogue.cost(Choice(foreign, knobs), 8, 4, 4).parameters == 8
    assert catalogue.cost(Choice(foreign), 8, 4, 4, init="identity").parameters == 9
    x = torch.randn(2, 8, 4, 4)
    assert torch.equal(attention.create(foreign, 8, mode="double")(x), x)
    assert torch.equal(attention.create(foreign, 8, init="identity")(x), x)
    with pytest.raises(KnobError, match=r"'strat': .*'start'"):
        attention.create(foreign, 8, strat=1.0)
    with pytest.raises(KnobError, match=r"'duble': .*'double'"):
        attention.create(foreign, 8, mode="duble")


def test_a_foreign_module_joins_by_entry_point(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "strange-1.0.dist-info"
    folder.mkdir()
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: strange\nVersion: 1.0\n")
    (folder / "entry_points.txt").write_text("[nas_attn.attention]\nstrange = strange:Strange\n")
    (tmp_path / "strange.py").write_text(
        "from torch import nn\n"
        "class Strange(nn.Module):\n"
        "    def __init__(self, channels, *, offset=1.0, height, init='paper'):\n"
        "        super().__init__()\n"
        "        self.offset = 0.0 if init == 'identity' else offset * height\n"
        "    def forward(self, x):\n"
        "        return x + self.offset\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    x = torch.zeros(1, 4, 3, 5)
    assert (attention.create("strange", 4, height=3, offset=2)(x) == 6).all()
    assert torch.equal(attention.create("strange", 4, init="identity")(x), x)
    with pytest.raises(KnobError, match=r"'strnge': .*'strange'"):
        catalogue.find("strnge")


@pytest.mark.parametrize(
    ("name", "code", "message"),
    [
        (
            "broken",
            "raise KeyError('weights')",
            "attention type 'broken:Own': importing 'broken' failed with KeyError",
        ),
        (
            "pooled",
            "class Own(nn.AdaptiveAvgPool2d): ...",
            "pooled:Own must keep the shape (1, 16, 14, 14), but gives (1",
        ),
        (
            "listed",
            "class Own(nn.Identity):\n forward = lambda self, x: [x]",
            "listed:Own must keep the shape",
        ),
    ],
)
def test_what_a_module_of_the_working_folder_does_wrong_is_one_sentence(
    name: str, code: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / f"{name}.py").write_text(f"from torch import nn\n{code}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", sys.path[:])
    with pytest.raises(KnobError, match=f"^{re.escape(message)}"):
        attention.create(f"{name}:Own", 16)
    sys.modules.pop(name, None)


def test_naming_modules_loads_no_torch() -> None:
    code = (
        "import sys; from nas_attn import attention as a\n"
        "for name in a.catalogue.ROWS: a.catalogue.find(name)\n"
        "assert 'torch' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_every_module_was_measured_in_every_runtime_and_the_page_is_current() -> None:
    root = Path(__file__).parents[2]
    table, _ = runtimes.measured()
    assert {"torch", "onnxruntime", "openvino", "ncnn", "litert"} <= set(table)
    for column in table.values():
        assert set(column["cells"]) <= set(catalogue.ROWS) - set(catalogue.CONTROLS), (
            "a new one can wait"
        )
    page = root / "docs" / "reference" / "runtimes.md"
    assert page.read_text("utf-8") == runtimes.page()


def test_each_result_in_a_runtime_is_told_with_its_own_version() -> None:
    table, _ = runtimes.measured()
    for (runtime, column), sentence in zip(table.items(), runtimes.measured_with(), strict=True):
        assert sentence.startswith(f"{runtime} {column['version']} on {column['date']}")
        for name, cell in column["cells"].items():
            told = re.search(
                rf"\b{name}\b[\w, ]* with {re.escape(cell.get('version', '?'))}", sentence
            )
            assert (told is not None) == ("version" in cell)


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 32, 64, 96, 128, 2048])
def test_gc_leaves_its_layer_norm_several_hidden_values_by_itself(channels: int) -> None:
    row = catalogue.find("gc")
    reduction = dict(row.resolve({}, channels, 7, 7))["reduction"]
    assert isinstance(reduction, int)
    assert channels // reduction >= min(4, channels)
    if channels >= 64:
        assert reduction == 16, "the paper's"
    asked = {"reduction": max(1, channels // 2)}
    given = dict(row.resolve(asked, channels, 7, 7))
    assert given["reduction"] == asked["reduction"], "asked for by name, two are possible"


@pytest.mark.parametrize("channels", [1, 2, 3, 7, 8, 32, 64, 96, 128, 2048])
def test_sge_never_takes_a_single_channel_for_a_group_by_itself(channels: int) -> None:
    row = catalogue.find("sge")
    groups = dict(row.resolve({}, channels, 7, 7))["groups"]
    assert isinstance(groups, int)
    assert channels % groups == 0
    assert groups <= 64
    assert channels // groups >= min(2, channels)
    if channels >= 128:
        assert groups == 64, "the paper's"
    single = {"groups": channels}
    assert dict(row.resolve(single, channels, 7, 7)) == single, "asked for by name, it is possible"
