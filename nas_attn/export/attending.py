"""How a file that stands alone puts attention into its backbone. It is written out into that file."""

from __future__ import annotations

from typing import Any

from torch import nn


def attend(
    model: nn.Module, path: str, *modules: nn.Module, instead: bool = False, bases: tuple[type, ...] = ()
) -> None:
    """Sends the output of the module at `path` through attention from now on, in turn.

    The module keeps its place and the names of its parameters; the attention is its child `nas_attn`.

    Args:
        instead: its input goes there, and the module itself is left out.
        bases: what hides the attention from a container that runs its children in turn.
    """
    host = model.get_submodule(path)
    bare: Any = type(host)

    class Attended(*bases, bare):  # type: ignore[misc]
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            attention = self._modules["nas_attn"]
            return attention(*args, **kwargs) if instead else attention(bare.forward(self, *args, **kwargs))

    nn.Module.add_module(host, "nas_attn", nn.Sequential(*modules))
    host.__class__ = Attended
