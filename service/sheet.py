"""Find the paper that a character is on, inside frames, bars and boxes, or on a desk.

Regions of even color are told apart by the steps between them. A sheet is such a region that, its holes and
notches filled, has the outline of a sheet of paper, and it is the ink that made the holes. What is on a sheet
may be a smaller one.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.regions import Mask, Pixels, components, reduced

Points = NDArray[np.float64]

SIDE = 128
"""Pixels on the longer side of the picture in which a sheet is looked for."""
DEEPEST = 4
"""How many sheets may lie on each other: desk, polaroid, photograph, box."""
SMALLEST_SIDE = 32
"""Pixels on the shorter side from which something on something can be told."""
STEP_LEVELS, STEP_MEDIANS = 16.0, 3.0
"""Difference of neighboring 8-bit levels that parts two regions; and in medians of all differences."""
RULED_LEVELS = 56.0
"""... on ruled and squared paper, whose lines are fainter."""
LIKE_LEVELS = 40.0
"""Difference of 8-bit levels within which two regions have one color."""
SMALLEST_SHEET = 0.06
"""The least part of the picture that the even part of a sheet has."""
SMALLEST_REGION = 0.01
"""The least part of the picture that counts as a region."""
MOST_LIKE = 2
"""How many regions of a sheet's color there may be beside it: squared and ruled paper has more."""
WHOLE_PART = 0.97
"""From this part of the picture on, a region is the picture."""
PAPER_PART = 0.5
"""The least part of a sheet that is free of ink."""
RECTANGULAR, SHARP = 0.86, 0.94
"""What a sheet covers of the smallest rectangle around it; the same for one with nothing on it."""
WRITING_PART = 0.12
"""How large what is written on a sheet is at least, as a part of the sheet's longer side."""
LARGE_PART, LARGE_BLANK = 0.5, 0.25
"""Parts of the picture: of a sheet through which the ground might be seen; of one with nothing on it."""
LONGEST_BLANK = 3.0
"""Longer over shorter side of a sheet with nothing on it; a stroke is longer."""


def innermost_sheet(picture: Pixels) -> tuple[Pixels, Mask]:
    """Cut the innermost sheet out of a picture [H, W, C]; one of nothing but paper stays as it is.

    Returns:
        The upright rectangle around the sheet, and which of its pixels [H, W] are the sheet's. The others
        have the color of the nearest one in their row that is.
    """
    paper = np.ones(picture.shape[:2], dtype=bool)
    for _ in range(DEEPEST):
        small = reduced(picture, SIDE)
        sheet = _sheet(small) if min(small.shape[:2]) >= SMALLEST_SIDE else None
        if sheet is None or not (inside := _inside(sheet)).any():
            break
        picture, paper = _cut(picture, paper, inside)
    return picture, paper


class _Region:
    """A region of even color: a `mask` in a `picture` made small, of one pixel less on each side."""

    def __init__(self, picture: Pixels, mask: Mask) -> None:
        self.mask = mask
        self.hull, self.filled = _hull(mask)
        self.part = float(self.filled.mean())
        """Of the picture, holes and notches included."""
        self.paper_part = float(mask.sum() / max(1, self.filled.sum()))
        self.color = np.median(picture[:-1, :-1][mask], axis=0).astype(np.float32)

    def is_like(self, color: NDArray[np.float32]) -> bool:
        return float(np.abs(self.color - color).max()) <= LIKE_LEVELS


def _sheet(picture: Pixels) -> _Region | None:
    """Find a sheet; where lines part the paper, look again, for what parts it more than these do."""
    for levels in (STEP_LEVELS, RULED_LEVELS):
        even = _even(picture, levels)
        regions = _regions(picture, even)
        sheet = _largest_sheet(picture, even, regions)
        if sheet is not None or len(regions) <= MOST_LIKE + 1:
            return sheet
    return None


def _regions(picture: Pixels, even: Mask) -> list[_Region]:
    labels = components(even)
    sizes = np.bincount(labels.ravel(), minlength=2)
    sizes[0] = 0
    labeled = np.flatnonzero(sizes >= SMALLEST_REGION * even.size)
    return [_Region(picture, labels == label) for label in labeled]


def _largest_sheet(picture: Pixels, even: Mask, regions: list[_Region]) -> _Region | None:
    """Return the largest region that is a sheet with something on it; else one with nothing on it."""
    ground = _color_of_rim(picture)
    sheets = [each for each in regions if _is_sheet(each, regions)]
    for region in sorted(sheets, key=lambda each: -each.part):
        if _is_written_on(region, picture, even, ground):
            return region
    for region in sorted(sheets, key=lambda each: -each.part):
        if _is_blank_sheet(region, regions):
            return region
    return None


def _is_sheet(region: _Region, regions: list[_Region]) -> bool:
    """Tell whether a region may be paper, and is neither all of the picture nor a cell of squared paper."""
    if region.part >= WHOLE_PART or region.part < SMALLEST_SHEET or region.paper_part < PAPER_PART:
        return False
    filled = region.filled
    apart = (each for each in regions if not (each.mask & filled).any())
    return sum(each.is_like(region.color) for each in apart) <= MOST_LIKE


def _even(picture: Pixels, levels: float) -> Mask:
    """Tell [H-1, W-1] where the 2x2 pixels from there on differ by no more than noise."""
    high, low = np.maximum(picture[:-1], picture[1:]), np.minimum(picture[:-1], picture[1:])
    step = (np.maximum(high[:, :-1], high[:, 1:]) - np.minimum(low[:, :-1], low[:, 1:])).max(axis=2)
    even = step <= max(levels, STEP_MEDIANS * float(np.median(step)))
    opened = Image.fromarray(even).filter(ImageFilter.MinFilter(3)).filter(ImageFilter.MaxFilter(3))
    return np.asarray(opened)


def _color_of_rim(picture: Pixels) -> NDArray[np.float32]:
    rim = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    return np.asarray(np.median(rim, axis=0), dtype=np.float32)


def _is_written_on(region: _Region, picture: Pixels, even: Mask, ground: NDArray[np.float32]) -> bool:
    """Tell whether a region is paper around something, and no stroke around a hole."""
    filled = region.filled
    inner = _eroded(filled)
    labels = components(filled & ~region.mask)
    within = labels[_eroded(inner) & (labels > 0)]  # without slivers between a region and its hull
    if not within.size:
        return False
    writing = labels == np.bincount(within).argmax()
    if (writing & filled & ~inner).any():  # it goes on beyond the region
        return False
    rows, columns = np.nonzero(writing)
    outlined = region.is_like(ground)  # there is paper on both sides, and a line between
    around = max(filled.shape) if outlined else np.ptp(region.hull, axis=0).max()
    if max(np.ptp(rows), np.ptp(columns)) + 1 < WRITING_PART * around:
        return False
    if outlined:
        return True
    seen = picture[:-1, :-1][writing & even].astype(np.float32)
    seen = seen[np.abs(seen - region.color).max(axis=1) > LIKE_LEVELS]
    through = len(seen) > 0 and float(np.abs(np.median(seen, axis=0) - ground).max()) <= LIKE_LEVELS
    return _rectangularity(region.hull) >= RECTANGULAR and (not through or region.part >= LARGE_PART)


def _is_blank_sheet(region: _Region, regions: list[_Region]) -> bool:
    """Tell whether a region is a sheet, although nothing is on it, and no part that a stroke cut off."""
    others = [each for each in regions if each is not region and each.is_like(region.color)]
    if others or region.part < LARGE_BLANK or _rectangularity(region.hull) < SHARP:
        return False
    long, short = _smallest_rectangle(region.hull)
    return long <= LONGEST_BLANK * short


def _inside(sheet: _Region) -> Mask:
    """Return the sheet [H, W] without its rim, where it is mixed with what is around it."""
    return _eroded(np.pad(sheet.filled, ((0, 1), (0, 1)), mode="edge"))


def _cut(picture: Pixels, paper: Mask, inside: Mask) -> tuple[Pixels, Mask]:
    """Cut a sheet, found in a smaller copy, out of the picture."""
    height, width = picture.shape[:2]
    rows, columns = np.flatnonzero(inside.any(axis=1)), np.flatnonzero(inside.any(axis=0))
    factor = -(-max(height, width) // max(inside.shape))
    top, left = rows[0] * factor, columns[0] * factor
    bottom, right = min(height, (rows[-1] + 1) * factor), min(width, (columns[-1] + 1) * factor)
    part, paper = picture[top:bottom, left:right], paper[top:bottom, left:right]
    mask = inside[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    if mask.all():
        return part, paper
    large = np.repeat(np.repeat(mask, factor, axis=0), factor, axis=1)[: part.shape[0], : part.shape[1]]
    first = large.argmax(axis=1)
    last = large.shape[1] - 1 - large[:, ::-1].argmax(axis=1)
    nearest = np.clip(np.arange(large.shape[1]), first[:, None], last[:, None])
    return part[np.arange(len(part))[:, None], nearest], paper & large


# --- outlines ---


def _eroded(mask: Mask) -> Mask:
    """Take a rim of one pixel off, but not at the sides of the picture."""
    image = Image.fromarray(np.pad(mask, 1, mode="edge")).filter(ImageFilter.MinFilter(3))
    return np.asarray(image)[1:-1, 1:-1]


def _hull(mask: Mask) -> tuple[Points, Mask]:
    """Return the corners (x, y) of the convex hull, and what it fills.

    Andrew's monotone chain, Information Processing Letters 9(5), 1979.
    """
    rows = np.flatnonzero(mask.any(axis=1))
    left = np.array(_chain(mask[rows].argmax(axis=1), rows, 1), dtype=np.float64)
    right = np.array(_chain(mask.shape[1] - 1 - mask[rows, ::-1].argmax(axis=1), rows, -1), dtype=np.float64)
    height, width = mask.shape
    ends = [np.interp(np.arange(height), *chain.T[::-1]).round()[:, None] for chain in (left, right)]
    filled = (np.arange(width) >= ends[0]) & (np.arange(width) <= ends[1])
    filled[: rows[0]] = filled[rows[-1] + 1 :] = False
    return np.concatenate([left, right[::-1]]), filled


def _chain(columns: NDArray[np.int64], rows: NDArray[np.int64], sign: int) -> list[tuple[int, int]]:
    chain: list[tuple[int, int]] = []
    for x, y in zip(columns.tolist(), rows.tolist(), strict=True):
        while len(chain) > 1:
            (x0, y0), (x1, y1) = chain[-2:]
            if sign * ((x1 - x0) * (y - y0) - (x - x0) * (y1 - y0)) < 0:
                break
            chain.pop()
        chain.append((x, y))
    return chain


def _area(corners: Points) -> float:
    """Return the area of a polygon, half a pixel around its corners' centers included (Pick's theorem)."""
    x, y = corners.T
    around = np.abs(np.diff(corners, axis=0, append=corners[:1])).max(axis=1).sum()
    return abs(float(x @ np.roll(y, -1) - y @ np.roll(x, -1))) / 2 + float(around) / 2 + 1


def _smallest_rectangle(corners: Points) -> tuple[float, float]:
    """Return longer and shorter side of the smallest rectangle around a hull; one side lies on an edge of it.

    Freeman, Shapira: Determining the minimum-area encasing rectangle, CACM 18(7), 1975.
    """
    edges = np.diff(corners, axis=0, append=corners[:1])
    angles = np.arctan2(edges[:, 1], edges[:, 0])
    across = corners @ np.stack([np.cos(angles), np.sin(angles)])
    along = corners @ np.stack([-np.sin(angles), np.cos(angles)])
    widths, heights = np.ptp(across, axis=0) + 1, np.ptp(along, axis=0) + 1
    best = int((widths * heights).argmin())
    long, short = sorted((float(widths[best]), float(heights[best])), reverse=True)
    return long, short


def _rectangularity(corners: Points) -> float:
    long, short = _smallest_rectangle(corners)
    return min(1.0, _area(corners) / (long * short))
