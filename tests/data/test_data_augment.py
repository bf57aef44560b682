"""Random numbers of augmentation."""

from __future__ import annotations

import pytest
import torch

from nas_attn.data.augment import Transformed, TransformedImages, named_steps, seeded
from nas_attn.data.pixels import Images
from nas_attn.errors import DataError
from nas_attn.recipe.protocol import Augment


def test_the_generators_of_gpus_are_as_before_afterwards(monkeypatch: pytest.MonkeyPatch) -> None:
    """Otherwise dropout on a GPU would draw the same mask after each batch with the same seed."""
    seeds = {0: 3, 1: 5}

    def seed_all(seed: int) -> None:
        seeds.update(dict.fromkeys(seeds, seed))

    def restore(state: torch.Tensor, device: int) -> None:
        seeds[device] = int(state)

    for name, stand_in in {
        "is_initialized": lambda: True,
        "_is_in_bad_fork": lambda: False,
        "device_count": lambda: len(seeds),
        "manual_seed_all": seed_all,
        "get_rng_state": lambda device: torch.tensor(seeds[device]),
        "set_rng_state": restore,
    }.items():
        monkeypatch.setattr(torch.cuda, name, stand_in)

    with seeded(12):
        inside = dict(seeds)
    assert inside[0] == inside[1] not in (3, 5)
    assert seeds == {0: 3, 1: 5}


def test_a_transform_in_the_training_process_leaves_dropout_its_generator() -> None:
    """One that cannot be pickled runs there where processes are not forked."""
    images = torch.zeros(4, 3, 8, 8, dtype=torch.uint8)
    transformed = Transformed(Images.of(images), None, masked=False, steps=(("noise", _noisy),))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    first, _ = transformed[0, 7]
    assert torch.equal(torch.get_rng_state(), before)
    again, _ = transformed[0, 7]
    assert torch.equal(first, again)
    assert not torch.equal(first, transformed[0, 8][0])


def _noisy(image: torch.Tensor) -> torch.Tensor:
    return image + torch.randint(0, 9, image.shape, dtype=torch.uint8)


class _Flip:
    """As a transform of albumentations, which is not installed here."""

    def __call__(self, *, image: object) -> object:
        return {"image": image}


_Flip.__module__ = "albumentations.augmentations.geometric"


def flip() -> _Flip:
    return _Flip()


def test_a_transform_that_takes_arrays_by_name_is_refused_with_the_way_out() -> None:
    made_for = TransformedImages(10, (32, 32), masked=False, mean=(0.5,))
    with pytest.raises(DataError, match=r"albumentations, .* torchvision's"):
        named_steps([Augment(name=f"{__name__}:flip")], made_for)
