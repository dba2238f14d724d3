"""Run a network over a data set and count what it gets wrong."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from torch import Tensor, nn

    from training.data import Digits

_BATCH = 500


def as_input(images: NDArray[np.uint8]) -> Tensor:
    """Turn (N, 32, 32) uint8 into the network's (N, 1, 32, 32) float32, 0 = background, 1 = ink."""
    return torch.from_numpy(images).unsqueeze(1).float().div_(255)


@torch.inference_mode()
def predict(model: nn.Module, digits: Digits) -> NDArray[np.float32]:
    """Return the probabilities, (N, 10), of all images."""
    starts = range(0, len(digits), _BATCH)
    parts = [model(as_input(digits.images[start : start + _BATCH])) for start in starts]
    probabilities: NDArray[np.float32] = torch.cat(parts).numpy()
    return probabilities


def count_errors(probabilities: NDArray[np.float32], digits: Digits) -> int:
    """Count the images whose most probable class isn't their label."""
    return int((probabilities.argmax(axis=1) != digits.labels).sum())
