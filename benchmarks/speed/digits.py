"""The images that are sent: the sample digits, as the input of LeNet."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

ROOT = Path(__file__).resolve().parents[2]
_PADDING = 2  # MNIST's 28x28 to LeNet's 32x32

Images = NDArray[np.float32]


@cache
def digits() -> Images:
    """Return the MNIST samples, float32 [N, 1, 32, 32], 0 background and 1 ink."""
    paths = sorted((ROOT / "samples" / "mnist").glob("*.png"))
    pixels = np.stack([np.asarray(Image.open(path).convert("L"), np.float32) for path in paths])
    return np.pad(pixels / np.float32(255), [(0, 0), *[(_PADDING, _PADDING)] * 2])[:, None]


def batch(start: int, count: int) -> Images:
    """Return so many digits from `start` on, the first again after the last."""
    return np.take(digits(), range(start, start + count), axis=0, mode="wrap")
