"""How people write the ten digits: the path of the pen for several styles of each, and the jitter of a hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
Path = list[tuple[float, float]]

# The digit fills a box 1 high; x to the right, y down. A smooth curve goes through the points of a stroke;
# a point that stands twice is a corner.
STYLES: dict[int, dict[str, list[Path]]] = {
    0: {
        "oval": [[(0.36, 0.02), (0.1, 0.22), (0.05, 0.6), (0.22, 0.95), (0.5, 0.92), (0.63, 0.55), (0.56, 0.15), (0.36, 0.02)]],
        "round": [[(0.4, 0.0), (0.08, 0.2), (0.0, 0.55), (0.18, 0.93), (0.5, 1.0), (0.78, 0.75), (0.8, 0.35), (0.62, 0.05), (0.36, 0.01)]],
        "overlapped": [[(0.52, 0.1), (0.3, 0.02), (0.08, 0.3), (0.06, 0.7), (0.3, 1.0), (0.58, 0.78), (0.6, 0.35), (0.42, 0.06), (0.22, 0.08)]],
    },
    1: {
        "bar": [[(0.2, 0.0), (0.2, 0.5), (0.2, 1.0)]],
        "slanted": [[(0.38, 0.0), (0.2, 0.5), (0.05, 1.0)]],
        "flag": [[(0.0, 0.26), (0.16, 0.13), (0.28, 0.0), (0.28, 0.0), (0.28, 0.5), (0.27, 1.0)]],
        "flag and base": [[(0.04, 0.22), (0.18, 0.12), (0.28, 0.0), (0.28, 0.0), (0.28, 0.5), (0.28, 0.98)], [(0.02, 1.0), (0.3, 0.99), (0.56, 1.0)]],
    },
    2: {
        "flat": [[(0.05, 0.2), (0.25, 0.02), (0.52, 0.08), (0.58, 0.32), (0.36, 0.66), (0.02, 0.98), (0.02, 0.98), (0.3, 0.97), (0.66, 0.97)]],
        "loop": [[(0.06, 0.18), (0.28, 0.01), (0.54, 0.12), (0.52, 0.42), (0.3, 0.75), (0.1, 0.96), (0.02, 0.86), (0.14, 0.78), (0.36, 0.9), (0.68, 0.98)]],
        "wavy": [[(0.08, 0.14), (0.34, 0.0), (0.56, 0.18), (0.46, 0.5), (0.2, 0.8), (0.04, 0.97), (0.2, 0.9), (0.44, 0.95), (0.7, 0.88)]],
    },
    3: {
        "round": [[(0.06, 0.12), (0.3, 0.0), (0.52, 0.14), (0.46, 0.38), (0.22, 0.47), (0.22, 0.47), (0.5, 0.56), (0.58, 0.78), (0.34, 1.0), (0.02, 0.9)]],
        "flat top": [[(0.06, 0.02), (0.3, 0.02), (0.54, 0.02), (0.54, 0.02), (0.4, 0.22), (0.24, 0.4), (0.24, 0.4), (0.52, 0.5), (0.56, 0.8), (0.3, 1.0), (0.02, 0.9)]],
        "looped": [[(0.08, 0.16), (0.28, 0.0), (0.5, 0.1), (0.46, 0.34), (0.26, 0.46), (0.2, 0.42), (0.3, 0.42), (0.54, 0.56), (0.56, 0.84), (0.3, 1.0), (0.02, 0.86)]],
    },
    4: {
        "open": [[(0.1, 0.02), (0.06, 0.3), (0.02, 0.58), (0.02, 0.58), (0.34, 0.57), (0.64, 0.54)], [(0.46, 0.1), (0.45, 0.55), (0.43, 1.0)]],
        "closed": [[(0.44, 1.0), (0.45, 0.5), (0.46, 0.0), (0.46, 0.0), (0.22, 0.35), (0.0, 0.66), (0.0, 0.66), (0.34, 0.66), (0.68, 0.64)]],
        "slanted": [[(0.24, 0.0), (0.12, 0.28), (0.0, 0.56), (0.0, 0.56), (0.3, 0.54), (0.62, 0.5)], [(0.56, 0.22), (0.44, 0.6), (0.34, 1.0)]],
        "curved": [[(0.08, 0.06), (0.04, 0.36), (0.2, 0.5), (0.4, 0.46), (0.56, 0.3)], [(0.58, 0.02), (0.54, 0.5), (0.5, 1.0)]],
    },
    5: {
        "two strokes": [[(0.14, 0.04), (0.12, 0.22), (0.09, 0.42), (0.09, 0.42), (0.34, 0.38), (0.56, 0.56), (0.5, 0.88), (0.22, 1.0), (0.0, 0.9)], [(0.14, 0.04), (0.34, 0.03), (0.6, 0.02)]],
        "one stroke": [[(0.62, 0.02), (0.4, 0.03), (0.16, 0.05), (0.16, 0.05), (0.13, 0.24), (0.1, 0.44), (0.1, 0.44), (0.36, 0.4), (0.56, 0.58), (0.5, 0.88), (0.24, 1.0), (0.02, 0.92)]],
        "curved": [[(0.6, 0.02), (0.36, 0.02), (0.16, 0.1), (0.14, 0.34), (0.34, 0.44), (0.54, 0.6), (0.5, 0.88), (0.26, 1.0), (0.02, 0.9)]],
    },
    6: {
        "curved": [[(0.5, 0.0), (0.22, 0.2), (0.05, 0.55), (0.12, 0.9), (0.36, 1.0), (0.56, 0.82), (0.48, 0.58), (0.26, 0.54), (0.07, 0.72)]],
        "straight": [[(0.36, 0.0), (0.16, 0.34), (0.02, 0.72), (0.14, 0.98), (0.4, 0.96), (0.5, 0.74), (0.34, 0.58), (0.06, 0.68)]],
        "hooked": [[(0.58, 0.1), (0.4, 0.0), (0.14, 0.24), (0.04, 0.64), (0.18, 0.97), (0.46, 0.95), (0.56, 0.7), (0.36, 0.52), (0.08, 0.66)]],
    },
    7: {
        "plain": [[(0.0, 0.04), (0.28, 0.03), (0.58, 0.03), (0.58, 0.03), (0.38, 0.45), (0.22, 1.0)]],
        "barred": [[(0.0, 0.05), (0.28, 0.03), (0.6, 0.03), (0.6, 0.03), (0.4, 0.45), (0.24, 1.0)], [(0.16, 0.52), (0.34, 0.5), (0.56, 0.48)]],
        "flag": [[(0.02, 0.18), (0.03, 0.1), (0.04, 0.03), (0.04, 0.03), (0.3, 0.05), (0.58, 0.03), (0.58, 0.03), (0.36, 0.48), (0.26, 1.0)]],
        "curved": [[(0.0, 0.08), (0.2, 0.03), (0.42, 0.08), (0.62, 0.02), (0.62, 0.02), (0.4, 0.3), (0.28, 0.62), (0.26, 1.0)]],
    },
    8: {
        "one stroke": [[(0.5, 0.12), (0.26, 0.0), (0.08, 0.2), (0.26, 0.42), (0.5, 0.64), (0.5, 0.9), (0.26, 1.0), (0.04, 0.84), (0.16, 0.58), (0.4, 0.4), (0.54, 0.2), (0.46, 0.08)]],
        "two circles": [[(0.3, 0.0), (0.1, 0.1), (0.1, 0.34), (0.3, 0.46), (0.5, 0.34), (0.5, 0.1), (0.3, 0.0)], [(0.3, 0.46), (0.04, 0.6), (0.06, 0.9), (0.3, 1.0), (0.54, 0.9), (0.56, 0.6), (0.3, 0.46)]],
        "crossed": [[(0.56, 0.06), (0.3, 0.02), (0.12, 0.2), (0.3, 0.44), (0.46, 0.7), (0.34, 0.98), (0.1, 0.94), (0.08, 0.7), (0.32, 0.44), (0.5, 0.24), (0.58, 0.04)]],
    },
    9: {
        "straight": [[(0.5, 0.16), (0.3, 0.0), (0.06, 0.14), (0.06, 0.4), (0.28, 0.5), (0.48, 0.34), (0.52, 0.08), (0.52, 0.08), (0.5, 0.5), (0.48, 1.0)]],
        "curved": [[(0.52, 0.16), (0.3, 0.0), (0.06, 0.16), (0.08, 0.42), (0.32, 0.5), (0.52, 0.3), (0.54, 0.12), (0.5, 0.6), (0.34, 1.0)]],
        "hooked": [[(0.52, 0.18), (0.32, 0.0), (0.08, 0.12), (0.08, 0.4), (0.3, 0.48), (0.5, 0.32), (0.54, 0.12), (0.54, 0.66), (0.4, 0.97), (0.08, 0.94)]],
    },
}  # fmt: skip


@dataclass(frozen=True)
class Hand:
    """How one person writes."""

    slant: float
    """Shear, in widths per height; positive leans to the right."""
    aspect: float
    """Width of the digits, relative to the styles'."""
    wobble: float
    """Standard deviation of where the pen goes, in heights."""
    tilt: float
    """Rotation of the digit on the paper, in degrees."""


def any_hand(rng: np.random.Generator) -> Hand:
    """Draw a person at random."""
    return Hand(
        slant=rng.normal(0.08, 0.12),
        aspect=rng.uniform(0.8, 1.35),
        wobble=rng.uniform(0.008, 0.03),
        tilt=rng.uniform(-15, 15),
    )


def write(digit: int, hand: Hand, rng: np.random.Generator) -> tuple[str, list[Points]]:
    """Return the name of a style of `digit` and its strokes [K, 2], the whole 1 high and around (0, 0)."""
    styles = STYLES[digit]
    style = str(rng.choice(list(styles)))
    strokes = [smooth(_jittered(np.array(path), hand, rng)) for path in styles[style]]
    angle = np.deg2rad(hand.tilt)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shear = np.array([[hand.aspect, 0.0], [-hand.slant, 1.0]])
    strokes = [stroke @ shear @ turn for stroke in strokes]
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    return style, [(stroke - (low + high) / 2) / (high - low)[1] for stroke in strokes]


def _jittered(path: Points, hand: Hand, rng: np.random.Generator) -> Points:
    """Move the points, corners (which stand twice) as one."""
    moved: Points = path + rng.normal(0, hand.wobble, path.shape)
    corner = np.flatnonzero((path[1:] == path[:-1]).all(axis=1))
    moved[corner + 1] = moved[corner]
    return moved


def smooth(points: Points, steps: int = 24) -> Points:
    """Return the Catmull-Rom spline through the points (Catmull and Rom 1974), `steps` points a segment."""
    padded = np.concatenate([points[:1], points, points[-1:]])
    before, start, end, after = padded[:-3], padded[1:-2], padded[2:-1], padded[3:]
    t = np.linspace(0, 1, steps, endpoint=False)[:, None, None]
    curve = 0.5 * (
        2 * start
        + (end - before) * t
        + (2 * before - 5 * start + 4 * end - after) * t**2
        + (3 * start - before - 3 * end + after) * t**3
    )
    return np.concatenate([curve.transpose(1, 0, 2).reshape(-1, 2), points[-1:]])
