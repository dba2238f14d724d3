"""From image files to a model's input; runs on worker threads."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from service.errors import InvalidImageError
from service.images import ImageLimits, decode
from service.preprocess import Preprocessing, prepare


def prepare_all(
    images: Sequence[bytes], preprocessing: Preprocessing, limits: ImageLimits, *, enabled: bool = True
) -> np.ndarray:
    """Make the input [N, ...] of N image files, N at least 1; `enabled` as `prepare` takes it.

    Raises:
        InvalidImageError: a file can't be decoded; says which.
        InvalidRequestError: the model takes tensors only.
    """
    return np.stack(
        [prepare(_decoded(i, image, limits), preprocessing, enabled) for i, image in enumerate(images)]
    )


def _decoded(index: int, image: bytes, limits: ImageLimits) -> np.ndarray:
    try:
        return decode(image, limits)
    except InvalidImageError as error:
        raise InvalidImageError(f"images[{index}]: {error}") from error
