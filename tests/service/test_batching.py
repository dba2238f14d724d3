"""Which models may run requests together: those whose rows don't depend on each other."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from service.cutting import cut_to
from service.device import Execution
from service.graph import Graph
from service.model import Model
from tests.service.onnx_models import (
    FOREIGN,
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


def rows(build: Callable[[], onnx.ModelProto]) -> tuple[set[str], int | None]:
    found = Model(build().SerializeToString(), Execution()).rows
    return set(found.following), found.size


def layered(*nodes: onnx.NodeProto, **weights: np.ndarray) -> Callable[[], onnx.ModelProto]:
    """Return a builder of a model from x to y = Softplus(x), both [n, 3], with these nodes beside it."""
    return lambda: model([node("Softplus", "x", "y"), *nodes], [X], [Y], weights)


ZERO, HUGE = np.array(0, np.float32), np.array(1e6, np.float32)
BESIDE = {
    "a count": [node("Shape", "x", "s"), node("Gather", "s zero", "t")],
    "a range": [node("Shape", "x", "s"), node("Gather", "s zero", "c"), node("Range", "zero c one", "t")],
    "a constant of two rows": [node("Shape", "x", "s"), node("Gather", "table s", "t")],
    "dead, through a maximum": [node("ReduceMax", "x", "m", keepdims=0), node("Greater", "m huge", "t")],
    "dead time": [node("Sub", "x huge", "d"), node("Relu", "d", "r"), node("CumSum", "r zero", "t")],
    "what a maximum would silence": [
        node("ReduceMax", "x", "m", keepdims=0),
        node("Greater", "m huge", "g"),
        node("Where", "g x y", "t"),
    ],
    "a dynamic scale": [node("DynamicQuantizeLinear", "x", "q s z"), node("DequantizeLinear", "q s z", "t")],
    "one found for each": [
        node("ReduceMax", "x last", "m", keepdims=1),
        node("Equal", "x m", "e"),
        node("NonZero", "e", "f"),
        node("Transpose", "f", "g"),
        node("Slice", "g one_ two_ one_", "t"),
    ],
    "the longest shape": [
        node("ReduceMax", "x", "m", keepdims=0),
        node("Cast", "m", "i", to=TensorProto.INT64),
        node("Unsqueeze", "i zero_", "u"),
        node("Slice", "x zero_ u one_", "cut"),
        node("Shape", "cut", "s"),
        node("ConstantOfShape", "s", "t"),
    ],
}


@pytest.mark.parametrize("beside", BESIDE)
def test_what_depends_on_all_items_does_not_follow(beside: str) -> None:
    constants = {
        "zero": np.array(0),
        "one": np.array(1),
        "huge": HUGE,
        "table": np.eye(64, dtype=np.float32),
        "last": np.array([1]),
        "zero_": np.array([0]),
        "one_": np.array([1]),
        "two_": np.array([2]),
    }
    nodes = BESIDE[beside]
    used = {name for each in nodes for name in each.input}
    following, size = rows(layered(*nodes, **{k: v for k, v in constants.items() if k in used}))
    assert size == 0
    assert "y" in following
    assert "t" not in following


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Sub", "x huge", "d"), node("Relu", "d", "t")],
        [node("ArgMax", "y", "t", axis=-1, keepdims=0)],
        [node("Shape", "x", "s"), node("ConstantOfShape", "s", "t")],
        [node("Sub", "x huge", "d"), node("Relu", "d", "r"), node("MatMul", "r w", "t")],
    ],
    ids=["dead", "the best class", "a constant for each", "behind what is dead"],
)
def test_what_is_the_same_for_all_items_follows_if_its_operators_say_so(nodes: list[onnx.NodeProto]) -> None:
    constants = {"huge": HUGE, "w": np.eye(3, dtype=np.float32)}
    used = {name for each in nodes for name in each.input}
    following, _ = rows(layered(*nodes, **{k: v for k, v in constants.items() if k in used}))
    assert "t" in following


def quiet(*mixing: onnx.NodeProto) -> Callable[[], onnx.ModelProto]:
    """A model whose output adds what these nodes make of "loud", which is 0 for all that a trial sees."""

    def build() -> onnx.ModelProto:
        nodes = [
            node("MatMul", "x w", "scores"),
            node("Sub", "scores huge", "below"),
            node("Relu", "below", "loud"),
            *mixing,
            node("Add", "scores quiet", "y"),
        ]
        weights: dict[str, np.ndarray] = {
            "w": np.eye(4, dtype=np.float32),
            "huge": np.array(1e30, np.float32),
            "zero": np.array(0, np.int64),
            "three": np.array(3, np.float32),
        }
        return model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], weights)

    return build


@pytest.mark.parametrize(
    "mixing",
    [
        [node("CumSum", "loud zero", "quiet")],
        [node("LpNormalization", "loud", "quiet", axis=0)],
        [node("Softmax", "loud", "even", axis=0), node("Sub", "even even", "quiet")],
        [
            node("Shape", "x", "sizes"),
            node("Gather", "sizes zero", "count"),
            node("Cast", "count", "number", to=TensorProto.FLOAT),
            node("Sub", "number three", "over"),
            node("Relu", "over", "quiet"),
        ],
    ],
    ids=["CumSum", "LpNormalization", "Softmax", "number of items"],
)
def test_what_puts_items_together_quietly_is_found(mixing: list[onnx.NodeProto]) -> None:
    """It agrees in the trial, as it adds nothing there, and would mix items of other values or numbers."""
    following, _ = rows(quiet(*mixing))
    assert "y" not in following
    assert {"scores", "loud"} <= following


def fixed(op_type: str, batch: int = 4, **attributes: object) -> Callable[[], onnx.ModelProto]:
    x, y = (value(name, [batch, 4]) for name in "xy")
    return lambda: model([node(op_type, "x", "y", **attributes)], [x], [y])


def test_a_fixed_batch_is_one_if_its_rows_are_independent() -> None:
    assert rows(fixed("Relu")) == ({"y"}, 4)
    assert rows(fixed("Relu", batch=1)) == ({"y"}, 1)
    assert rows(fixed("Softmax", axis=0)) == (set(), None)
    assert rows(fixed("Transpose", perm=[1, 0])) == (set(), None)


def test_statistics_of_a_fixed_batch_are_found() -> None:
    nodes = [
        node("Neg", "x", "y"),
        node("ReduceMax", "x", "m", keepdims=0),
        node("Greater", "m huge", "g"),
        node("Where", "g x y", "t"),
        node("Transpose", "x", "turned"),
        node("Transpose", "turned", "back"),
    ]
    inputs, outputs = [value("x", [4, 4])], [value("y", [4, 4])]
    assert rows(lambda: model(nodes, inputs, outputs, {"huge": HUGE})) == ({"y", "back"}, 4)


def test_layers_that_are_too_large_to_try_do_not_follow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.portions._LARGEST_BYTES", 1000)
    loaded = Model(lenet().SerializeToString(), Execution())
    assert loaded.batches(["probabilities"])
    assert {"conv1", "fc1", "fc2"}.isdisjoint(loaded.rows.following)


@pytest.mark.parametrize("name", ["lenet", *FOREIGN])
def test_it_makes_no_difference_if_each_layer_is_tried_by_itself(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = (FOREIGN[name]() if name in FOREIGN else lenet()).SerializeToString()
    whole = Model(data, Execution()).rows
    monkeypatch.setattr("service.portions._PORTION_BYTES", 1)
    assert Model(data, Execution()).rows == whole


def test_a_part_of_a_model_has_only_what_it_needs() -> None:
    graph = Graph.parse(lenet().SerializeToString())
    part = onnx.load_model_from_string(cut_to(graph.with_outputs(["pool1"]), {"pool1"}))
    assert [each.output[0] for each in part.graph.node] == [
        "centered",
        "normalized",
        "conv1",
        "relu1",
        "pool1",
    ]
    assert {tensor.name for tensor in part.graph.initializer} == {"mean", "std", "w1", "b1"}
    assert [each.name for each in part.graph.output] == ["pool1"]


def test_a_file_that_errs_about_a_batch_of_one_is_not_believed() -> None:
    """As text recognition does whose exporter called the axis of time a batch of one."""
    nodes = [node("Transpose", "x", "y", perm=[2, 0, 1]), node("Relu", "x", "r")]
    inputs, outputs = [value("x", [1, 4, "time"])], [value("y", [1, "length"])]
    assert rows(lambda: model(nodes, inputs, outputs)) == ({"r"}, 1)
