"""Which pixels of a picture hang together; and the picture made smaller, to see that quickly."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Pixels = NDArray[np.uint8]
Floats = NDArray[np.float32]
Mask = NDArray[np.bool_]


def reduced(picture: Pixels, side: int) -> Pixels:
    """Average whole blocks of pixels, so that the longer side is at most `side`."""
    factor = -(-max(picture.shape) // side)
    if factor <= 1:
        return picture
    plain = picture[..., 0] if picture.shape[2] == 1 else picture
    reduced = np.asarray(Image.fromarray(plain).reduce(factor))
    return reduced.reshape(*reduced.shape[:2], picture.shape[2])


def components(mask: Mask) -> NDArray[np.int64]:
    """Label the 8-connected parts of a mask: 0 outside, one number from 1 for each part.

    Runs of pixels are the nodes of a graph, its edges join runs that touch in neighboring rows, and the parts
    come by union-find. Rosenfeld, Pfaltz: Sequential operations in digital picture processing, JACM, 1966.
    """
    stride = mask.shape[1] + 2  # two columns of nothing, so that rows never touch
    flat = np.zeros((mask.shape[0], stride), dtype=np.int8)
    flat[:, 1:-1] = mask
    steps = np.diff(flat.ravel())
    starts, ends = np.flatnonzero(steps == 1) + 1, np.flatnonzero(steps == -1) + 1
    first = np.searchsorted(ends, starts - stride, side="left")
    last = np.searchsorted(starts, ends - stride, side="right")
    parts = _united(first.tolist(), last.tolist())
    labels = np.zeros(flat.size, dtype=np.int64)
    labels[np.flatnonzero(flat)] = np.repeat(parts, ends - starts)
    return labels.reshape(flat.shape)[:, 1:-1]


def _united(first: list[int], last: list[int]) -> NDArray[np.int64]:
    """Number the sets from 1, where node i is in one set with nodes first[i] to last[i]-1, all before it."""
    parent = list(range(len(first)))

    def root(node: int) -> int:
        while parent[node] != node:
            parent[node] = parent[parent[node]]
            node = parent[node]
        return node

    for node, (low, high) in enumerate(zip(first, last, strict=True)):
        for other in range(low, high):
            parent[root(node)] = root(other)
    roots = np.array([root(node) for node in range(len(parent))], dtype=np.int64)
    return np.unique(roots, return_inverse=True)[1] + 1
