from __future__ import annotations

import pytest
import torch

from training.augment import augment
from training.settings import NO_AUGMENTATION, Augmentation, Settings, change

ONE_AT_A_TIME = [
    ("rotation_degrees", 10.0),
    ("scale", 0.1),
    ("shear", 0.1),
    ("shift_pixels", 2.0),
    ("elastic_pixels", 1.0),
    ("stroke", 0.5),
    ("blur", 0.5),
    ("gain", 0.3),
    ("noise", 0.1),
]


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def images() -> torch.Tensor:
    """A ring and a bar, half strength, in the middle of the paper."""
    ring = torch.zeros(32, 32)
    ring[10:22, 10:22] = 0.5
    ring[13:19, 13:19] = 0
    bar = torch.zeros(32, 32)
    bar[8:24, 14:18] = 0.5
    return torch.stack([ring, bar]).unsqueeze(1)


def test_strength_zero_is_the_identity(images: torch.Tensor) -> None:
    torch.testing.assert_close(augment(images, NO_AUGMENTATION, generator()), images, atol=1e-5, rtol=0)


@pytest.mark.parametrize(("name", "value"), ONE_AT_A_TIME)
def test_each_setting_alone_changes_the_images(images: torch.Tensor, name: str, value: float) -> None:
    by = change(Settings(augmentation=NO_AUGMENTATION), {name: value}).augmentation
    assert not torch.allclose(augment(images, by, generator()), images, atol=1e-3)


def test_the_strongest_distortions_keep_shape_and_range(images: torch.Tensor) -> None:
    distorted = augment(images, Augmentation(45, 0.5, 0.5, 6, 4, 1, 1, 2, 1), generator())
    assert distorted.shape == images.shape
    assert distorted.min() >= 0
    assert distorted.max() <= 1


def test_the_same_generator_state_gives_the_same_images(images: torch.Tensor) -> None:
    first, again, other = (augment(images, Augmentation(), generator(seed)) for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_a_shift_stays_within_its_limit(images: torch.Tensor) -> None:
    by = change(Settings(augmentation=NO_AUGMENTATION), {"shift_pixels": 2.0}).augmentation
    many = augment(images[1:].expand(200, -1, -1, -1), by, generator())[:, 0]
    rows = many.sum(dim=2)
    centers = (rows * torch.arange(32)).sum(dim=1) / rows.sum(dim=1)
    farthest = (centers - 15.5).abs().max().item()
    assert 1.5 < farthest <= 2.001


def test_a_stroke_gets_thicker_and_thinner(images: torch.Tensor) -> None:
    by = change(Settings(augmentation=NO_AUGMENTATION), {"stroke": 1.0}).augmentation
    ink = augment(images[1:].expand(200, -1, -1, -1), by, generator()).sum(dim=(1, 2, 3))
    before = images[1].sum()
    assert ink.max() > 1.4 * before
    assert ink.min() < 0.6 * before
