"""What isn't said of preprocessing is taken from the input; what contradicts the input is found at load."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from service.errors import ModelLoadError
from service.picture_input import Told, preprocessing_for
from service.preprocessing import Preprocessing
from service.tensors import Shape, TensorSpec


def spec(*shape: int | None, dtype: str = "float32") -> TensorSpec:
    return TensorSpec("image", np.dtype(dtype), shape)


def resolved(input_spec: TensorSpec, **keys: Any) -> Preprocessing:  # noqa: ANN401 - as config.toml has them
    return preprocessing_for(input_spec, Told(Preprocessing.model_validate(keys), "config.toml"))


@pytest.mark.parametrize(
    ("shape", "layout", "item"),
    [
        ((None, 3, 32, 40), "NCHW", (3, 32, 40)),
        ((None, 32, 40, 3), "NHWC", (32, 40, 3)),
        ((4, 1, 28, 28), "NCHW", (1, 28, 28)),
        ((None, 28, 28), "NHW", (28, 28)),
        ((None, 4, 3, 3), "NCHW", (4, 3, 3)),
    ],
)
def test_what_is_not_said_is_taken_from_the_input(shape: Shape, layout: str, item: tuple[int, ...]) -> None:
    found = resolved(spec(*shape))
    assert (found.kind, found.layout, found.item_shape) == ("resize", layout, item)


@pytest.mark.parametrize(
    ("preset", "side", "resize_size", "interpolation"),
    [
        ("torchvision", 224, 256, "bilinear"),
        ("torchvision", 299, 342, "bilinear"),
        ("timm", 299, (341, 341), "bicubic"),
        ("huggingface", 384, (384, 384), "bilinear"),
    ],
)
def test_a_preset_follows_the_size_of_the_input(
    preset: str, side: int, resize_size: object, interpolation: str
) -> None:
    found = resolved(spec(None, 3, side, side), preset=preset)
    assert (found.resize_size, found.interpolation) == (resize_size, interpolation)
    assert len(found.mean) == len(found.std) == 3


def test_other_keys_stand_above_a_preset() -> None:
    found = resolved(spec(None, 3, None, None), preset="torchvision", resize_size=232, mean=[0.5])
    assert (found.item_shape, found.resize_size, found.mean) == ((3, 224, 224), 232, (0.5,))
    assert resolved(spec(None, 3, 224, 224), preset="timm", crop_pct=1.0).resized_size == (224, 224)


def test_a_place_stands_above_the_next() -> None:
    beside = Preprocessing(height=32, width=32, mean=(0.1,), std=(0.2,))
    found = preprocessing_for(spec(None, 3, 32, 32), Told(Preprocessing(mean=(0.3,)), "a"), Told(beside, "b"))
    assert (found.mean, found.std) == ((0.3,), (0.2,))


@pytest.mark.parametrize(
    ("dtype", "keys", "values"),
    [
        ("float16", {"scale": 1.0}, ((0.0,), 1.0)),
        ("uint8", {}, ((0.0,), 1.0)),
        ("uint8", {"preset": "torchvision"}, ((0.0,), 1.0)),
        ("float64", {"preset": "huggingface"}, ((0.5, 0.5, 0.5), 1 / 255)),
    ],
)
def test_the_type_is_that_of_the_input(
    dtype: str, keys: dict[str, object], values: tuple[object, float]
) -> None:
    found = resolved(spec(None, 3, 32, 32, dtype=dtype), **keys)
    assert (found.dtype, found.mean, found.scale) == (dtype, *values)


@pytest.mark.parametrize(
    ("input_spec", "keys", "message"),
    [
        (spec(None, 3, 32, 32), {"channels": 1}, "makes, [1, 32, 32]: write channels = 3 under"),
        (spec(None, 3, 32, 32), {"height": 9, "width": 9}, ": write height = 32 and width = 32 under"),
        (spec(None, 3, 32, 32), {"layout": "NHWC", "channels": 3}, ': write layout = "NCHW" under'),
        (spec(None, 32, 32, 3), {"layout": "NCHW", "channels": 3}, ': write layout = "NHWC" under'),
        (spec(None, 3, None, None), {}, "write height = 224, width = 224, or another"),
        (spec(None, 9, 32, 32), {}, "has 9 channels; pictures have 1, 3 or 4"),
        (spec(None, 784), {}, 'has 3 or 4 axes: write kind = "none"'),
        (spec(None, 3, 8, 8, dtype="int8"), {}, "is int8; pictures are made for float32"),
        (spec(None, 3, 8, 8, dtype="uint8"), {"mean": [0.5]}, "as they are: leave mean out"),
        (spec(None, 3, 8, 8), {"dtype": "uint8"}, 'makes uint8: write dtype = "float32"'),
        (spec(None, 1, 8, 8), {"mean": [1, 2]}, "mean must have 1 value or 1"),
        (spec(None, 1, 8, 8), {"kind": "ink"}, "a box of 20 does not fit into 8x8"),
        (spec(None, 1, 8, 8), {"color": "BGR"}, 'color = "BGR" is for channels = 3 or 4'),
    ],
)
def test_a_contradiction_names_the_line_that_mends_it(
    input_spec: TensorSpec, keys: dict[str, object], message: str
) -> None:
    with pytest.raises(ModelLoadError) as error:
        resolved(input_spec, **keys)
    assert message in str(error.value)


def test_an_input_of_any_size_takes_what_is_said() -> None:
    assert resolved(spec(None, 3, None, None), height=60, width=80).item_shape == (3, 60, 80)
    unknown = TensorSpec("image", None, None)
    assert resolved(unknown, height=6, width=8, channels=3).item_shape == (3, 6, 8)


def test_nothing_said_is_tensors_only() -> None:
    assert preprocessing_for(spec(None, 3, 8, 8)).kind == "none"
