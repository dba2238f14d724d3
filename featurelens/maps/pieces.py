"""The pieces that pictures of feature maps are put together from; each function returns a small picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from featurelens.maps.colors import Numbers, Scale

PAPER = (255, 255, 255)
INK = (32, 33, 36)
FAINT = (110, 115, 122)
_FRAME = (205, 208, 212)


@lru_cache
def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)


def label(text: str, size: int = 13, ink: tuple[int, int, int] = INK) -> Image.Image:
    """One line of text; every line of one size has the same height."""
    font = _font(size)
    width = math.ceil(ImageDraw.Draw(Image.new("RGB", (1, 1))).textlength(text, font=font))
    picture = Image.new("RGB", (max(width, 1), round(size * 1.3)), PAPER)
    ImageDraw.Draw(picture).text((0, size), text, fill=ink, font=font, anchor="ls")
    return picture


def beside(pictures: Sequence[Image.Image], gap: int = 0, align: float = 0.0) -> Image.Image:
    """Pictures from left to right; `align` 0: along their tops, 0.5: centered."""
    width = sum(picture.width for picture in pictures) + gap * (len(pictures) - 1)
    height = max(picture.height for picture in pictures)
    whole = Image.new("RGB", (width, height), PAPER)
    x = 0
    for picture in pictures:
        whole.paste(picture, (x, round((height - picture.height) * align)))
        x += picture.width + gap
    return whole


def above(pictures: Sequence[Image.Image], gap: int = 0, align: float = 0.0) -> Image.Image:
    """Pictures from top to bottom; `align` 0: along their left sides, 0.5: centered."""
    width = max(picture.width for picture in pictures)
    height = sum(picture.height for picture in pictures) + gap * (len(pictures) - 1)
    whole = Image.new("RGB", (width, height), PAPER)
    y = 0
    for picture in pictures:
        whole.paste(picture, (round((width - picture.width) * align), y))
        y += picture.height + gap
    return whole


def padded(picture: Image.Image, left: int, top: int, right: int, bottom: int) -> Image.Image:
    """The picture with an empty margin."""
    whole = Image.new("RGB", (picture.width + left + right, picture.height + top + bottom), PAPER)
    whole.paste(picture, (left, top))
    return whole


def grid(pictures: Sequence[Image.Image], columns: int, gap: int) -> Image.Image:
    """Pictures of one size in rows of `columns`."""
    rows = [pictures[start : start + columns] for start in range(0, len(pictures), columns)]
    return above([beside(row, gap) for row in rows], gap)


def tile(values: Numbers, scale: Scale, side: int) -> Image.Image:
    """One channel [H, W] in a thin frame, enlarged by a whole number so that pixels stay exact squares."""
    factor = max(1, side // max(values.shape))
    pixels = Image.fromarray(scale.colors(values))
    pixels = pixels.resize((pixels.width * factor, pixels.height * factor), Image.Resampling.NEAREST)
    return framed(pixels)


def framed(picture: Image.Image) -> Image.Image:
    """The picture in a frame of one pixel."""
    whole = Image.new("RGB", (picture.width + 2, picture.height + 2), _FRAME)
    whole.paste(picture, (1, 1))
    return whole


def cells(values: Numbers, scale: Scale, width: int, height: int) -> Image.Image:
    """A vector [K] as one strip of K cells."""
    row = Image.fromarray(scale.colors(values[None]))
    return framed(row.resize((len(values) * width, height), Image.Resampling.NEAREST))


def bar(value: float, scale: Scale, width: int, height: int) -> Image.Image:
    """A bar from zero to the value, on an axis that `width` pixels of the scale's range make."""
    picture = Image.new("RGB", (width, height), PAPER)
    draw = ImageDraw.Draw(picture)
    per_unit = (width - 1) / (scale.high - scale.low)
    zero = round(-scale.low * per_unit)
    if math.isfinite(value):
        end = round((value - scale.low) * per_unit)
        color = scale.colors(np.array(value))
        draw.rectangle(
            (min(zero, end), 3, max(zero, end), height - 4), fill=tuple(color.tolist()), outline=_FRAME
        )
    draw.line((zero, 0, zero, height), fill=FAINT)
    return picture


def legend(scale: Scale, height: int) -> Image.Image:
    """A vertical strip of the scale's colors with its numbers beside it."""
    text_height = label("0", 12).height
    values = np.linspace(scale.high, scale.low, height)
    strip = framed(Image.fromarray(scale.colors(values[:, None])).resize((14, height)))
    numbers = Image.new("RGB", (60, strip.height + text_height), PAPER)
    for number in scale.ticks():
        y = round((scale.high - number) / (scale.high - scale.low) * (height - 1))
        numbers.paste(label(f"{number:.3g}", 12, FAINT), (0, y))
    return beside([padded(strip, 0, text_height // 2, 0, 0), numbers], gap=6)
