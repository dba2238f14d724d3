"""Resizes, crops and pads a picture as the libraries do whose models are served.

Sizes and offsets are those of torchvision.transforms.Resize and CenterCrop on Pillow's images, of timm's
ResizeKeepRatio and CenterCropOrPad, and of Hugging Face's `center_crop`.
"""

from __future__ import annotations

from PIL import Image

from service.errors import InvalidImageError
from service.preprocessing import Preprocessing

_MOST_PIXELS = 25_000_000
"""Of a resized picture: one that is a thousand times as long as wide could take all the memory."""


def fitted(image: Image.Image, how: Preprocessing) -> Image.Image:
    """Bring a picture to the input's height and width.

    Raises:
        InvalidImageError: it is so narrow that it would become too large.
    """
    height, width = _size(image, how)
    if height * width > _MOST_PIXELS:
        raise InvalidImageError(
            f"the image of {image.width}x{image.height} pixels would be resized to {width}x{height}, at most "
            f"{_MOST_PIXELS} pixels in all are allowed: send a less narrow one"
        )
    if (width, height) != image.size:
        image = image.resize((width, height), Image.Resampling[how.interpolation.upper()])
    return _cropped_or_padded(image, how)


def _size(image: Image.Image, how: Preprocessing) -> tuple[int, int]:
    """Return the height and width that a picture is resized to."""
    height, width = how.resized_size
    if how.resize == "stretch":
        return height, width
    ratios = image.height / height, image.width / width
    if how.resize == "shorter-side" and height == width:
        # torchvision cuts off: size * long / short
        short, long = min(image.size), max(image.size)
        longer = int(height * long / short)
        return (longer, height) if image.width <= image.height else (height, longer)
    ratio = min(ratios) if how.resize == "shorter-side" else max(ratios)
    return max(1, round(image.height / ratio)), max(1, round(image.width / ratio))


def _cropped_or_padded(image: Image.Image, how: Preprocessing) -> Image.Image:
    if image.size == (how.width, how.height):
        return image
    left, top = (
        _offset(had - wanted, how.center)
        for had, wanted in zip(image.size, (how.width, how.height), strict=True)
    )
    if image.width >= how.width and image.height >= how.height:
        return image.crop((left, top, left + how.width, top + how.height))
    fill = how.fill * len(image.getbands()) if len(how.fill) == 1 else how.fill
    if how.color == "BGR":
        fill = (*fill[2::-1], *fill[3:])
    framed = Image.new(image.mode, (how.width, how.height), fill[0] if len(fill) == 1 else tuple(fill))
    framed.paste(image, (-left, -top))
    return framed


def _offset(surplus: int, center: str) -> int:
    """Return where the input begins in the picture, which is larger by the surplus; negative: before it."""
    if center == "floor":
        return surplus // 2
    return round(surplus / 2) if surplus >= 0 else -(-surplus // 2)
