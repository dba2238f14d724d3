from __future__ import annotations

import numpy as np
import pytest

from featurelens import AsyncClient, Client
from featurelens.feature_maps import FeatureMaps


def test_a_map_has_its_layers_name_and_the_one_it_was_asked_by() -> None:
    relu, conv = np.zeros(1), np.ones(1)
    maps = FeatureMaps(
        {"relu_12": relu, "conv": conv}, {"layer3": "relu_12", "layer3.1": "relu_12", "x": "y"}
    )

    assert maps["layer3"] is maps["layer3.1"] is maps["relu_12"] is relu
    assert list(maps) == ["relu_12", "conv"]
    assert len(maps) == 2
    assert list(maps.as_asked()) == ["layer3", "conv"]
    assert "layer3" in maps
    assert "x" not in maps
    assert repr(maps) == "FeatureMaps({'layer3': array([0.]), 'conv': array([1.])})"
    with pytest.raises(KeyError, match="layer4"):
        maps["layer4"]


def test_the_client_takes_patterns_and_operators(client: Client) -> None:
    prediction = client.classify(np.zeros((32, 32), np.uint8), layers=["conv?", "op:Softmax", "pool1"])

    assert list(prediction.feature_maps) == ["conv1", "conv2", "probabilities", "pool1"]
    assert list(prediction.feature_maps.as_asked()) == ["conv1", "conv2", "probabilities", "pool1"]
    assert "op:Softmax" not in prediction.feature_maps


def test_the_client_describes_the_layers_that_are_named(client: Client) -> None:
    described = client.describe(layers=["pool?", "node_conv2d"], weights=True)

    assert [(layer.name, layer.channel_axis) for layer in described.layers] == [
        *(("pool1", -3), ("pool2", -3), ("conv1", -3))
    ]
    assert described.resolved == {"node_conv2d": "conv1"}
    assert [len(layer.weights) for layer in described.layers] == [0, 0, 2]
    assert described.inputs[0].channel_axis == -3


async def test_the_asynchronous_client_does_too(server_address: str) -> None:
    async with AsyncClient(server_address) as client:
        described = await client.describe(layers="node_conv2d")
        prediction = await client.classify(np.zeros((32, 32), np.uint8), layers="node_conv2d")

    assert [layer.name for layer in described.layers] == ["conv1"]
    assert prediction.feature_maps["node_conv2d"] is prediction.feature_maps["conv1"]
