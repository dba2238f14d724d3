"""Decode a picture from the bytes of a file, within limits, trusting none of them.

Pillow decodes the pixels; only its JPEG, PNG and WebP readers are ever started, and they see nothing else.
"""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.WebPImagePlugin import WebPImageFile

from service.errors import InvalidImageError
from service.picture_files import CutShortError, NoPictureError, PictureFile, walk

# Image.open would choose among them by itself, and warn of large pictures and of what is beside them.
_READERS: dict[str, Callable[[io.BytesIO], ImageFile.ImageFile]] = {
    "JPEG": JpegImageFile,
    "PNG": PngImageFile,
    "WEBP": WebPImageFile,
}


@dataclass(frozen=True)
class ImageLimits:
    """What a picture may ask of the server."""

    max_pixels: int = 25_000_000
    """Width times height, as the file's header gives them."""
    max_side: int = 16_384
    """Width or height, as the file's header gives them."""
    max_scans: int = 64
    """Passes over the picture that a progressive JPEG may ask for; encoders write about ten."""
    enough_side: int = 1024
    """A picture whose longer side is at least twice this is reduced by a whole factor, never below it."""


def decode(data: bytes, limits: ImageLimits | None = None) -> NDArray[np.uint8]:
    """Decode a PNG, JPEG or WebP file to [H, W, 1] grey or [H, W, 3] RGB.

    The first frame counts. EXIF orientation is applied, transparent pixels are filled by `flatten`, 16 bits
    become 8, and a large picture is reduced (`ImageLimits.enough_side`). Color profiles are ignored.

    Raises:
        InvalidImageError: the bytes are no such file, are damaged or cut short, or are over a limit.
    """
    pixels = np.asarray(_read(data, limits or ImageLimits(), _load))
    return pixels[..., None] if pixels.ndim == 2 else pixels


def decode_whole(data: bytes, limits: ImageLimits | None = None) -> Image.Image:
    """Decode a PNG, JPEG or WebP file at its full size, upright, to mode L, RGB or RGBA.

    No pixel is changed by it: libraries that train models prepare pictures of what Pillow decodes, whole.

    Raises:
        InvalidImageError: as `decode`.
    """
    return _read(data, limits or ImageLimits(), _load_whole)


def _read(
    data: bytes, limits: ImageLimits, load: Callable[[Image.Image, int, ImageLimits], Image.Image]
) -> Image.Image:
    file = _walked(data)
    _check(file, limits)
    try:
        with _READERS[file.format](io.BytesIO(file.data)) as image:
            return load(image, file.orientation, limits)
    except MemoryError:
        raise
    except Exception as error:  # a reader of hostile bytes may raise anything
        raise _damaged(file.format, data) from error


def flatten(image: Image.Image) -> Image.Image:
    """Fill the transparent parts of an RGBA image, so that a drawing can be told from what is behind it.

    A mostly transparent picture is ink on nothing: light ink gets a black background, other ink a white one.
    A mostly opaque one is paper or board with holes, which get the nearer of the two.
    """
    alpha = np.asarray(image.getchannel("A"), dtype=np.float32) / 255
    coverage = float(alpha.mean())
    luma = np.asarray(image.convert("RGB").convert("L"), dtype=np.float32)
    visible_is_light = coverage > 0 and float((luma * alpha).mean()) / coverage > 127.5
    fill = "white" if visible_is_light == (coverage > 0.5) else "black"
    background = Image.new("RGBA", image.size, fill)
    return Image.alpha_composite(background, image).convert("RGB")


def _walked(data: bytes) -> PictureFile:
    """Read the structure of the file; no pixel is decoded and no memory taken for any."""
    if not data:
        raise InvalidImageError("the image is empty (0 bytes): send the whole PNG, JPEG or WebP file")
    try:
        return walk(data)
    except NoPictureError as error:
        raise InvalidImageError(
            f"{len(data)} bytes beginning with {data[:8]!r} are not an image that can be read: "
            "send a whole PNG, JPEG or WebP file"
        ) from error
    except CutShortError as error:
        raise _damaged({0x89: "PNG", 0xFF: "JPEG"}.get(data[0], "WEBP"), data) from error


def _damaged(kind: str, data: bytes) -> InvalidImageError:
    return InvalidImageError(
        f"the {kind} image of {len(data)} bytes is damaged or cut short: send the whole file"
    )


def _check(file: PictureFile, limits: ImageLimits) -> None:
    width, height = file.width, file.height
    if max(width, height) > limits.max_side or width * height > limits.max_pixels:
        raise InvalidImageError(
            f"the image is too large: {width}x{height} pixels, at most {limits.max_pixels} pixels in all "
            f"and {limits.max_side} on a side are accepted: send a smaller one"
        )
    if file.scans > limits.max_scans:
        raise InvalidImageError(
            f"the JPEG image has more than {limits.max_scans} scans: save it as a baseline JPEG"
        )


def _load(image: Image.Image, orientation: int, limits: ImageLimits) -> Image.Image:
    """Decode the pixels to mode L or RGB, upright."""
    enough = limits.enough_side
    image.draft(None, _enough(image, enough))
    image.load()
    plain = _plain(image)
    factor = max(plain.size) // enough
    if factor > 1:
        plain = plain.reduce(factor)
    if plain.mode == "RGBA":
        plain = flatten(plain)
    return plain.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else plain


def _load_whole(image: Image.Image, orientation: int, _limits: ImageLimits) -> Image.Image:
    """Decode the pixels as they are to mode L, RGB or RGBA, upright."""
    image.load()
    plain = _plain(image)
    return plain.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else plain


def _enough(image: Image.Image, side: int) -> tuple[int, int]:
    """Return the size with the image's aspect whose longer side is `side`."""
    longer = max(image.size)
    return max(1, image.width * side // longer), max(1, image.height * side // longer)


def _plain(image: Image.Image) -> Image.Image:
    """Convert any mode of Pillow's to L, RGB or RGBA."""
    if image.mode.startswith("I"):  # 16 bits; Pillow's own conversion would clip, not scale
        return Image.fromarray((np.asarray(image).astype(np.uint32) >> 8).astype(np.uint8))
    if image.has_transparency_data:
        return image.convert("RGBA")
    return image.convert("L" if image.mode in ("1", "L") else "RGB")


# What undoes each orientation; EXIF 2.32, tag 0x0112.
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
