"""Where images come from: the function that reads a data set, ours or a user's own."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from nas_attn.data import own
from nas_attn.errors import DataError, did_you_mean
from nas_attn.recipe.tables import DATA_SETS, Kind, Load, data_sets_with, find_data_set


def reader(name: str, kind: Kind) -> Callable[..., Any]:
    """The function that reads a data set with such labels; DataError if there is none."""
    row = find_data_set(name)
    if row is None:
        raise DataError(f"unknown data set '{name}': {did_you_mean(name, data_sets_with(kind))}")
    load: Load | None = getattr(row, kind)
    source, _, place = name.partition(":")
    if row.name not in DATA_SETS and not place.replace(".", "_").isidentifier():
        # a path, which no function of the user's is called
        prefixes = [
            data_set.partition(":")[0] for data_set in data_sets_with(kind) if ":" in data_set
        ]
        raise DataError(
            f"data.name = '{name}': '{source}:' is not known before a path:"
            f" {did_you_mean(source, prefixes)}"
        )
    if load is None:
        raise DataError(f"'{name}' has no {kind}: give {', '.join(data_sets_with(kind))}")
    function = load()
    if "split" in inspect.signature(function).parameters:
        # A user's own torch.utils.data.Dataset.
        return partial(own.read, function, kind)
    return function
