"""Resizing, cropping and padding, by the published formulas, written here once more."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from PIL import Image

from service.errors import InvalidImageError
from service.preprocess import prepare
from service.preprocessing import Preprocessing

SIZES = [(40, 30), (30, 40), (301, 203), (17, 90), (64, 64), (5, 7)]


def picture(width: int, height: int, mode: str = "RGB") -> Image.Image:
    bands = len(Image.new(mode, (1, 1)).getbands())
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, bands), dtype=np.uint8)
    return Image.fromarray(pixels[..., 0] if bands == 1 else pixels)


def levels(image: Image.Image, **keys: Any) -> np.ndarray:  # noqa: ANN401 - as config.toml has them
    how = Preprocessing.model_validate(
        {"channels": 3, "height": 32, "width": 32, "layout": "NHWC", "dtype": "uint8", "scale": 1.0, **keys}
    )
    return prepare(image, how)


def scaled(size: tuple[int, int], side: int) -> tuple[int, int]:
    """Return width and height with this shorter side: int(size * long / short), as torchvision has it."""
    width, height = size
    return (side, int(side * height / width)) if width <= height else (int(side * width / height), side)


def whole(image: Image.Image, box: tuple[int, int, int, int]) -> np.ndarray:
    return np.asarray(image.crop(box))  # Pillow's crop fills what is outside with 0


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("center", ["round", "floor"])
def test_the_shorter_side_is_scaled_and_the_center_cropped(size: tuple[int, int], center: str) -> None:
    image = picture(*size)
    width, height = scaled(size, 37)
    resized = image.resize((width, height), Image.Resampling.BICUBIC)
    left, top = (round((n - 32) / 2.0) if center == "round" else (n - 32) // 2 for n in (width, height))
    expected = whole(resized, (left, top, left + 32, top + 32))
    found = levels(image, resize="shorter-side", resize_size=37, interpolation="bicubic", center=center)
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("size", SIZES)
def test_a_picture_is_padded_to_keep_its_aspect(size: tuple[int, int]) -> None:
    image = picture(*size)
    ratio = max(size[0] / 32, size[1] / 32)
    width, height = round(size[0] / ratio), round(size[1] / ratio)
    expected = np.broadcast_to(np.array((1, 2, 3), np.uint8), (32, 32, 3)).copy()
    top, left = (32 - height) // 2, (32 - width) // 2
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    expected[top : top + height, left : left + width] = np.asarray(resized)
    np.testing.assert_array_equal(levels(image, resize="pad", fill=(1, 2, 3)), expected)
    swapped = levels(image, resize="pad", fill=(3, 2, 1), color="BGR")
    np.testing.assert_array_equal(swapped, expected[..., ::-1])


@pytest.mark.parametrize("size", SIZES)
def test_an_input_that_is_no_square_is_covered(size: tuple[int, int]) -> None:
    image = picture(*size)
    target = math.floor(20 / 0.8), math.floor(28 / 0.8)
    ratio = min(size[1] / target[0], size[0] / target[1])
    width, height = round(size[0] / ratio), round(size[1] / ratio)
    resized = image.resize((width, height), Image.Resampling.BILINEAR)
    left, top = round((width - 28) / 2), round((height - 20) / 2)
    found = levels(image, resize="shorter-side", crop_pct=0.8, height=20, width=28)
    np.testing.assert_array_equal(found, whole(resized, (left, top, left + 28, top + 20)))


def test_a_picture_smaller_than_the_input_is_padded_as_each_library_does() -> None:
    image = picture(5, 5)
    keys = {"resize": "stretch", "resize_size": (5, 5), "height": 8, "width": 8}
    np.testing.assert_array_equal(levels(image, **keys)[1:6, 1:6], np.asarray(image))  # (8 - 5) // 2
    np.testing.assert_array_equal(levels(image, center="floor", **keys)[2:7, 2:7], np.asarray(image))


@pytest.mark.parametrize("name", ["nearest", "bilinear", "bicubic", "lanczos", "box", "hamming"])
def test_filters_are_pillows(name: str) -> None:
    image = picture(90, 70)
    expected = np.asarray(image.resize((32, 32), Image.Resampling[name.upper()]))
    np.testing.assert_array_equal(levels(image, interpolation=name), expected)


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
def test_channels_are_made_as_pillow_converts_them(mode: str, channels: int) -> None:
    image = picture(32, 32, mode)
    expected = np.asarray(image.convert({1: "L", 3: "RGB", 4: "RGBA"}[channels])).reshape(32, 32, channels)
    np.testing.assert_array_equal(levels(image, channels=channels), expected)
    if channels > 1:
        order = [2, 1, 0, 3][:channels]
        found = levels(image, channels=channels, color="BGR")
        np.testing.assert_array_equal(found, expected[..., order])


def test_grey_may_have_no_axis_of_its_own() -> None:
    image = picture(32, 32, "L")
    np.testing.assert_array_equal(levels(image, channels=1, layout="NHW"), np.asarray(image))


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_values_have_the_type_of_the_input(dtype: str) -> None:
    image, mean, std = picture(32, 32), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    found = levels(image, dtype=dtype, scale=1 / 255, mean=mean, std=std)
    expected = (np.asarray(image) / 255 - np.array(mean)) / np.array(std)
    assert found.dtype == dtype
    np.testing.assert_allclose(found, expected, atol=2e-3 if dtype == "float16" else 1e-5)


def test_a_picture_that_would_become_huge_is_refused() -> None:
    with pytest.raises(InvalidImageError, match="16000x1 pixels would be resized to 1024000x64"):
        levels(Image.new("RGB", (16000, 1)), resize="shorter-side", resize_size=64)
