"""Pickles of networks with attention: whole, and without a name that a reader would have to import or install."""

from __future__ import annotations

import copy
import io
import pickle
import pickletools
import subprocess
import sys
from pathlib import Path

import torch
from attachment_models import placed
from torch import Tensor, nn

from nas_attn.attachment import attach, attached_modules
from nas_attn.attention import catalogue
from nas_attn.records import Choice, Point

WITHOUT = """
import sys
import torch

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "nas_attn":
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)

sys.meta_path.insert(0, Missing())
try:
    torch.load(sys.argv[1], weights_only=False)
except ModuleNotFoundError as error:
    print("import of", error.name)
except Exception as error:
    print(error)
"""


def network() -> nn.Module:
    """One layer with every module of the catalogue behind it."""
    model = nn.Sequential(nn.Conv2d(3, 32, 1), nn.BatchNorm2d(32))
    kinds = [Choice(name) for name in catalogue.ROWS]
    return attach(model, placed([Point("1", 32, 14, 14)], *kinds)).eval()


def read_here(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    copied: nn.Module = torch.load(io.BytesIO(file.getvalue()), weights_only=False)  # written above
    return copied


def test_every_module_comes_back_as_it_was() -> None:
    model = network()
    x = torch.rand(2, 3, 14, 14)
    want: Tensor = model(x)
    for again in (read_here(model), copy.deepcopy(model), read_here(read_here(model))):
        assert torch.equal(again(x), want)
        assert list(again.state_dict()) == list(model.state_dict())
        assert [type(m) for m in attached_modules(again).values()] == [
            type(m) for m in attached_modules(model).values()
        ]


def test_nothing_of_this_package_is_imported_by_name() -> None:
    file = io.BytesIO(pickle.dumps(network(), protocol=2))
    named = [argument for code, argument, _ in pickletools.genops(file) if code.name == "GLOBAL"]
    assert named
    assert not [name for name in named if name.startswith("nas_attn")]


def test_without_this_package_a_file_is_refused_with_its_name(tmp_path: Path) -> None:
    torch.save(network(), tmp_path / "net.pt")
    done = subprocess.run(
        [sys.executable, "-c", WITHOUT, str(tmp_path / "net.pt")], capture_output=True, text=True, check=True
    )
    assert "nas_attn: this file needs it" in done.stdout
    assert "import of" not in done.stdout
