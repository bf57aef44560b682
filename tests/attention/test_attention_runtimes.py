"""The table of modules and runtimes: complete, and the page is the one that it gives."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from nas_attn.attention import catalogue

ROOT = Path(__file__).parents[2]


def test_every_module_was_measured_in_every_runtime_and_the_page_is_current() -> None:
    table, _ = catalogue.runtimes()
    assert {"torch", "onnxruntime", "openvino", "ncnn", "litert"} <= set(table)
    for column in table.values():
        assert set(column["cells"]) == set(catalogue.ROWS) - set(catalogue.CONTROLS)
    spec = importlib.util.spec_from_file_location("runtimes_script", ROOT / "benchmarks" / "runtimes.py")
    assert spec is not None
    assert spec.loader is not None
    script = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(script)
    assert (ROOT / "docs" / "reference" / "runtimes.md").read_text("utf-8") == script.page()
