"""The arithmetic of a study: decided once for each kind of device, by the first worker."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import nn

from nas_attn.data.dataset import Dataset
from nas_attn.errors import StorageError
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.reading import frozen_recipe
from nas_attn.recipe.recipe import Recipe, TrainingSection
from nas_attn.storage.records import FILLED, UNEVEN, Arithmetic
from nas_attn.storage.store import StudyStore
from nas_attn.system.notes import OtherArithmetic, warn
from nas_attn.training.arithmetic import possible
from nas_attn.training.trainer import new_arithmetic


@dataclass(frozen=True, slots=True)
class StudyArithmetic:
    """What the runs of one training protocol compute in on this worker's device."""

    # of the study, for this kind of device
    agreed: Arithmetic
    # the same, without what this machine cannot do
    here: Arithmetic

    @property
    def is_agreed(self) -> bool:
        """Whether this worker's runs are computed as the study's."""
        return self.here.comparable == self.agreed.comparable


def study_arithmetic(
    store: StudyStore,
    recipe: Recipe,
    protocol: str,
    device: torch.device,
    dataset: Dataset,
    bare: nn.Module,
) -> StudyArithmetic:
    """Reads what the study computes in, or decides it if no worker has done so yet; warns if this
    machine cannot do the same. `recipe`: of the training protocol.
    """
    name = _name(store, recipe.training, protocol, device)
    text = store.arithmetics.get(name)
    if text is None:
        batches = UNEVEN if store.settings.batches is None else FILLED
        new = new_arithmetic(recipe.training, dataset, device, bare=bare, batches=batches)
        text = store.arithmetics.put_once(name, new.text)
    agreed = read_arithmetic(store, text)
    arithmetic = StudyArithmetic(agreed, possible(agreed, recipe.training, device))
    if not arithmetic.is_agreed:
        warn(OtherArithmetic(agreed.precision, arithmetic.here.precision), stacklevel=2)
    return arithmetic


def read_arithmetic(store: StudyStore, text: str) -> Arithmetic:
    """Raises StorageError: the text is damaged."""
    try:
        return Arithmetic.from_text(text)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"study '{store.name}' cannot be read (its arithmetic: {error}): restore the database"
            " from a backup"
        ) from None


def _name(store: StudyStore, training: TrainingSection, protocol: str, device: torch.device) -> str:
    """The kind of device; with the protocol, if that decides otherwise than the study's own."""
    own = frozen_recipe(store.recipe, where=f"study '{store.name}'").training
    same = protocol == SEARCH or _deciding(own) == _deciding(training)
    return device.type if same else f"{device.type} {protocol}"


def _deciding(training: TrainingSection) -> tuple[object, ...]:
    """The settings of a recipe that decide an arithmetic."""
    arguments = training.optimizer_arguments or {}
    kernels = arguments.get("fused"), arguments.get("foreach")
    return training.precision, training.execution, training.optimizer, kernels
