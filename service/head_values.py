"""What the values of a trial run show of an output: whether they are probabilities, or can't be any."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from service.heads import Kind
from service.tensors import Array

_ROUNDING = 2.0**-8
"""What a sum of rounded probabilities may be off: bfloat16, the coarsest float, rounds each by that much."""


@dataclass(frozen=True, slots=True)
class Shown:
    """What values show, in words too; without a kind they may be probabilities, which isn't proven."""

    kind: Kind | None
    words: str


def sums_to_one(rows: Array, step: float = 0.0) -> bool:
    """Tell whether each row is probabilities of classes that exclude each other.

    Args:
        rows: [N, K].
        step: Distance of neighbouring values, if they were quantized: each is off by half of it.
    """
    tolerance = _ROUNDING + rows.shape[1] * step / 2
    return within_one(rows, step) and bool((np.abs(rows.sum(axis=1) - 1) <= tolerance).all())


def within_one(rows: Array, step: float = 0.0) -> bool:
    """Tell whether all values are between 0 and 1, up to rounding, which makes no sign."""
    return bool(rows.min() >= -step and rows.max() <= 1 + _ROUNDING + step)


def are_logarithms(rows: Array) -> bool:
    """Tell whether each row is the logarithms of probabilities that sum to 1.

    Rounding a logarithm by a share of it multiplies the probability: together by the entropy, which is log(K)
    at most.
    """
    if rows.max() > _ROUNDING:
        return False
    tolerance = _ROUNDING * max(1.0, math.log(rows.shape[1]))
    return bool((np.abs(np.exp(rows).sum(axis=1) - 1) <= tolerance).all())


def shown(values: Array, step: float = 0.0) -> Shown:
    """Judge the values [N, K] that several items have, K of 2 or more, all finite.

    Values that can't be probabilities, some below 0 or above 1, are taken for logits. Those that could be and
    don't sum to 1, or sum to something else every time, are left undecided: a softmax of probabilities is
    nearly the same for every class, and nobody would notice.
    """
    rows = values.astype(np.float64)
    least, most, sums = rows.min(), rows.max(), rows.sum(axis=1)
    span = f"go from {least:.3g} to {most:.3g}"
    if sums_to_one(rows, step):
        return Shown(Kind.SOFTMAX, "the values of a trial run are at least 0 and sum to 1")
    if are_logarithms(rows):
        return Shown(Kind.LOG_SOFTMAX, "the exponentials of a trial run's values sum to 1")
    if within_one(rows, step):
        between = f"from {sums.min():.3g} to {sums.max():.3g}"
        return Shown(None, f"the values of a trial run {span}, as probabilities do, but their sums {between}")
    if least >= 0 and len(rows) > 1 and np.ptp(sums) <= _ROUNDING * sums.max():
        return Shown(None, f"the values of a trial run are at least 0 and always sum to {sums[0]:.3g}")
    return Shown(Kind.LOGITS, f"the values of a trial run {span}, so they are no probabilities yet")
