"""The classification extension: the largest elements of an output, with their labels, as texts."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from service.errors import InvalidRequestError, LimitExceededError

_MOST_TEXTS = 100_000  # as many as 100 items of 1,000 classes; they are made one by one


def classify(array: np.ndarray, top_k: int, labels: Sequence[str], *, batch: bool) -> np.ndarray:
    """Return the k largest elements of each item, largest first, as texts "value:index[:label]".

    Equal elements stay in order, NaN comes last. The format is Triton's:
    https://github.com/triton-inference-server/server/blob/main/docs/protocol/extension_classification.md

    Args:
        array: an output.
        top_k: k, at least 1; fewer elements than that are all given.
        labels: of the elements of an item, or none.
        batch: whether axis 0 is items; else the array is one item.

    Returns:
        Texts [N, k], or [k] without a batch.

    Raises:
        InvalidRequestError: it is not an output of numbers.
        LimitExceededError: these would be too many texts.
    """
    if array.dtype.kind not in "iu" and array.dtype not in (np.float32, np.float64):
        raise InvalidRequestError(
            f"an output of {array.dtype} can't be classified; expected integers, FP32 or FP64"
        )
    items = array.reshape(len(array), math.prod(array.shape[1:])) if batch else array.reshape(1, array.size)
    order = _largest_first(items)[:, :top_k]
    if order.size > _MOST_TEXTS:
        raise LimitExceededError(
            f"{order.size} classes are asked for, the limit is {_MOST_TEXTS}; ask for fewer"
        )
    values = np.take_along_axis(items, order, axis=1)
    form = "{:f}:{}" if array.dtype.kind == "f" else "{}:{}"
    texts = [form.format(*pair) for pair in zip(values.ravel().tolist(), order.ravel().tolist(), strict=True)]
    if len(labels) == items.shape[1]:
        texts = [f"{text}:{labels[at]}" for text, at in zip(texts, order.ravel().tolist(), strict=True)]
    return np.array(texts, object).reshape(order.shape if batch else order.shape[1:])


def _largest_first(items: np.ndarray) -> np.ndarray:
    """Sort indices by falling value, equal ones in order, NaN last.

    Of integers, which may have no negative, the stable sort of the reversed items is reversed.
    """
    if items.dtype.kind == "f":
        return np.argsort(-items, axis=1, kind="stable")
    rising = np.argsort(items[:, ::-1], axis=1, kind="stable")
    return np.asarray(items.shape[1] - 1 - rising[:, ::-1])
