"""Distort a batch of digits as handwriting varies: slant, size, place, wobble, pen and paper. All on tensors.

Affine and elastic distortions after P. Simard et al., "Best Practices for Convolutional Neural Networks
Applied to Visual Document Analysis", 2003, on the whole batch in a few tensor operations.
"""

from __future__ import annotations

from functools import cache
from math import radians
from typing import TYPE_CHECKING

import torch
from torch.nn import functional as F  # noqa: N812 - torch's own convention

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Generator, Tensor

    from training.settings import Augmentation


# Of the elastic field along each axis: about as far apart as the sigma (4 to 5 pixels) of Simard's smoothing.
_CONTROL_POINTS = 6


def augment(images: Tensor, by: Augmentation, generator: Generator) -> Tensor:
    """Return distorted `images`, (N, 1, H, W) float32 in 0..1 -> the same shape and range."""
    return _change_ink(_move_pixels(images, by, generator), by, generator)


def _move_pixels(images: Tensor, by: Augmentation, generator: Generator) -> Tensor:
    count, _, height, width = images.shape
    grid = F.affine_grid(_affine_maps(count, width, by, generator), [*images.shape], align_corners=False)
    if by.elastic_pixels:
        grid = grid + _elastic_field(count, height, width, by.elastic_pixels, generator)
    return F.grid_sample(images, grid, align_corners=False)


def _affine_maps(count: int, width: int, by: Augmentation, generator: Generator) -> Tensor:
    """Draw (N, 2, 3) maps from output to input coordinates, both -1..1 over the image."""

    def uniform(limit: float) -> Tensor:
        return (torch.rand(count, generator=generator) * 2 - 1) * limit

    angle = uniform(radians(by.rotation_degrees))
    scale_x, scale_y = 1 + uniform(by.scale), 1 + uniform(by.scale)
    shear = uniform(by.shear)
    shift_x, shift_y = (uniform(2 * by.shift_pixels / width) for _ in range(2))
    cos, sin = angle.cos(), angle.sin()
    rows = [
        torch.stack([scale_x * cos, scale_x * (shear * cos - sin), shift_x], dim=1),
        torch.stack([scale_y * sin, scale_y * (shear * sin + cos), shift_y], dim=1),
    ]
    return torch.stack(rows, dim=1)


def _elastic_field(count: int, height: int, width: int, pixels: float, generator: Generator) -> Tensor:
    """Draw a smooth (N, H, W, 2) displacement: random at a few control points, bicubic between them."""
    points = torch.randn(count, 2, _CONTROL_POINTS, _CONTROL_POINTS, generator=generator) * (
        2 * pixels / width
    )
    smooth = _bicubic(height) @ points @ _bicubic(width).T  # (N, 2, H, W)
    return smooth.permute(0, 2, 3, 1)


@cache
def _bicubic(size: int) -> Tensor:
    """Return the (size, control points) matrix that interpolates: eight times as fast as F.interpolate."""
    points = torch.eye(_CONTROL_POINTS)[None, None]
    shape = (size, _CONTROL_POINTS)
    return F.interpolate(points, shape, mode="bicubic", align_corners=True)[0, 0]


def _change_ink(images: Tensor, by: Augmentation, generator: Generator) -> Tensor:
    def uniform(low: float, high: float) -> Tensor:
        return low + torch.rand(len(images), 1, 1, 1, generator=generator) * (high - low)

    if by.stroke:
        step = uniform(-by.stroke, by.stroke)
        thicker = _over_neighbors(images, torch.maximum)
        thinner = _over_neighbors(images, torch.minimum)
        images = images + step.clamp(min=0) * (thicker - images) + (-step).clamp(min=0) * (thinner - images)
    if by.blur:
        images = images.lerp(_over_neighbors(images, torch.add) / 9, uniform(0, by.blur))
    if by.gain:
        images = images * uniform(1 - by.gain, 1 + by.gain)
    if by.noise:
        images = images + torch.randn(images.shape, generator=generator) * uniform(0, by.noise)
    return images.clamp(0, 1)


def _over_neighbors(images: Tensor, combine: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    """Combine every pixel with its eight neighbors, rows then columns: 20 times as fast as F.max_pool2d."""
    padded = F.pad(images, (1, 1, 1, 1), mode="replicate")
    rows = combine(combine(padded[..., :-2, :], padded[..., 1:-1, :]), padded[..., 2:, :])
    return combine(combine(rows[..., :-2], rows[..., 1:-1]), rows[..., 2:])
