from __future__ import annotations

import pytest
import torch

from training.loss import loss_of, squared_error


@pytest.mark.parametrize(
    ("outputs", "expected"), [([0.2, 0.4, 0.1, 0.3], 0.55), ([0.1, 0.1, 0.7, 0.1], 0.06)]
)
def test_squared_error_is_that_of_the_article(outputs: list[float], expected: float) -> None:
    assert squared_error(torch.tensor([outputs]), torch.tensor([2])).item() == pytest.approx(expected)


def test_a_batch_has_the_mean_of_its_images_errors() -> None:
    outputs = torch.tensor([[0.2, 0.4, 0.1, 0.3], [0.1, 0.1, 0.7, 0.1]])
    assert squared_error(outputs, torch.tensor([2, 2])).item() == pytest.approx((0.55 + 0.06) / 2)


def test_the_name_chooses_the_loss() -> None:
    logits = torch.tensor([[0.0, 0.0, 2.0, 0.0]])
    outputs = {"logits": logits, "probabilities": logits.softmax(dim=1)}
    label = torch.tensor([2])
    probability = outputs["probabilities"][0, 2].item()
    wrong = (1 - probability) / 3
    assert loss_of(outputs, label, "cross-entropy").exp().item() == pytest.approx(1 / probability)
    expected = (3 * wrong**2 + (1 - probability) ** 2) / 2
    assert loss_of(outputs, label, "squared-error").item() == pytest.approx(expected)
