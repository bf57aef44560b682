"""The main road: photographs of one's own and what `init` writes, stopped and taken up, to the
exported network.
"""

from __future__ import annotations

import pytest
import torch
from answers import TINY, finished, kept_files, settings
from materials import photographs
from shell import Shell

from nas_attn import attach
from nas_attn.backbones import build
from nas_attn.recipe.recipe import BackboneSection


# nine processes, 40 s; `.ci/run` goes this way with `make quickstart`
@pytest.mark.slow
def test_photographs_with_the_space_that_init_writes(shell: Shell) -> None:
    photographs(shell.folder / "meine Fotos (größer)")
    said = shell.types(
        "init study.toml --data 'folder:meine Fotos (größer)' --backbone resnet8"
    ).out
    assert "next: nas-attn search study.toml --dry-run" in said
    assert 'space = "plug_and_play"' in (shell.folder / "study.toml").read_text()
    tiny = settings(TINY, data__size="16")
    before, trials = shell.files(), 6

    search = shell.begins(
        f"search study.toml --workers 1 --threads 1 --trials {trials} {tiny}"
    ).until("trial 2 ")
    stopped = search.ctrl_c().ends(130)
    assert "nas-attn resume study" in stopped.err
    assert "uniform se(" in stopped.out, "the front so far"

    ended = shell.types("resume --workers 1 --threads 1")
    for trial in ("trial 0 ", "trial 1 ", "trial 2 "):
        assert f"{trial}(" not in ended.err, "what is done is not done again"
    assert f"[{trials}/{trials} candidates" in ended.err
    answer = finished(shell, "study", trials=trials)
    assert any(word in ended.out for word in ("Take ", "Keep the bare backbone", "Train ")) == (
        answer["recommendation"] is not None
    )
    baselines = sum(c["baseline"] is not None for c in answer["candidates"])
    assert baselines == 4, (
        "the bare backbone, a larger one, and types for a third of the candidates"
    )
    kept_files(shell, answer)
    assert shell.files() == before | {"nas_attn.db", "nas_attn.artifacts", "study.html"}

    taken = [
        c
        for c in answer["candidates"]
        if c["state"] == "scored" and c["placement"].startswith("stage")
    ][-1]
    assert taken["placement"] in (shell.folder / "study.html").read_text()
    shell.types(f"export study --placement {taken['trial']}")
    exported = torch.load(shell.folder / "study.pt", weights_only=True)
    network = build(BackboneSection(name="resnet8", width=4), input_shape=(3, 16, 16), classes=3)
    attach(network, exported["notes"]["placement"], input_shape=(3, 16, 16))
    network.load_state_dict(exported["state_dict"])
