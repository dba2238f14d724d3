"""Frame the ink of a handwritten character as MNIST's digits are framed.

The recipe is that of LeCun, Bottou, Bengio, Haffner: Gradient-based learning applied to document recognition,
Proceedings of the IEEE 86(11), 1998, section III.A, and of the page "The MNIST database of handwritten
digits": the character fits a box of 20x20, its aspect kept, and its center of mass is the input's center.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.ink import ink_contrast
from service.regions import Floats, Mask, reduced
from service.sheet import innermost_sheet
from service.strokes import INK_LEVEL, main_ink, same_ink

COARSE_SIDE = 256
"""Pixels on the longer side of the picture in which the ink is looked for first."""
FINE_SIDE = 160
"""... and of the part around it in which it is looked at closely."""
MARGIN = 0.35
"""What of the paper around the ink is looked at closely, as a part of the ink's longer side."""
FRINGE_LEVEL = 0.1
"""Contrast above which a pixel at a stroke's edge belongs to the box of a digit that already is framed."""
SMALLEST_SIDE = 5
"""Pixels that a character takes at least."""
BLOT_WIDTH = 0.42
"""A stroke is narrower than this part of its longer side. A disk is half as wide, by `stroke_width`."""
SOFT_EDGE, SOFT_STEP = 2.5, 0.25
"""Contrast grows at an edge by more a pixel than the first over the ink's longer side, or than the second."""
SUPERSAMPLING = 4
STROKE_WIDTHS = (1.8, 4.0)
"""Widths of pen strokes that MNIST has, in pixels of its 28x28."""


def frame_ink(picture: NDArray[np.uint8], height: int, width: int, box: int) -> Floats:
    """Return [height, width] with the ink of a picture [H, W, C] in its middle, 0 background to 1 ink.

    A picture without ink gives all background. One that already is framed comes back as it is, padded.
    """
    padding = height - (box + 8)
    if picture.shape[:2] in ((height, width), (height - padding, width - padding)):
        contrast = ink_contrast(picture)
        if is_framed(contrast, height, width, box):
            return _padded(contrast, height, width)
    picture, paper = innermost_sheet(picture)
    coarse = reduced(picture, COARSE_SIDE)
    ink = main_ink(ink_contrast(coarse) * _of_size(paper, coarse.shape[:2]))
    if not ink.any():
        return np.zeros((height, width), dtype=np.float32)
    part = _part(picture, _bounds(ink), coarse.shape[0] / picture.shape[0])
    if part.shape != picture.shape:
        contrast = ink_contrast(reduced(part, FINE_SIDE))
        closer = same_ink(contrast, _of_size(_part(ink, _bounds(ink), 1) > INK_LEVEL, contrast.shape))
        ink = closer if closer.any() else ink
    if not is_written(ink):
        return np.zeros((height, width), dtype=np.float32)
    return _framed(ink, height, width, box)


def _bounds(ink: Floats, level: float = INK_LEVEL) -> tuple[int, int, int, int]:
    """Return top, bottom, left, right (ends excluded) of the ink, of which there is some."""
    mask = ink > level
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(rows[0]), int(rows[-1]) + 1, int(columns[0]), int(columns[-1]) + 1


def _part(picture: NDArray[Any], bounds: tuple[int, int, int, int], scale: float) -> NDArray[Any]:
    """Cut the bounds, which are in a copy of the picture made smaller by `scale`, with a margin around."""
    top, bottom, left, right = (bound / scale for bound in bounds)
    margin = MARGIN * max(bottom - top, right - left) + 2 / scale
    rows = slice(max(0, int(top - margin)), int(bottom + margin) + 1)
    columns = slice(max(0, int(left - margin)), int(right + margin) + 1)
    return picture[rows, columns]


def is_written(ink: Floats) -> bool:
    """Tell strokes from a blot, a speck or a sheet, and their edges from those of a shadow."""
    top, bottom, left, right = _bounds(ink)
    side = max(bottom - top, right - left)
    mask = ink > INK_LEVEL
    down, across = np.abs(np.diff(ink, axis=0)), np.abs(np.diff(ink, axis=1))
    edge = np.concatenate([down[mask[1:] != mask[:-1]], across[mask[:, 1:] != mask[:, :-1]]])
    step = float(np.percentile(edge, 75)) if edge.size else 0.0
    if side < SMALLEST_SIDE:
        return False
    return stroke_width(ink) < BLOT_WIDTH * side and step > min(SOFT_STEP, SOFT_EDGE / side)


def _of_size(mask: Mask, shape: tuple[int, ...]) -> Mask:
    height, width = shape
    return np.asarray(Image.fromarray(mask).resize((width, height)))


# --- the frame ---


def is_framed(contrast: Floats, height: int, width: int, box: int) -> bool:
    """Tell whether the ink already is in MNIST's frame, or in that frame padded to the model's input."""
    padding = height - (box + 8)
    if contrast.shape not in ((height, width), (height - padding, width - padding)):
        return False
    if not (contrast > INK_LEVEL).any():
        return False
    top, bottom, left, right = _bounds(contrast, FRINGE_LEVEL)
    y, x = _center_of_mass(contrast)
    off_center = max(abs(y - contrast.shape[0] / 2), abs(x - contrast.shape[1] / 2))
    return box - 2 <= max(bottom - top, right - left) <= box + 1 and off_center < 1.5


def _padded(values: Floats, height: int, width: int) -> Floats:
    rows, columns = height - values.shape[0], width - values.shape[1]
    return np.pad(values, ((rows // 2, rows - rows // 2), (columns // 2, columns - columns // 2)))


def _center_of_mass(ink: Floats) -> tuple[float, float]:
    """Return row and column, where 0 is the outer edge of the first pixel."""
    rows, columns = ink.sum(axis=1), ink.sum(axis=0)
    total = float(rows.sum())
    y = float(rows @ np.arange(0.5, len(rows))) / total
    x = float(columns @ np.arange(0.5, len(columns))) / total
    return y, x


def _framed(ink: Floats, height: int, width: int, box: int) -> Floats:
    """Scale the ink into the box, bring its strokes to MNIST's width, and center it by its mass."""
    top, bottom, left, right = _bounds(ink)
    scale = max(bottom - top, right - left) / box
    y, x = _center_of_mass(ink)
    large = _window(ink, y, x, height * scale, width * scale, (height * SUPERSAMPLING, width * SUPERSAMPLING))
    large = _stroke_normalized(large)
    framed = np.asarray(Image.fromarray(large).reduce(SUPERSAMPLING))
    return np.asarray(np.clip(framed, 0, 1))


def _window(ink: Floats, y: float, x: float, height: float, width: float, size: tuple[int, int]) -> Floats:
    """Resample the window of `height` by `width` around (y, x), which may reach beyond the ink's array."""
    pad = int(max(height, width)) + 1
    image = Image.fromarray(np.pad(ink, pad))
    box = (x - width / 2 + pad, y - height / 2 + pad, x + width / 2 + pad, y + height / 2 + pad)
    return np.asarray(image.resize(size[::-1], Image.Resampling.BILINEAR, box=box))


def _stroke_normalized(large: Floats) -> Floats:
    """Thicken hairlines and thin heavy strokes until their width is one that MNIST has."""
    for _ in range(8):
        measured = stroke_width(large) / SUPERSAMPLING
        thinnest, thickest = STROKE_WIDTHS
        if measured < thinnest:
            large = np.asarray(Image.fromarray(large).filter(ImageFilter.MaxFilter(3)))
        elif measured > thickest:
            large = np.asarray(Image.fromarray(large).filter(ImageFilter.MinFilter(3)))
        else:
            break
    return large


def stroke_width(ink: Floats) -> float:
    """Return the mean width of the strokes, in pixels: twice the area over the length of the outline."""
    mask = ink > 0.5
    padded = np.pad(mask, 1)
    outline = int((padded[1:] != padded[:-1]).sum()) + int((padded[:, 1:] != padded[:, :-1]).sum())
    # Counted along the grid, an outline of all directions is 4/pi times too long.
    return 2 * float(mask.sum()) / (outline * np.pi / 4) if outline else 0.0
