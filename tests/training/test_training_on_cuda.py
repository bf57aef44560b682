"""What training does only on CUDA, without a GPU: on CUDA tensors without values, and with torch's
answers about a GPU replaced.
"""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.optim import adagrad

from nas_attn.recipe import TrainingSection
from nas_attn.training.parameters import make_optimizer
from nas_attn.training.stepping import execution_on

CUDA = torch.device("cuda")


def test_adagrad_steps_on_cuda_where_torch_has_no_fused_kernel_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    refusing = partial(adagrad._device_dtype_check_for_fused, cuda_unsupported=True)
    monkeypatch.setattr(adagrad, "_device_dtype_check_for_fused", refusing)  # as torch 2.11 does
    section = TrainingSection(optimizer="Adagrad")
    with FakeTensorMode(allow_non_fake_inputs=True):
        network = nn.Linear(3, 2, device="cuda")
        optimizer = make_optimizer(network, section, (), 1.0)
        assert optimizer is not None
        for parameter in network.parameters():
            parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
    # its count of steps is on the host: a recorded step would never count on
    assert execution_on(section, CUDA) == "eager"
    assert execution_on(TrainingSection(optimizer="AdamW"), CUDA) == "cuda-graph"
