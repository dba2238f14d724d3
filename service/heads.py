"""Kinds of heads: what the values of an output that holds classes are, and how they become probabilities."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum

import numpy as np

from service.tensors import Array


class Kind(StrEnum):
    """What the values of an output that holds classes are."""

    SOFTMAX = "softmax"
    """Probabilities of classes that exclude each other: they sum to 1."""
    LOGITS = "logits"
    """A softmax makes them such."""
    LOG_SOFTMAX = "log_softmax"
    """The logarithms of such."""
    SIGMOID = "sigmoid"
    """A probability for each class by itself: several can be true at once."""
    SIGMOID_LOGITS = "sigmoid_logits"
    """A sigmoid makes them such."""

    @property
    def for_itself(self) -> bool:
        """Whether each class has a probability by itself."""
        return self in (Kind.SIGMOID, Kind.SIGMOID_LOGITS)


@dataclass(frozen=True, slots=True)
class Head:
    """How an output becomes probabilities.

    Attributes:
        output: Name of the output.
        kind: What its values are.
        classes: Values that it has for an item. One is the probability of the positive class.
        reason: How that was decided, in one sentence for people.
    """

    output: str
    kind: Kind
    classes: int
    reason: str

    @property
    def multi_label(self) -> bool:
        """Whether several classes can be true at once."""
        return self.kind.for_itself and self.classes > 1

    def probabilities(self, values: Array) -> Array:
        """Return the probabilities, float32 [N, K], of the output's values [N, K].

        A class whose logit is minus infinity has probability 0. Where the values have no probabilities, as
        with NaN among them, those of the whole item aren't finite.
        """
        values = values.astype(np.float32, copy=False)
        if self.kind not in _MADE_BY:
            return values
        # What isn't finite is for the caller to find in the result.
        with np.errstate(all="ignore"):
            return _MADE_BY[self.kind](values)


def _softmax(logits: Array) -> Array:
    """Return exp(z) / sum(exp(z)) over the last axis, shifted by the maximum so that nothing overflows."""
    exponentials = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(exponentials / exponentials.sum(axis=-1, keepdims=True))


def _sigmoid(logits: Array) -> Array:
    """Return 1 / (1 + exp(-z)), by an exponential that can't overflow."""
    exponentials = np.exp(-np.abs(logits))
    return np.asarray(np.where(logits < 0, exponentials, 1) / (1 + exponentials))


_MADE_BY: Mapping[Kind, Callable[[Array], Array]] = {
    Kind.LOGITS: _softmax,
    Kind.LOG_SOFTMAX: np.exp,
    Kind.SIGMOID_LOGITS: _sigmoid,
}
