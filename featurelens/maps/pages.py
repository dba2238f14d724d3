"""Whole pictures of feature maps: one layer to a page, or all layers of an image on one."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import islice
from types import MappingProxyType

import numpy as np
from PIL import Image

from featurelens.maps.colors import Numbers, Scale
from featurelens.maps.pieces import (
    FAINT,
    above,
    bar,
    beside,
    cells,
    grid,
    label,
    legend,
    padded,
    tile,
)
from featurelens.results import Array

INPUT = "input"
"""What an overview calls the model's input."""
_PAGE_WIDTH = 960
_MAX_CHANNELS = 256  # a page shows no more; the title says so
_MAX_BANDS = 100  # an overview shows no more, and says so
_BAND_CHANNELS = 64
_BAND_ELEMENTS = 960  # in 4 rows
_BARS = 24  # a vector up to this long gets a bar and a name for each element


def draw_layer(name: str, values: Array, labels: Sequence[str] = (), *, channel_axis: int = 0) -> Image.Image:
    """Draw one layer of one image: a tile a channel, or bars or a strip for a vector, and a legend.

    Args:
        name: of the layer, for the title.
        values: [C, H, W], [H, W] or [K]; more axes count as channels.
        labels: names of a vector's elements, used if there are as many.
        channel_axis: the axis of `values` that holds channels, counted from the last, which is -1, as
            Layer.channel_axis tells it: -1 for [H, W, C]. 0: unknown, taken for the first.
    """
    numbers = _channels(values, channel_axis)
    scale = Scale.of(numbers)
    if not numbers.size:
        body = label("no elements", 14, FAINT)
    elif numbers.ndim == 3:
        body = _tiles(numbers[:_MAX_CHANNELS], scale, _PAGE_WIDTH)
    elif len(numbers) <= _BARS:
        body = _bars(numbers, scale, labels)
    else:
        body = _strips(numbers, scale)
    head = above([label(name, 20), label(_facts(values, numbers), 13, FAINT)], gap=2)
    color_bar = padded(legend(scale, max(96, min(body.height - 24, 220))), 0, 2, 0, 0)
    return padded(above([head, beside([body, color_bar], gap=24)], gap=14), 24, 18, 16, 22)


def draw_overview(
    title: str,
    maps: Mapping[str, Array],
    picture: Array | None = None,
    labels: Sequence[str] = (),
    *,
    channel_axes: Mapping[str, int] = MappingProxyType({}),
) -> Image.Image:
    """Draw all layers of one image on one page, a band each, in the order of `maps`.

    Args:
        title: the page's first line.
        maps: values by layer name, as draw_layer takes them.
        picture: the model's input [C, H, W], drawn first if it is given.
        labels: names of the classes, written under vectors of that length.
        channel_axes: by layer name, as draw_layer takes it; under INPUT that of the picture.
    """
    layers = {INPUT: picture, **maps} if picture is not None else maps
    shown = islice(layers.items(), _MAX_BANDS)
    heads = [label(title, 22)]
    if len(layers) > _MAX_BANDS:
        heads.append(label(f"{_MAX_BANDS} of {len(layers)} layers", 13, FAINT))
    bands = [_band(name, values, labels, channel_axes.get(name, 0)) for name, values in shown]
    return padded(above([*heads, *bands], gap=16), 24, 18, 16, 22)


def _channels(values: Array, channel_axis: int) -> Numbers:
    """Return [C, H, W] or [K] of a feature map of any number of axes."""
    numbers = np.asarray(values, np.float64)
    if channel_axis and numbers.ndim >= max(3, -channel_axis):
        numbers = np.moveaxis(numbers, channel_axis, 0)
    if numbers.ndim < 2:
        return numbers.reshape(-1)
    return numbers.reshape(math.prod(numbers.shape[:-2]), *numbers.shape[-2:])


def _facts(values: Array, numbers: Numbers) -> str:
    shape = " x ".join(str(size) for size in values.shape) or "scalar"
    facts = [f"{shape}  {values.dtype}"]
    finite = numbers[np.isfinite(numbers)]
    if finite.size:
        facts.append(f"{finite.min():.3g} to {finite.max():.3g}")
    if finite.size < numbers.size:
        facts.append(f"{numbers.size - finite.size} not finite (grey)")
    if numbers.ndim == 3 and len(numbers) > _MAX_CHANNELS:
        facts.append(f"{_MAX_CHANNELS} of {len(numbers)} channels")
    return "    ".join(facts)


def _tiles(numbers: Numbers, scale: Scale, width: int) -> Image.Image:
    count = len(numbers)
    side = next(
        side for limit, side in ((1, 336), (8, 168), (16, 120), (64, 88), (math.inf, 64)) if count <= limit
    )
    tiles = [
        above([tile(channel, scale, side), label(str(index), 11, FAINT)], gap=2, align=0.5)
        for index, channel in enumerate(numbers)
    ]
    gap = 10
    return grid(tiles, _columns(count, max(1, (width + gap) // (tiles[0].width + gap))), gap)


def _columns(count: int, most: int) -> int:
    """Return how many columns make full rows, for few tiles and if at least half of `most` can."""
    if count <= most or count > 64:
        return min(count, most)
    even = [columns for columns in range(most, (most + 1) // 2 - 1, -1) if count % columns == 0]
    return even[0] if even else most


def _bars(numbers: Numbers, scale: Scale, labels: Sequence[str]) -> Image.Image:
    names = _names(len(numbers), labels)
    name_column = above([label(name, 14) for name in names], gap=8)
    bar_column = above([bar(float(value), scale, 420, label("0", 14).height) for value in numbers], gap=8)
    value_column = above([label(f"{value:.4g}", 14, FAINT) for value in numbers], gap=8)
    return beside([name_column, bar_column, value_column], gap=12)


def _names(count: int, labels: Sequence[str]) -> Sequence[str]:
    return labels if len(labels) == count else [str(index) for index in range(count)]


def _strips(numbers: Numbers, scale: Scale) -> Image.Image:
    """A long vector in rows, each headed by the index of its first element."""
    columns = 20 if len(numbers) <= 400 else 64
    starts = range(0, len(numbers), columns)
    strips = [cells(numbers[start : start + columns], scale, 800 // columns, 28) for start in starts]
    heads = [padded(label(str(start), 12, FAINT), 0, 7, 0, 0) for start in starts]
    width = max(head.width for head in heads)
    rows = [
        beside([padded(head, width - head.width, 0, 0, 0), strip], gap=8)
        for head, strip in zip(heads, strips, strict=True)
    ]
    return above(rows, gap=4)


def _band(name: str, values: Array, labels: Sequence[str], channel_axis: int) -> Image.Image:
    """One layer of the overview: its name and shape, its channels in rows, its legend."""
    numbers = _channels(values, channel_axis)
    scale = Scale.of(numbers)
    shape = " x ".join(str(size) for size in values.shape)
    facts = [shape, *_left_out(numbers)]
    head = above([label(name, 16), *(label(fact, 12, FAINT) for fact in facts)], gap=2)
    head = padded(head, 0, 0, 130 - min(head.width, 130), 0)
    if not numbers.size:
        body = label("no elements", 14, FAINT)
    else:
        body = _band_tiles(numbers, scale) if numbers.ndim == 3 else _band_strip(numbers, scale, labels)
    body = padded(body, 0, 0, max(0, _PAGE_WIDTH - body.width), 0)
    return beside([head, body, legend(scale, max(40, body.height - 20))], gap=14)


def _left_out(numbers: Numbers) -> list[str]:
    """Say how much of a layer its band shows, if that isn't all."""
    if numbers.ndim == 3 and len(numbers) > _BAND_CHANNELS:
        return [f"{_BAND_CHANNELS} of {len(numbers)} channels"]
    if numbers.ndim == 1 and len(numbers) > _BAND_ELEMENTS:
        return [f"{_BAND_ELEMENTS} of {len(numbers)} elements"]
    return []


def _band_tiles(numbers: Numbers, scale: Scale) -> Image.Image:
    shown = numbers[:_BAND_CHANNELS]
    side = max(48, min(116, _PAGE_WIDTH // len(shown) - 8))
    tiles = [tile(channel, scale, side) for channel in shown]
    return grid(tiles, max(1, (_PAGE_WIDTH + 6) // (tiles[0].width + 6)), 6)


def _band_strip(numbers: Numbers, scale: Scale, labels: Sequence[str]) -> Image.Image:
    columns = min(len(numbers), _BAND_ELEMENTS // 4)
    width = min(48, (_PAGE_WIDTH - 2) // columns)
    strip = above(
        [
            cells(numbers[start : start + columns], scale, width, 40)
            for start in range(0, min(len(numbers), _BAND_ELEMENTS), columns)
        ],
        gap=4,
    )
    if len(numbers) > _BARS:
        return strip
    names = [
        padded(text, (width - text.width) // 2, 0, width - text.width - (width - text.width) // 2, 0)
        for text in (label(name, 12, FAINT) for name in _names(len(numbers), labels))
    ]
    return above([strip, beside(names)], gap=2)
