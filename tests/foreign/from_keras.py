"""Models that keras 3 exports on torch: channels last."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from tests.foreign.model import ForeignModel, normal

_SIDE = 32


def models(folder: Path) -> Iterator[ForeignModel]:
    """Export the models into a folder, those that aren't there yet."""
    os.environ["KERAS_BACKEND"] = "torch"
    import keras

    layers = keras.layers
    file = folder / "keras_cnn" / "model.onnx"
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        keras.utils.set_random_seed(0)
        network = keras.Sequential(
            [
                layers.Input((_SIDE, _SIDE, 3), name="image"),
                layers.Conv2D(8, 3, activation="relu", name="first"),
                layers.DepthwiseConv2D(3, strides=2, padding="same", name="second"),
                layers.BatchNormalization(name="norm"),
                layers.MaxPooling2D(name="pool"),
                layers.GlobalAveragePooling2D(name="mean"),
                layers.Dense(6, activation="softmax", name="classes"),
            ]
        )
        network(np.zeros((2, _SIDE, _SIDE, 3), np.float32))  # it has to have been called
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            network.export(file, format="onnx", verbose=False)
    yield ForeignModel(
        "keras_cnn",
        f"keras {keras.__version__} on torch",
        file,
        normal(_input(file), _SIDE, _SIDE, 3),
        "softmax",
    )


def _input(file: Path) -> str:
    """Return the name of a file's input, which keras chooses."""
    import onnx

    return str(onnx.load(file).graph.input[0].name)
