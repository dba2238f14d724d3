"""What runs of two unlike items show of a tensor: whether its rows are those that each item has by itself."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np

from service.tensors import Array
from service.unlike import Feeds, Pair

_TOLERANCE = 1e-2
"""Of the largest value of a row: kernels round differently for batches of other sizes, those of GPUs most."""


class Evidence(NamedTuple):
    """What was seen of a tensor.

    Attributes:
        agrees: Row i of axis 0 was what item i alone has, in every run.
        differs: The rows of unlike items were unlike; if not, it may have agreed by being dead.
        mixes: Values of several items met in elements that aren't of one item, as a maximum or a mean do.
        rank: Number of axes.
        counts: It has the same shape and other values for another number of equal items.
    """

    agrees: bool
    differs: bool
    mixes: bool
    rank: int
    counts: bool = False

    def and_then(self, more: Evidence) -> Evidence:
        """Add what other runs showed."""
        return Evidence(
            self.agrees and more.agrees,
            self.differs or more.differs,
            self.mixes or more.mixes,
            more.rank,
            self.counts or more.counts,
        )


class FreeBatch:
    """Runs of a model that takes any number of items: three together, and the two that they are each alone.

    An axis of a fixed size, of two or three say, doesn't go along with both numbers.
    """

    items = 3
    """Of the largest run."""

    def feeds(self, pair: Pair) -> Iterator[Feeds]:
        """Make the feeds of the runs."""
        first, second = pair
        yield {name: np.concatenate([first[name], second[name], second[name]]) for name in first}
        yield first
        yield second

    def judge(self, runs: Sequence[Array]) -> Evidence:
        """Tell what the values of one tensor in these runs show."""
        together, first, second = runs
        agrees = (
            together.ndim > 0
            and first.shape == second.shape == (1, *together.shape[1:])
            and len(together) == 3
            and _rows_agree(together, (first, second, second))
        )
        same_shape = first.shape == together.shape
        counts = same_shape and not _agree(together, first) and _agree(first, second)
        return Evidence(agrees, not _agree(first, second), same_shape, together.ndim, counts)


class SingleItems:
    """Runs of a model that takes one item: whatever it gives is of that, but is it one row? Files err."""

    items = 1

    def feeds(self, pair: Pair) -> Iterator[Feeds]:
        """Make the feeds of the runs."""
        yield from pair

    def judge(self, runs: Sequence[Array]) -> Evidence:
        """Tell what the values of one tensor in these runs show."""
        agrees = all(run.shape[:1] == (1,) for run in runs)
        return Evidence(agrees, differs=True, mixes=False, rank=runs[0].ndim)


class FixedBatch:
    """Runs of a model that takes so many items, at least 2: of copies of each, and two of both.

    What one of those has of the first item the other has of the second.
    """

    def __init__(self, size: int) -> None:
        self.items = size
        self._pattern = [number.bit_count() % 2 for number in range(size)]

    def feeds(self, pair: Pair) -> Iterator[Feeds]:
        """Make the feeds of the runs."""
        size, mixed = len(self._pattern), self._pattern
        for pattern in ([0] * size, [1] * size, mixed, [1 - which for which in mixed]):
            yield {name: np.concatenate([pair[which][name] for which in pattern]) for name in pair[0]}

    def judge(self, runs: Sequence[Array]) -> Evidence:
        """Tell what the values of one tensor in these runs show."""
        size, rank = len(self._pattern), runs[0].ndim
        if any(run.shape != runs[0].shape for run in runs):
            return Evidence(agrees=False, differs=True, mixes=True, rank=rank)
        differs = not _agree(runs[0], runs[1])
        if rank == 0 or len(runs[0]) != size:
            return Evidence(agrees=False, differs=differs, mixes=_mix(*runs), rank=rank)
        alone = runs[0][:1], runs[1][:1]
        patterns = ([0] * size, [1] * size, self._pattern, [1 - which for which in self._pattern])
        agrees = all(
            _rows_agree(run, [alone[which] for which in pattern])
            for run, pattern in zip(runs, patterns, strict=True)
        )
        return Evidence(agrees, differs, not agrees and _mix(*runs), rank)


Experiment = FreeBatch | SingleItems | FixedBatch


def experiment(size: int) -> Experiment:
    """Choose the runs for a batch of this size; 0: any."""
    if size == 0:
        return FreeBatch()
    return SingleItems() if size == 1 else FixedBatch(size)


def together(one: Mapping[str, Evidence], more: Mapping[str, Evidence]) -> dict[str, Evidence]:
    """Put what was seen of tensors together."""
    return {**one, **{name: one[name].and_then(seen) if name in one else seen for name, seen in more.items()}}


def _rows_agree(array: Array, alone: Sequence[Array]) -> bool:
    """Tell whether the rows of axis 0 are these, each of which has that axis too."""
    return all(_agree(array[i : i + 1], row) for i, row in enumerate(alone))


def _agree(one: Array, other: Array) -> bool:
    """Tell whether arrays are equal, up to what kernels differ in rounding."""
    return one.shape == other.shape and bool(_close(one, other, _scale(other)).all())


def _mix(firsts: Array, seconds: Array, mixed: Array, turned: Array) -> bool:
    """Tell whether an element isn't of one item: it goes from one's to the other's value as items change."""
    scale = max(_scale(firsts), _scale(seconds))
    straight = _close(mixed, firsts, scale) & _close(turned, seconds, scale)
    crossed = _close(mixed, seconds, scale) & _close(turned, firsts, scale)
    return not bool((straight | crossed).all())


def _close(one: Array, other: Array, scale: float) -> Array:
    if one.dtype.kind not in "fc":
        return np.asarray(one == other)
    with np.errstate(all="ignore"):
        return np.isclose(_wide(one), _wide(other), rtol=_TOLERANCE, atol=_TOLERANCE * scale, equal_nan=True)


def _scale(array: Array) -> float:
    if array.dtype.kind not in "fc":
        return 0.0
    return float(np.abs(array[np.isfinite(array)]).max(initial=0))


def _wide(array: Array) -> Array:
    return array.astype(np.float32) if array.dtype == np.float16 else array
