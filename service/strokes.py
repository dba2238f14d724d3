"""Tell which of the ink in a picture is a handwritten character.

Photographs and forms have specks, lines, boxes and the edge of a table besides.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from service.regions import Floats, Mask, components

INK_LEVEL = 0.4
"""Contrast from which a pixel is ink."""
SCENERY_PART = 0.35
"""What runs along more of a side of the picture than this is no character."""
BAND_PART = 0.9
"""A line of pixels covered to this part is no stroke, if so are all from it to the picture's side."""
SMALLEST_PART = 0.05
"""What is smaller than this part of the picture is no character but a speck, if anything else can be one."""
MAIN_PART = 0.12
"""A stroke apart is of the character if it has this part of the ink that the largest one has."""
MOST_PARTS = 12
"""How many parts of the ink can matter: the largest."""
ENCLOSING_PART = 0.04
"""How far inside of a box its contents are, as a part of its sides."""
LINE_SLOPE, LINE_BAND = 0.3, 0.12
"""Sides and width of a straight line, as parts of its length, at most."""
RULE_LENGTH, RULE_GAP = 1.1, 0.25
"""A line as long, or as far from the rest, as these parts of the rest's longer side is no stroke of it."""
SPECK_SIDE, SPECK_INK = 0.1, 0.25
"""What is smaller than this part of the picture is noise, if it has less than this part of the ink."""
FARTHEST_GAP = 0.6
"""Strokes of one character are nearer to each other than this part of the longer one."""


def main_ink(contrast: Floats) -> Floats:
    """Keep the character: the stroke with most ink and its like; no specks, no paper's edge, no lines."""
    mask = without_scenery(contrast > INK_LEVEL)
    labels = _joined(mask)
    ink = np.bincount(labels.ravel(), weights=(contrast * mask).ravel())
    most = [label for label in np.argsort(-ink)[:MOST_PARTS].tolist() if ink[label] > 0]
    parts = [_part((labels == label) & mask, label, float(ink[label])) for label in most]
    character = _character(parts)
    if _is_one_of_many(character, float(ink.sum()), max(mask.shape)):
        character = []
    return _only(contrast, mask, labels, [part.label for part in character])


def same_ink(contrast: Floats, seen: Mask) -> Floats:
    """Keep the strokes that were the character in a look at all of the picture."""
    mask = without_scenery(contrast > INK_LEVEL)
    labels = _joined(mask)
    return _only(contrast, mask, labels, np.unique(labels[seen]).tolist())


def _joined(mask: Mask) -> NDArray[np.int64]:
    """Label the parts of a mask, where gaps as those of a dry pen part nothing."""
    return components(_dilated(mask, max(1, max(mask.shape) // 80)))


def _only(contrast: Floats, mask: Mask, labels: NDArray[np.int64], keep: list[int]) -> Floats:
    kept = np.zeros(int(labels.max()) + 1, dtype=bool)
    kept[keep] = True
    kept[0] = False
    with_fringe = _dilated(mask, 1) & (mask | ~(contrast > INK_LEVEL))
    return np.where(kept[labels] & with_fringe, contrast, 0).astype(np.float32)


@dataclass(frozen=True)
class _Part:
    """What hangs together: its ink, its box, ends included, and whether it is a straight line."""

    label: int
    ink: float
    top: int
    bottom: int
    left: int
    right: int
    line: Literal["", "across", "down"]

    @property
    def side(self) -> int:
        return max(self.bottom - self.top, self.right - self.left) + 1

    def encloses(self, other: _Part) -> bool:
        y, x = ENCLOSING_PART * (self.bottom - self.top), ENCLOSING_PART * (self.right - self.left)
        rows = self.top + y <= other.top and other.bottom <= self.bottom - y
        return rows and self.left + x <= other.left and other.right <= self.right - x

    def gap(self, other: _Part) -> int:
        rows = max(self.top - other.bottom, other.top - self.bottom)
        return max(0, rows, self.left - other.right, other.left - self.right)


def _part(where: Mask, label: int, ink: float) -> _Part:
    rows, columns = np.nonzero(where)
    box = int(rows.min()), int(rows.max()), int(columns.min()), int(columns.max())
    return _Part(label, ink, *box, _line(rows, columns))


def _line(rows: NDArray[np.int64], columns: NDArray[np.int64]) -> Literal["", "across", "down"]:
    """Tell whether pixels lie in a straight band, and where it leads."""
    across = np.ptp(columns) >= np.ptp(rows)
    along, aside = (columns, rows) if across else (rows, columns)
    if np.ptp(aside) > LINE_SLOPE * np.ptp(along):
        return ""
    x, y = along - along.mean(), aside - aside.mean()
    band = np.ptp(y - x * (x @ y) / max(float(x @ x), 1.0)) + 1
    return "" if band > LINE_BAND * np.ptp(along) else "across" if across else "down"


def _character(parts: list[_Part]) -> list[_Part]:
    """Leave out boxes around others, lines beside others, specks and what is far from the rest."""
    parts = _main(parts)
    parts = [each for each in parts if not any(each.encloses(other) for other in parts if other is not each)]
    for direction in ("across", "down"):
        rest = _main([each for each in parts if each.line != direction])
        if rest:
            parts = [each for each in parts if each.line != direction or not _is_rule(each, rest)]
    parts = _main(parts)
    if not parts:
        return parts
    main = max(parts, key=lambda each: each.ink)
    return [each for each in parts if each.gap(main) <= FARTHEST_GAP * max(each.side, main.side)]


def _is_one_of_many(character: list[_Part], ink: float, side: int) -> bool:
    """Tell whether it is one of many specks, of which a few can be the largest only by chance."""
    own = sum(each.ink for each in character)
    return max((each.side for each in character), default=0) < SPECK_SIDE * side and own < SPECK_INK * ink


def _main(parts: list[_Part]) -> list[_Part]:
    most = max((each.ink for each in parts), default=0)
    return [each for each in parts if each.ink >= MAIN_PART * most]


def _is_rule(line: _Part, rest: list[_Part]) -> bool:
    """Tell whether a line is beside the rest, which is no smaller than a stroke of its character would be."""
    side = max(each.side for each in rest)
    gap = min(line.gap(each) for each in rest)
    return side >= 0.25 * line.side and (line.side >= RULE_LENGTH * side or gap >= RULE_GAP * side)


def without_scenery(mask: Mask) -> Mask:
    """Drop what runs along a side of the picture, as a table or a shadow does and a character doesn't."""
    peeled = _peeled(mask)
    labels = components(peeled)
    scenery = {0}
    for side in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        found, counts = np.unique(side, return_counts=True)
        scenery.update(found[counts > SCENERY_PART * len(side)].tolist())
    for kept in (peeled & ~np.isin(labels, list(scenery)), peeled):
        if _extent(kept) >= SMALLEST_PART * max(mask.shape):
            return kept
    return mask


def _peeled(mask: Mask) -> Mask:
    """Cut off the bands that cover whole sides, even where a character touches them."""
    peeled = mask.copy()
    for side in (peeled, peeled[::-1], peeled.T, peeled.T[::-1]):
        bands = side.mean(axis=1) > BAND_PART
        side[: int(np.argmin(np.append(bands, False)))] = False
    return peeled


def _extent(mask: Mask) -> int:
    """Return the longer side of the largest part's box, in pixels."""
    labels = components(mask)
    if not labels.any():
        return 0
    sizes = np.bincount(labels.ravel())
    rows, columns = np.nonzero(labels == sizes[1:].argmax() + 1)
    return int(max(np.ptp(rows), np.ptp(columns))) + 1


def _dilated(mask: Mask, radius: int) -> Mask:
    image = Image.fromarray(mask.astype(np.uint8) * 255).filter(ImageFilter.BoxBlur(radius))
    return np.asarray(image) > 0
