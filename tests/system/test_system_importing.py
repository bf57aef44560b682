"""How an error says that an extra is installed."""

from __future__ import annotations

import json
import re
from importlib import metadata
from pathlib import Path

import pytest

from nas_attn.system.importing import installing


@pytest.fixture
def installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The metadata of nas_attn as pip writes them, found before those of this environment."""
    info = tmp_path / "nas_attn-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: nas-attn\nVersion: 0.1.0\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert metadata.distribution("nas-attn").locate_file("") == tmp_path
    return info


def test_an_extra_is_installed_from_where_nas_attn_came(installed: Path, tmp_path: Path) -> None:
    clone = tmp_path / "my clone"
    clone.mkdir()
    kept = {"url": clone.as_uri(), "dir_info": {"editable": True}}
    (installed / "direct_url.json").write_text(json.dumps(kept))
    command = re.fullmatch(r"pip install '(.+)\[onnx\]'", installing("onnx"))
    assert command is not None
    assert Path(command[1]) == clone


def test_without_an_origin_the_name_is_all_that_is_known(installed: Path) -> None:
    assert installed.is_dir()
    assert installing("timm") == "pip install 'nas-attn[timm]'"
