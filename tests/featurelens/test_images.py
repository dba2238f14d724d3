from __future__ import annotations

import io
import os
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from featurelens import FeaturelensError
from featurelens.channel import MAX_REQUEST_BYTES
from featurelens.images import file_bytes


@pytest.mark.parametrize("shape", [(5, 4), (5, 4, 3), (5, 4, 4)])
def test_pixels_become_a_png_that_loses_nothing(shape: tuple[int, ...]) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, shape, np.uint8)

    with Image.open(io.BytesIO(file_bytes(pixels))) as decoded:
        assert decoded.format == "PNG"
        np.testing.assert_array_equal(np.asarray(decoded), pixels)


@pytest.mark.parametrize("data", [b"digit", bytearray(b"digit"), memoryview(b"digit")])
def test_bytes_are_sent_as_they_are(data: bytes) -> None:
    assert file_bytes(data) == b"digit"


def test_a_path_is_read(tmp_path: Path) -> None:
    (tmp_path / "digit.png").write_bytes(b"digit")

    assert file_bytes(tmp_path / "digit.png") == b"digit"
    assert file_bytes(str(tmp_path / "digit.png")) == b"digit"


@pytest.mark.parametrize(
    ("pixels", "got"),
    [
        (np.zeros((28, 28), np.float32), "float32[28, 28]"),
        (np.zeros((1, 28, 28), np.uint8), "uint8[1, 28, 28]"),
        (np.zeros((2, 1, 32, 32), np.float32), "float32[2, 1, 32, 32]"),
        (np.zeros((0, 28), np.uint8), "uint8[0, 28]"),
        (np.zeros(784, np.uint8), "uint8[784]"),
    ],
)
def test_an_array_that_is_no_picture_is_refused(pixels: npt.NDArray[np.uint8], got: str) -> None:
    with pytest.raises(FeaturelensError) as raised:
        file_bytes(pixels)

    assert raised.value.code == "INVALID_ARGUMENT"
    assert raised.value.message == (
        f"the array is {got}, expected uint8 pixels [H, W], [H, W, 3] or [H, W, 4]; "
        "a tensor in the model's own format goes to classify_tensor"
    )


def test_a_file_that_cannot_be_read_is_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to("link.png")
    with (tmp_path / "large.png").open("wb") as file:
        file.truncate(MAX_REQUEST_BYTES + 1)
    messages = {}
    for name in ("missing.png", "pipe.png", "link.png", "large.png", "."):
        with pytest.raises(FeaturelensError) as raised:
            file_bytes(tmp_path / name)
        assert raised.value.code == "INVALID_ARGUMENT"
        messages[name] = raised.value.message

    assert messages == {
        "missing.png": "no such file",
        "pipe.png": "not a file",
        "link.png": "no such file",
        "large.png": "the file has 16777217 bytes, expected at most 16777216",
        ".": "not a file",
    }


def test_what_could_never_be_an_image_is_a_type_error() -> None:
    with pytest.raises(TypeError, match="image is a int, expected bytes, a path or a numpy array"):
        file_bytes(7)  # type: ignore[arg-type]  # what the test is about
