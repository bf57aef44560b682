"""What trainings compute in: a rule by device, network and recipe. Nothing is timed, so that a seed
gives the same beside other work as on an idle machine.

| key of `[training]` | what `auto`, or no number, is |
|---|---|
| `precision` | `bfloat16` on a GPU that computes in it (compute capability 8.0 or later) |
| | `bfloat16` on an AMD CPU with AVX512-BF16, and on a CPU with AMX, unless the network has |
| | depthwise convolutions of up to 5 × 5 |
| | else `float32` |
| `memory_format` | `channels_last` |
| `execution` | `cuda-graph` on a GPU, if the optimizer has one kernel for all parameters and all |
| | batches have the same operations; `eager` for trainings of less than 100 steps |
| | else `eager` |
| `threads` | on a CPU: the worker's share of the cores that the process may use |
| `optimizer_arguments` | one kernel for all parameters (`fused`), if torch has one |

On a GPU of compute capability 8.0 or later, float32 convolutions round to TF32, as torch has it.
Reasons and figures: docs/benchmarks/brief-training.md.

Another precision changes a score as much as another seed does. So a study keeps its arithmetic for
each kind of device, and a run goes on in the one that it began with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from typing import Literal

import torch
from torch import nn

from nas_attn.errors import RecipeError, StorageError, StudyError
from nas_attn.latency.machine import cpu_name
from nas_attn.recipe import tasks
from nas_attn.recipe.purposes import SEARCH
from nas_attn.recipe.recipe import Recipe, TrainingSection
from nas_attn.recipe.task import Task
from nas_attn.storage.records import FILLED, Arithmetic
from nas_attn.storage.store import StudyStore
from nas_attn.system.processes import cores
from nas_attn.training.learnt import Learnt
from nas_attn.training.parameters import FUSED, fused_in

# side of the largest usual depthwise kernel: those of MobileNet and EfficientNet
USUAL_KERNEL = 5
# least compute capability of a GPU with TF32
AMPERE = 8
# least number of steps to record a CUDA graph, which takes as long as some tens of them
RECORDED_STEPS = 100
Execution = Literal["eager", "compile", "cuda-graph"]

PLAIN = Arithmetic("float32", "channels_last", "eager", "none", fused=False, batches=FILLED)
"""For scores that do not depend on a machine."""


def new_arithmetic(
    section: TrainingSection,
    task: Task,
    device: torch.device,
    *,
    bare: nn.Module | None = None,
) -> Arithmetic:
    """Gives what new trainings on a device compute in.

    Args:
        section: the recipe's `[training]`.
        task: what is learnt; not all tasks have batches of equal operations.
        device: the training device.
        bare: the backbone; None: one without depthwise convolutions.

    Raises:
        RecipeError: `section.execution` is not for this device.
    """
    precision = section.precision
    if precision == "auto":
        depthwise = bare is not None and has_depthwise(bare)
        precision = "bfloat16" if computes_bfloat16(device, depthwise=depthwise) else "float32"
    learnt: type[Learnt] = task.row.learnt()
    return Arithmetic(
        precision=precision,
        memory_format="contiguous" if section.memory_format == "contiguous" else "channels_last",
        execution=execution_on(section, device) if learnt.recordable else "eager",
        tf32=_tf32(device),
        fused=fused_in(section),
        batches=FILLED,
    )


def execution_on(section: TrainingSection, device: torch.device) -> Execution:
    """Gives how steps run on a device: compiling takes longer than a brief training, so that no
    rule chooses it.

    Raises RecipeError: `cuda-graph` without CUDA.
    """
    if section.execution == "auto":
        recorded = device.type == "cuda" and section.optimizer in FUSED
        return "cuda-graph" if recorded else "eager"
    if section.execution == "cuda-graph" and device.type != "cuda":
        raise RecipeError(
            f"training.execution = 'cuda-graph' needs a GPU, and this worker trains on '{device}': "
            "take the device cuda, or set training.execution = 'auto'"
        )
    return section.execution


def differs(arithmetic: Arithmetic, section: TrainingSection, device: torch.device) -> str:
    """Gives in what this machine does not compute as in an arithmetic; empty: nothing. A precision
    that the recipe names is computed everywhere, if slowly.
    """
    low = arithmetic.precision == "bfloat16" and section.precision == "auto"
    if low and not _has_bfloat16(device):
        return "bfloat16"
    if arithmetic.tf32 != _tf32(device):
        return "TF32"
    return "" if arithmetic.batches == FILLED else "the size of the last batch"


def computes_bfloat16(device: torch.device, *, depthwise: bool = False) -> bool:
    """Tells whether the rule takes bfloat16 on a device: a T4 or V100 only imitates it, slowly.

    On a CPU, instructions for it do not decide: an Intel Xeon without matrix units has them, and is
    slower; an AMD EPYC is faster, but not in small `depthwise` convolutions.
    """
    if not _has_bfloat16(device):
        return False
    if device.type == "cuda":
        return True
    return not depthwise and ("amx_bf16" in _capabilities() or "AMD" in cpu_name())


def _has_bfloat16(device: torch.device) -> bool:
    """Whether a device has instructions for bfloat16."""
    if device.type == "cuda":
        with nullcontext() if device.index is None else torch.cuda.device(device):
            return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    return device.type == "cpu" and not _capabilities().isdisjoint(("avx512_bf16", "amx_bf16"))


def _capabilities() -> set[str]:
    """The CPU's instruction sets."""
    found: dict[str, bool] = getattr(torch.cpu, "get_capabilities", dict)()
    return {name for name, there in found.items() if there}


def has_depthwise(network: nn.Module) -> bool:
    """Tells whether a network has depthwise convolutions of usual size. Larger ones are of
    networks, like ConvNeXt, whose time is elsewhere.
    """
    return any(
        m.groups == m.in_channels > 1 and 1 < max(m.kernel_size) <= USUAL_KERNEL
        for m in network.modules()
        if isinstance(m, nn.Conv2d)
    )


def _tf32(device: torch.device) -> Literal["none", "convolutions"]:
    """Which float32 operations torch rounds to TF32 on a device."""
    if device.type != "cuda" or not torch.cuda.is_available():
        return "none"
    return "convolutions" if torch.cuda.get_device_properties(device).major >= AMPERE else "none"


def threads_for(section: TrainingSection, asked: int | None = None, *, workers: int = 1) -> int:
    """Gives the intra-op threads of new trainings of each of several workers: those `asked` for,
    else the recipe's, else a share of the cores.
    """
    return asked or section.threads or cores_for(workers)


def cores_for(workers: int = 1) -> int:
    """Gives the cores for each of several workers: a share of those that this process may use, or
    of `$OMP_NUM_THREADS`.
    """
    share = cores() // workers
    variable = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0]
    if variable.isdigit() and int(variable):
        share = min(share, int(variable))
    return max(1, share)


@contextmanager
def intra_op_threads(threads: int | None) -> Iterator[None]:
    """Inside, torch has so many threads; None: as before. The number may be changed inside."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def study_arithmetic(
    store: StudyStore,
    recipe: Recipe,
    protocol: str,
    device: torch.device,
    bare: nn.Module,
) -> Arithmetic:
    """Reads what a study computes in on a kind of device, or decides it if no worker has done so
    yet.

    Args:
        store: the study.
        recipe: the recipe of the training protocol.
        protocol: its name.
        device: this worker's training device.
        bare: the backbone.

    Raises:
        StorageError: what the study has kept is damaged.
        StudyError: this machine cannot compute so.
        RecipeError: `training.execution` is not for this device.
    """
    # that of a study from before may have no protocol in its name
    name = device.type if protocol == SEARCH else f"{device.type} {protocol}"
    text = store.arithmetics.get(name)
    if text is None:
        new = new_arithmetic(recipe.training, tasks.of(recipe), device, bare=bare)
        text = store.arithmetics.put_once(name, new.text)
    try:
        agreed = Arithmetic.from_text(text)
    except (TypeError, ValueError) as error:
        raise StorageError(
            f"study '{store.name}' cannot be read (its arithmetic: {error}): restore the database"
            " from a backup"
        ) from None
    what = differs(agreed, recipe.training, device)
    if what:
        raise StudyError(
            f"study '{store.name}' is trained by machines of another kind, and this one differs"
            f" in {what}: use machines of one kind, or begin a study with training.precision ="
            " 'float32'"
        )
    return agreed
