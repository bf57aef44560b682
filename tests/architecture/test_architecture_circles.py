"""No file of the package needs itself through others, whichever kind of import is counted."""

from __future__ import annotations

from pathlib import Path

from own_imports import circles, named_modules, needs


def test_no_circle() -> None:
    assert circles(needs()) == []


def test_only_the_package_itself_and_its_tables_name_modules_in_text() -> None:
    """They load what is named when it is used."""
    assert set(named_modules()) <= {"nas_attn", "nas_attn.wiring"}


def test_every_kind_of_import_is_counted(tmp_path: Path) -> None:
    files = {
        "__init__": "",
        "top": "from nas_attn import typed",
        "typed": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import nas_attn.inside",
        "inside": "def f():\n    from nas_attn.named import g\n    return g",
        "named": 'HERE = "nas_attn"\nPATH = f"{HERE}.top:x"',
        "apart": '"""nas_attn.top"""\nimport logging\nlog = logging.getLogger("nas_attn.top")',
    }
    (tmp_path / "nas_attn").mkdir()
    for name, text in files.items():
        (tmp_path / "nas_attn" / f"{name}.py").write_text(text, "utf-8")
    ring = ["nas_attn.inside", "nas_attn.named", "nas_attn.top", "nas_attn.typed"]
    assert circles(needs(tmp_path)) == [ring]
    assert named_modules(tmp_path) == {"nas_attn.named": {"nas_attn.top"}}
