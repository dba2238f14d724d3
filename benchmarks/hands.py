"""How people write the ten digits: the pen's path in several styles of each, and the jitter of a hand."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Points = NDArray[np.float64]
# Strokes as points "x,y" in hundredths of the digit's height, y down. A smooth curve goes through; a point
# that stands twice is a corner.
STYLES: dict[int, dict[str, tuple[str, ...]]] = {
    0: {
        "oval": ("36,2 10,22 5,60 22,95 50,92 63,55 56,15 36,2",),
        "round": ("40,0 8,20 0,55 18,93 50,100 78,75 80,35 62,5 36,1",),
        "overlapped": ("52,10 30,2 8,30 6,70 30,100 58,78 60,35 42,6 22,8",),
    },
    1: {
        "bar": ("20,0 20,50 20,100",),
        "slanted": ("38,0 20,50 5,100",),
        "flag": ("0,26 16,13 28,0 28,0 28,50 27,100",),
        "flag and base": ("4,22 18,12 28,0 28,0 28,50 28,98", "2,100 30,99 56,100"),
    },
    2: {
        "flat": ("5,20 25,2 52,8 58,32 36,66 2,98 2,98 30,97 66,97",),
        "loop": ("6,18 28,1 54,12 52,42 30,75 10,96 2,86 14,78 36,90 68,98",),
        "wavy": ("8,14 34,0 56,18 46,50 20,80 4,97 20,90 44,95 70,88",),
    },
    3: {
        "round": ("6,12 30,0 52,14 46,38 22,47 22,47 50,56 58,78 34,100 2,90",),
        "flat top": ("6,2 30,2 54,2 54,2 40,22 24,40 24,40 52,50 56,80 30,100 2,90",),
        "looped": ("8,16 28,0 50,10 46,34 26,46 20,42 30,42 54,56 56,84 30,100 2,86",),
    },
    4: {
        "open": ("10,2 6,30 2,58 2,58 34,57 64,54", "46,10 45,55 43,100"),
        "closed": ("44,100 45,50 46,0 46,0 22,35 0,66 0,66 34,66 68,64",),
        "slanted": ("24,0 12,28 0,56 0,56 30,54 62,50", "56,22 44,60 34,100"),
        "curved": ("8,6 4,36 20,50 40,46 56,30", "58,2 54,50 50,100"),
    },
    5: {
        "two strokes": ("14,4 12,22 9,42 9,42 34,38 56,56 50,88 22,100 0,90", "14,4 34,3 60,2"),
        "one stroke": ("62,2 40,3 16,5 16,5 13,24 10,44 10,44 36,40 56,58 50,88 24,100 2,92",),
        "curved": ("60,2 36,2 16,10 14,34 34,44 54,60 50,88 26,100 2,90",),
    },
    6: {
        "curved": ("50,0 22,20 5,55 12,90 36,100 56,82 48,58 26,54 7,72",),
        "straight": ("36,0 16,34 2,72 14,98 40,96 50,74 34,58 6,68",),
        "hooked": ("58,10 40,0 14,24 4,64 18,97 46,95 56,70 36,52 8,66",),
    },
    7: {
        "plain": ("0,4 28,3 58,3 58,3 38,45 22,100",),
        "barred": ("0,5 28,3 60,3 60,3 40,45 24,100", "16,52 34,50 56,48"),
        "flag": ("2,18 3,10 4,3 4,3 30,5 58,3 58,3 36,48 26,100",),
        "curved": ("0,8 20,3 42,8 62,2 62,2 40,30 28,62 26,100",),
    },
    8: {
        "one stroke": ("50,12 26,0 8,20 26,42 50,64 50,90 26,100 4,84 16,58 40,40 54,20 46,8",),
        "two circles": (
            "30,0 10,10 10,34 30,46 50,34 50,10 30,0",
            "30,46 4,60 6,90 30,100 54,90 56,60 30,46",
        ),
        "crossed": ("56,6 30,2 12,20 30,44 46,70 34,98 10,94 8,70 32,44 50,24 58,4",),
    },
    9: {
        "straight": ("50,16 30,0 6,14 6,40 28,50 48,34 52,8 52,8 50,50 48,100",),
        "curved": ("52,16 30,0 6,16 8,42 32,50 52,30 54,12 50,60 34,100",),
        "hooked": ("52,18 32,0 8,12 8,40 30,48 50,32 54,12 54,66 40,97 8,94",),
    },
}


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
    strokes = [smooth(_jittered(_points(path), hand, rng)) for path in styles[style]]
    angle = np.deg2rad(hand.tilt)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    shear = np.array([[hand.aspect, 0.0], [-hand.slant, 1.0]])
    strokes = [stroke @ shear @ turn for stroke in strokes]
    points = np.concatenate(strokes)
    low, high = points.min(axis=0), points.max(axis=0)
    return style, [(stroke - (low + high) / 2) / (high - low)[1] for stroke in strokes]


def _points(path: str) -> Points:
    return np.array([point.split(",") for point in path.split()], dtype=np.float64) / 100


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
