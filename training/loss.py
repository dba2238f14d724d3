"""The two errors that training can descend: cross-entropy, and the squared error of the article."""

from __future__ import annotations

from typing import TYPE_CHECKING

from torch.nn import functional as F  # noqa: N812 - torch's own convention

if TYPE_CHECKING:
    from torch import Tensor

    from training.settings import LossName


def squared_error(probabilities: Tensor, labels: Tensor) -> Tensor:
    """Return the batch's mean of the article's error, sum of 1/2 (target - output)^2 over the ten outputs."""
    targets = F.one_hot(labels, probabilities.shape[1])
    return ((targets - probabilities) ** 2).sum(dim=1).mean() / 2


def loss_of(outputs: dict[str, Tensor], labels: Tensor, name: LossName) -> Tensor:
    """Return the mean loss of a batch from LeNet's outputs."""
    if name == "squared-error":
        return squared_error(outputs["probabilities"], labels)
    return F.cross_entropy(outputs["logits"], labels)
