"""The table of modules and runtimes: complete, and the page is the one that it gives."""

from __future__ import annotations

from conftest import ROOT, load_script

from nas_attn.attention import catalogue, runtimes


def test_every_module_was_measured_in_every_runtime() -> None:
    table = runtimes.load()
    assert {"torch", "onnxruntime", "openvino", "ncnn", "litert"} <= set(table)
    for column in table.values():
        assert set(column["cells"]) == set(catalogue.ROWS)


def test_page_is_current() -> None:
    script = load_script(ROOT / "benchmarks" / "runtimes.py")
    assert (ROOT / "docs" / "reference" / "runtimes.md").read_text("utf-8") == script.page(runtimes.load())
