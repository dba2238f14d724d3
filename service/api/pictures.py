"""From image files to a model's input; runs on worker threads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.errors import InvalidImageError
from service.images import ImageLimits, decode, decode_whole
from service.preprocess import prepare
from service.preprocessing import Preprocessing


def prepare_all(
    images: Sequence[bytes], preprocessing: Preprocessing, limits: ImageLimits, *, enabled: bool = True
) -> np.ndarray:
    """Make the input [N, ...] of N image files, N at least 1; `enabled` as `prepare` takes it.

    Raises:
        InvalidImageError: a file can't be decoded; says which.
        InvalidRequestError: the model takes tensors only.
    """
    return np.stack(
        [_prepared(i, image, preprocessing, limits, enabled=enabled) for i, image in enumerate(images)]
    )


def _prepared(
    index: int, image: bytes, preprocessing: Preprocessing, limits: ImageLimits, *, enabled: bool
) -> np.ndarray:
    try:
        whole = preprocessing.kind == "resize"
        return prepare((decode_whole if whole else decode)(image, limits), preprocessing, enabled)
    except InvalidImageError as error:
        raise InvalidImageError(f"images[{index}]: {error}") from error
