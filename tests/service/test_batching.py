"""Which models may run requests together: those whose rows don't depend on each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from service.device import Execution
from service.model import Model
from tests.service.onnx_models import (
    exposed_initializer,
    lenet,
    model,
    node,
    random_weights,
    texts,
    value,
)

X, Y = value("x", ["n", 3]), value("y", ["n", 3])


def one_node(op_type: str, inputs: str = "x", **attributes: object) -> Callable[[], onnx.ModelProto]:
    """Return a builder of a model from x to y, both [n, 3]."""
    weights = {"axis": np.array(0), "zero": np.array([0.0], np.float32)}
    used = {name: array for name, array in weights.items() if name in inputs.split()}
    return lambda: model([node(op_type, inputs, "y", **attributes)], [X], [Y], used)


def free_size() -> onnx.ModelProto:
    """A convolution of pictures of any size from 30 by 30 on."""
    x, y = value("x", ["n", 1, "h", "w"]), value("y", ["n", 2, "h2", "w2"])
    return model([node("Conv", "x kernel", "y")], [x], [y], random_weights(kernel=(2, 1, 30, 30)))


def embedding() -> onnx.ModelProto:
    """Numbers of words [n, any], of a vocabulary of three, to their vectors."""
    words, vectors = value("words", ["n", "length"], TensorProto.INT64), value("y", ["n", "length", 5])
    return model([node("Gather", "table words", "y")], [words], [vectors], random_weights(table=(3, 5)))


def recurrent() -> onnx.ModelProto:
    """A recurrent network, whose first axis is time."""
    weights = random_weights(w=(1, 4, 3), r=(1, 4, 4))
    inputs, outputs = [value("x", ["time", "batch", 3])], [value("y", ["time", 1, "batch", 4])]
    return model([node("RNN", "x w r", "y", hidden_size=4)], inputs, outputs, weights)


def found_places() -> onnx.ModelProto:
    """The places of positive elements, which are as many as there are, beside a row for each item."""
    nodes = [node("NonZero", "x", "columns"), node("Transpose", "columns", "places"), node("Neg", "x", "y")]
    return model(nodes, [X], [Y, value("places", ["found", 2], TensorProto.INT64)])


@pytest.mark.parametrize(
    "build",
    [lenet, free_size, texts, embedding, exposed_initializer, one_node("Relu")],
    ids=["lenet", "free size", "texts", "embedding", "constants", "relu"],
)
def test_rows_of_their_own_may_share_a_run(build: Callable[[], onnx.ModelProto]) -> None:
    loaded = Model(build().SerializeToString(), Execution())
    free = [spec.name for spec in loaded.outputs if spec.shape and spec.shape[0] is None]
    layers = [layer.spec for layer in loaded.graph.layers.values()]
    assert free
    assert loaded.batches(free)
    assert loaded.batches([spec.name for spec in layers if spec.shape and spec.shape[0] is None])


@pytest.mark.parametrize(
    "build",
    [
        one_node("CumSum", "x axis"),
        one_node("CumSum", "x axis", reverse=1),
        one_node("Softmax", axis=0),
        one_node("LpNormalization", axis=0),
        recurrent,
    ],
    ids=["running sum", "running sum from the end", "softmax", "norm", "time"],
)
def test_rows_that_depend_on_others_may_not(build: Callable[[], onnx.ModelProto]) -> None:
    assert not Model(build().SerializeToString(), Execution()).batches(["y"])


def test_an_output_without_the_batch_does_not_keep_the_others_from_it() -> None:
    loaded = Model(found_places().SerializeToString(), Execution())
    assert loaded.batches(["y"])
    assert not loaded.batches(["y", "places"])


def test_a_request_that_overrides_a_constant_runs_alone() -> None:
    loaded = Model(exposed_initializer().SerializeToString(), Execution())
    assert loaded.batches(["y"], ["x"])
    assert not loaded.batches(["y"], ["x", "w"])


def test_a_model_that_takes_none_of_the_trials_is_not_batched() -> None:
    nodes = [node("Reshape", "x shape", "square"), node("Flatten", "square", "y")]
    shape = {"shape": np.array([-1, 5, 5])}
    loaded = Model(
        model(nodes, [value("x", ["n", "size"])], [value("y", ["n", "size"])], shape).SerializeToString(),
        Execution(),
    )
    assert not loaded.batches(["y"])
