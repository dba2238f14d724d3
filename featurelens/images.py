"""What callers may hand over as an image, and the file bytes that it is sent as."""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from PIL import Image

from featurelens.channel import MAX_REQUEST_BYTES
from featurelens.errors import FeaturelensError

# File contents, the path of a file, or uint8 pixels: grey [H, W], RGB [H, W, 3] or RGBA [H, W, 4].
ImageLike: TypeAlias = bytes | bytearray | memoryview | str | os.PathLike[str] | npt.NDArray[np.uint8]


def file_bytes(image: ImageLike) -> bytes:
    """Return the image as the bytes of a file; pixels become a PNG, which loses nothing.

    Raises:
        FeaturelensError: INVALID_ARGUMENT, the file can't be read or the array is not a picture.
        TypeError: it is nothing that could be an image.
    """
    if isinstance(image, bytes | bytearray | memoryview):
        return bytes(image)
    if isinstance(image, np.ndarray):
        return _png(image)
    if isinstance(image, str | os.PathLike):
        return _read(Path(image))
    raise TypeError(f"image is a {type(image).__name__}, expected bytes, a path or a numpy array")


def _read(path: Path) -> bytes:
    """Read a regular file: a pipe could block for ever, a device could have no end."""
    try:
        if not path.is_file():
            raise FeaturelensError("INVALID_ARGUMENT", "not a file" if path.exists() else "no such file")
        if (size := path.stat().st_size) > MAX_REQUEST_BYTES:
            raise FeaturelensError(
                "INVALID_ARGUMENT", f"the file has {size} bytes, expected at most {MAX_REQUEST_BYTES}"
            )
        return path.read_bytes()
    except OSError as error:
        raise FeaturelensError(
            "INVALID_ARGUMENT", f"can't read the file: {error.strerror or error}"
        ) from error


def _png(pixels: npt.NDArray[np.generic]) -> bytes:
    grey_or_color = pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] in (3, 4))
    if pixels.dtype != np.uint8 or not grey_or_color or not pixels.size:
        raise FeaturelensError(
            "INVALID_ARGUMENT",
            f"the array is {pixels.dtype}{list(pixels.shape)}, expected uint8 pixels "
            "[H, W], [H, W, 3] or [H, W, 4]; a tensor in the model's own format goes to classify_tensor",
        )
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
