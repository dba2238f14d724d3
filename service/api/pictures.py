"""From image files to a model's input; runs on worker threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from service.errors import InvalidImageError
from service.images import ImageLimits, decode, decode_whole
from service.preprocess import prepare
from service.preprocessing import Preprocessing

NO_INK = "no ink was found in the picture"


@dataclass(frozen=True, slots=True)
class Prepared:
    """The input [N, ...] of N image files, and those of them, counted from 0, in which no ink was found."""

    feed: np.ndarray
    no_ink: tuple[int, ...]


def prepare_all(
    images: Sequence[bytes], preprocessing: Preprocessing, limits: ImageLimits, *, enabled: bool = True
) -> Prepared:
    """Make the input of N image files, N at least 1; `enabled` as `prepare` takes it.

    Raises:
        InvalidImageError: a file can't be decoded; says which.
        InvalidRequestError: the model takes tensors only.
    """
    inputs = [_prepared(i, image, preprocessing, limits, enabled=enabled) for i, image in enumerate(images)]
    ink = preprocessing.kind == "ink"
    no_ink = tuple(i for i, values in enumerate(inputs) if ink and values.min() == values.max())
    return Prepared(np.stack(inputs), no_ink)


def _prepared(
    index: int, image: bytes, preprocessing: Preprocessing, limits: ImageLimits, *, enabled: bool
) -> np.ndarray:
    try:
        whole = preprocessing.kind == "resize"
        return prepare((decode_whole if whole else decode)(image, limits), preprocessing, enabled)
    except InvalidImageError as error:
        raise InvalidImageError(f"images[{index}]: {error}") from error
