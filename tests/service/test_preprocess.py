import json

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image
from pydantic import ValidationError

from service.errors import InvalidRequestError, ModelLoadError
from service.preprocess import prepare
from service.preprocessing import Preprocessing

INK = Preprocessing(kind="ink", height=32, width=32)
IMAGENET = Preprocessing(
    kind="resize", channels=3, height=24, width=20, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def noise(height: int, width: int, channels: int) -> NDArray[np.uint8]:
    return np.random.default_rng(2).integers(0, 256, (height, width, channels), dtype=np.uint8)


def bar_on_paper() -> NDArray[np.uint8]:
    """A black bar on white paper, off center."""
    pixels = np.full((90, 120, 3), 255, dtype=np.uint8)
    pixels[10:60, 20:28] = 0
    return pixels


def test_the_description_in_a_model_file_is_read() -> None:
    text = json.dumps(
        {"kind": "ink", "channels": 1, "height": 32, "width": 32, "box": 20, "background": 0.0, "ink": 1.0}
    )
    assert Preprocessing.from_json(text) == INK


def test_the_description_in_a_configuration_file_is_read() -> None:
    table = {
        "kind": "resize",
        "channels": 3,
        "height": 24,
        "width": 20,
        "mean": [0.485, 0.456, 0.406],
        "std": [0.229, 0.224, 0.225],
    }
    assert Preprocessing.model_validate(table) == IMAGENET


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"kind": "crop"}', "kind: Input should be 'ink', 'resize' or 'none'"),
        ('{"kind": "ink", "height": 32, "width": 32, "channels": 2}', "channels: Input should be 1, 3 or 4"),
        ('{"kind": "ink", "height": 32, "width": 32, "colour": 1}', "colour: Extra inputs"),
        ('{"kind": "ink", "height": -1, "width": 32}', "height: Input should be greater"),
        ('{"kind": "ink", "height": 99999, "width": 32}', "height: Input should be less"),
        ('{"kind": "resize", "height": 9, "width": 9, "std": [0]}', "std must not be 0"),
        ('{"kind": "resize", "height": 9, "width": 9, "std": []}', "std: Tuple should have at least 1"),
        ('{"kind": "resize", "height": 9, "width": 9, "scale": NaN}', "scale: Input should be a finite"),
    ],
)
def test_a_wrong_description_is_refused_field_by_field(text: str, message: str) -> None:
    with pytest.raises(ModelLoadError) as error:
        Preprocessing.from_json(text)
    assert "preprocessing is not valid: " in str(error.value)
    assert message in str(error.value)


def test_a_description_can_not_be_changed() -> None:
    with pytest.raises(ValidationError, match="frozen"):
        INK.height = 28


@pytest.mark.parametrize(
    ("preprocessing", "part"),
    [
        (INK, "scaled into a box of 20x20, and centered by its mass in 32x32: background 0, ink 1."),
        (IMAGENET, "resized to 24x20"),
        (Preprocessing(kind="none"), "Tensors only"),
    ],
)
def test_a_description_can_be_read_by_people(preprocessing: Preprocessing, part: str) -> None:
    assert part in preprocessing.description


@pytest.mark.parametrize(
    ("changes", "shape"),
    [
        ({}, (1, 32, 32)),
        ({"channels": 3}, (3, 32, 32)),
        ({"channels": 3, "layout": "NHWC"}, (32, 32, 3)),
        ({"layout": "NHWC", "height": 40}, (40, 32, 1)),
    ],
)
def test_ink_comes_in_the_models_channels_and_layout(
    changes: dict[str, object], shape: tuple[int, ...]
) -> None:
    result = prepare(bar_on_paper(), INK.model_copy(update=changes))
    assert result.shape == shape
    assert result.dtype == np.float32
    assert result.flags.c_contiguous


def test_ink_comes_in_the_models_values() -> None:
    zero_to_one = prepare(bar_on_paper(), INK)
    others = prepare(bar_on_paper(), INK.model_copy(update={"background": 0.5, "ink": -1.5}))
    np.testing.assert_allclose(others, 0.5 - 2 * zero_to_one, atol=1e-6)
    assert (float(zero_to_one.min()), float(zero_to_one.max())) == (0, 1)


def test_switched_off_a_picture_that_fits_is_padded_and_nothing_else() -> None:
    picture = noise(28, 27, 1)
    expected = np.zeros((1, 32, 32), np.float32)
    expected[0, 2:30, 2:29] = picture[..., 0].astype(np.float32) / np.float32(255)
    np.testing.assert_array_equal(prepare(picture, INK, enabled=False), expected)


def test_switched_off_a_larger_picture_is_resized_and_nothing_else() -> None:
    grey = Image.fromarray(bar_on_paper()).convert("L")
    expected = np.asarray(grey.resize((32, 32), Image.Resampling.BILINEAR), dtype=np.float32) / 255
    np.testing.assert_allclose(prepare(bar_on_paper(), INK, enabled=False)[0], expected, atol=1e-6)


@pytest.mark.parametrize("enabled", [True, False])
def test_resize_is_bilinear_then_scaled_and_normalized(enabled: bool) -> None:
    picture = noise(60, 50, 3)
    resized = np.asarray(Image.fromarray(picture).resize((20, 24), Image.Resampling.BILINEAR))
    expected = (resized / 255 - np.array(IMAGENET.mean)) / np.array(IMAGENET.std)
    result = prepare(picture, IMAGENET, enabled)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, expected.transpose(2, 0, 1), atol=1e-5)


def test_resize_makes_color_of_grey_and_grey_of_color() -> None:
    grey = noise(24, 20, 1)
    plain = Preprocessing(kind="resize", channels=3, height=24, width=20, scale=1)
    np.testing.assert_array_equal(prepare(grey, plain), np.repeat(grey, 3, axis=2).transpose(2, 0, 1))
    color = noise(24, 20, 3)
    luma = np.asarray(Image.fromarray(color).convert("L"), dtype=np.float32)
    np.testing.assert_array_equal(prepare(color, plain.model_copy(update={"channels": 1}))[0], luma)


def test_a_model_of_tensors_takes_no_pictures() -> None:
    with pytest.raises(InvalidRequestError, match="takes tensors, not image files"):
        prepare(bar_on_paper(), Preprocessing(kind="none"))
