"""Packages whose networks need more than attention in their place.

Such a package has a row in `nas_attn.wiring`, which names a class like this:

    class Builders(HostPackage):
        def refuse(self, model):
            if isinstance(model, builders.Wrapper):
                raise BackboneError("Wrapper is around a network: give its .model")

        def attached(self, model, resolved):
            model.config["nas_attn"] = resolved.text

        def detached(self, model):
            model.config.pop("nas_attn", None)

        def unpickled(self):
            pass

The class is loaded when a model comes whose class, or a base of it, is from the package. It may
note what it is told, and change the model that it is given. It changes nothing of the package
itself: a user who wants that calls a function for it.
"""

from abc import ABC, abstractmethod

from nas_attn.recipe.tables import INTEGRATIONS
from nas_attn.space.placement import ResolvedPlacement


class HostPackage(ABC):
    """What a package is told of its models."""

    @abstractmethod
    def refuse(self, model: object) -> None:
        """Raises BackboneError, with the way out, for an object that cannot take attention."""

    @abstractmethod
    def attached(self, model: object, resolved: ResolvedPlacement) -> None:
        """Is called when attention was attached to a model."""

    @abstractmethod
    def detached(self, model: object) -> None:
        """Is called when the attention of a model was removed."""

    @abstractmethod
    def unpickled(self) -> None:
        """Is called when a file is read that holds a model with attention."""


def host_packages(kind: type) -> list[HostPackage]:
    """Those of a model's class and its bases."""
    names = dict.fromkeys(cls.__module__.partition(".")[0] for cls in kind.__mro__)
    return [INTEGRATIONS[name].host()() for name in names if name in INTEGRATIONS]
