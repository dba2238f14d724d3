from __future__ import annotations

import torch

from training.model import LAYERS, PIXEL_MEAN, PIXEL_STD, random_start

SHAPES = {
    "conv1": (2, 6, 28, 28),
    "relu1": (2, 6, 28, 28),
    "pool1": (2, 6, 14, 14),
    "conv2": (2, 16, 10, 10),
    "relu2": (2, 16, 10, 10),
    "pool2": (2, 16, 5, 5),
    "fc1": (2, 120),
    "relu3": (2, 120),
    "fc2": (2, 100),
    "relu4": (2, 100),
    "logits": (2, 10),
    "probabilities": (2, 10),
}


def test_lenet_has_63802_parameters() -> None:
    assert sum(parameter.numel() for parameter in random_start(0).parameters()) == 63_802


def test_every_layer_has_the_shape_of_the_article() -> None:
    outputs = random_start(0).outputs(torch.rand(2, 1, 32, 32))
    assert {name: tuple(outputs[name].shape) for name in LAYERS} == SHAPES


def test_forward_answers_the_softmax_of_the_logits() -> None:
    model, image = random_start(0), torch.rand(2, 1, 32, 32)
    torch.testing.assert_close(model(image), model.outputs(image)["logits"].softmax(dim=1))


def test_normalization_centers_and_scales() -> None:
    image = torch.tensor([PIXEL_MEAN, PIXEL_MEAN + PIXEL_STD]).reshape(1, 1, 1, 2)
    normalized = random_start(0).get_submodule("normalize")(image)
    torch.testing.assert_close(normalized.flatten(), torch.tensor([0.0, 1.0]))


def test_the_random_start_depends_on_the_seed_alone() -> None:
    before = torch.get_rng_state()
    first, again, other = (random_start(seed).state_dict()["fc1.weight"] for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.get_rng_state())
