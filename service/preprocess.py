"""Make a model's input of a decoded picture, as the description of its preprocessing says."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from service.errors import InvalidRequestError
from service.framing import frame_ink
from service.preprocessing import Preprocessing
from service.resizing import fitted

Pixels = NDArray[np.uint8]
Array = np.ndarray[Any, np.dtype[Any]]
Floats = NDArray[np.float32]
_MODES = {1: "L", 3: "RGB", 4: "RGBA"}


def prepare(picture: Pixels | Image.Image, preprocessing: Preprocessing, enabled: bool = True) -> Array:
    """Make the input [C, H, W] (or [H, W, C], or [H, W], as the layout says) of one picture.

    With `enabled` false, kind "ink" detects, inverts, crops and centers nothing. Black is background, and
    white is ink. A picture that fits into the input is padded with background on all sides, as the LeNet
    paper pads 28x28 to 32x32. A larger one is resized. Kind "resize" is the same either way.

    Args:
        picture: [H, W, 1 or 3]; for kind "resize" also an image of mode L, RGB or RGBA. Of that the colors
            count, whatever its alpha is, unless the input has four channels.
        preprocessing: how; complete, as `preprocessing_for` makes it.
        enabled: whether ink is looked for.

    Raises:
        InvalidRequestError: the model takes tensors only.
        InvalidImageError: the picture is too narrow to be resized.
    """
    if preprocessing.kind == "none":
        raise InvalidRequestError(
            "the model takes tensors, not image files: send a tensor of its input's shape"
        )
    if preprocessing.kind == "resize":
        values = _normalized(_image(picture), preprocessing)
    else:
        pixels = np.asarray(picture)
        if enabled:
            coverage = _framed(pixels, preprocessing)
        else:
            coverage = _fitted(_in_channels(pixels, preprocessing), preprocessing)
        values = _from_ink(coverage, preprocessing)
    return _laid_out(values, preprocessing)


def _laid_out(values: Array, preprocessing: Preprocessing) -> Array:
    """Give values [H, W, C] the axes and the type of the input."""
    if preprocessing.dtype == "uint8":
        values = np.rint(values)
    axes = {"NCHW": (2, 0, 1), "NHWC": (0, 1, 2), "NHW": (2, 0, 1)}[preprocessing.layout]
    turned = np.ascontiguousarray(values.transpose(axes), dtype=preprocessing.dtype)
    return turned[0] if preprocessing.layout == "NHW" else turned


def _normalized(image: Image.Image, preprocessing: Preprocessing) -> Floats:
    """Resize, then (levels * scale - mean) / std, in the order of torchvision's ToTensor and Normalize."""
    mode = _MODES[preprocessing.channels]
    resized = np.asarray(fitted(image if image.mode == mode else image.convert(mode), preprocessing))
    levels = resized.reshape(preprocessing.height, preprocessing.width, preprocessing.channels)
    if preprocessing.color == "BGR":
        levels = levels[..., [2, 1, 0, *range(3, preprocessing.channels)]]
    scaled = levels.astype(np.float32) * np.float32(preprocessing.scale)
    mean, std = (np.array(values, dtype=np.float32) for values in (preprocessing.mean, preprocessing.std))
    return np.asarray((scaled - mean) / std, dtype=np.float32)


def _framed(picture: Pixels, preprocessing: Preprocessing) -> Floats:
    framed = frame_ink(picture, preprocessing.height, preprocessing.width, preprocessing.box)
    return np.repeat(framed[..., None], preprocessing.channels, axis=2)


def _from_ink(coverage: Floats, preprocessing: Preprocessing) -> Floats:
    """Map 0 to the model's background and 1 to its ink."""
    background, ink = preprocessing.background, preprocessing.ink
    return (background + (ink - background) * coverage).astype(np.float32)


def _fitted(picture: Pixels, preprocessing: Preprocessing) -> Floats:
    """Bring the picture to the model's size, 0 to 1: padded with 0 if it fits, else resized."""
    height, width = preprocessing.height, preprocessing.width
    rows, columns = height - picture.shape[0], width - picture.shape[1]
    if rows < 0 or columns < 0:
        return _resized(picture, height, width).astype(np.float32) / np.float32(255)
    around = ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2), (0, 0))
    return np.pad(picture, around).astype(np.float32) / np.float32(255)


def _resized(picture: Pixels, height: int, width: int) -> Pixels:
    """Resize bilinearly; when shrinking, over all the pixels that a new one covers."""
    resized = np.asarray(_image(picture).resize((width, height), Image.Resampling.BILINEAR))
    return resized.reshape(height, width, picture.shape[2])


def _in_channels(picture: Pixels, preprocessing: Preprocessing) -> Pixels:
    """Convert grey to RGB or RGB to grey (luma of ITU-R BT.601), if need be."""
    if picture.shape[2] == preprocessing.channels:
        return picture
    converted = np.asarray(_image(picture).convert("L" if preprocessing.channels == 1 else "RGB"))
    return converted.reshape(*picture.shape[:2], preprocessing.channels)


def _image(picture: Pixels | Image.Image) -> Image.Image:
    if isinstance(picture, Image.Image):
        return picture
    return Image.fromarray(picture[..., 0] if picture.shape[2] == 1 else picture)
