"""Feeds of two items that differ as much as a model may take, to try what depends on what."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from random import Random

import numpy as np

from service.tensors import Array, TensorSpec

Feeds = dict[str, Array]
Pair = tuple[Feeds, Feeds]

_SIZES = (3, 32, 224)
"""What is tried for axes other than the batch that may have any size."""
_MOST_ELEMENTS = 2**26
"""Of a run; what is larger isn't tried."""


def pairs(inputs: Sequence[TensorSpec], items: int, *, wide: bool = False) -> Iterator[Pair]:
    """Make two unlike items, for each size that free axes may be tried at; none that are too large.

    Args:
        inputs: The inputs, each with a known rank of at least 1.
        items: How many a run has.
        wide: Whether numbers are from -64 to 191, as pixels are, rather than from 0 to 4. Layers that give
            zeros for the one may not for the other.

    Yields:
        Feeds of one item each, axis 0 of size 1.
    """
    any_free = any(None in (spec.shape or ())[1:] for spec in inputs)
    for size in _SIZES if any_free else _SIZES[:1]:
        if items * sum(math.prod(_shape(spec, size)) for spec in inputs) > _MOST_ELEMENTS:
            return
        generator = Random(0)  # noqa: S311 - no secret is made of it
        both = {spec.name: _two_items(spec, size, generator, wide=wide) for spec in inputs}
        yield {name: two[:1] for name, two in both.items()}, {name: two[1:] for name, two in both.items()}


def _shape(spec: TensorSpec, size: int) -> list[int]:
    return [size if wanted is None else wanted for wanted in (spec.shape or ())[1:]]


def _two_items(spec: TensorSpec, size: int, generator: Random, *, wide: bool) -> Array:
    shape = _shape(spec, size)
    kind = "f" if spec.dtype is None else spec.dtype.kind
    if kind in "fc":
        # The second is four times as large: a scale that both would share shows.
        drawn = _fractions([2, *shape], generator) * np.array([1, 4]).reshape(2, *[1] * len(shape))
        values = 64 * drawn - 64 if wide else drawn
    elif kind in "iu" and (wide or spec.dtype == np.uint8):  # bytes are pixels
        values = _fractions([2, *shape], generator) * (256 if spec.dtype == np.uint8 else 128)
    else:
        first = 1 + (_fractions(shape, generator) < 0.5)  # 1 or 2, which small vocabularies have too
        both = np.stack([first, 3 - first])
        values = both == 1 if kind == "b" else both.astype(str)
    typed: Array = values.astype(spec.dtype)
    return typed


def _fractions(shape: Sequence[int], generator: Random) -> Array:
    """Draw from [0, 1). numpy's generators would do, but take 2 MB to load."""
    drawn = np.frombuffer(generator.randbytes(4 * math.prod(shape)), np.uint32)
    return (drawn / 2**32).reshape(shape)
