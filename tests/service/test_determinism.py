"""Which graphs may give other outputs for the same inputs."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import NodeProto, TensorProto, helper

from service.determinism import is_deterministic
from service.graph import Graph
from tests.service.onnx_models import channels_last, endless, lenet, model, node, texts, value

SHAPE = [2, 3]


def of(*nodes: NodeProto, **constants: np.ndarray) -> onnx.ModelProto:
    """x to y."""
    return model(nodes, [value("x", SHAPE)], [value("y", SHAPE)], constants)


def inside(body_node: NodeProto) -> onnx.ModelProto:
    """A node in both branches of an If within a branch of an If."""
    inner = helper.make_graph([body_node], "inner", [], [value("y", SHAPE)])
    chosen = node("If", "yes", "y", then_branch=inner, else_branch=inner)
    outer = helper.make_graph([chosen], "outer", [], [value("y", SHAPE)])
    return of(node("If", "yes", "y", then_branch=outer, else_branch=outer), yes=np.array(True))


def function(body_node: NodeProto) -> onnx.ModelProto:
    """A node in a function of the model's own."""
    built = of(node("Own", "x", "y", domain="own"))
    opset = helper.make_opsetid("", 21)
    built.functions.append(helper.make_function("own", "Own", ["x"], ["y"], [body_node], [opset]))
    built.opset_import.append(helper.make_opsetid("own", 1))
    return built


@pytest.mark.parametrize("build", [lenet, channels_last, texts, endless])
def test_ordinary_graphs_are_deterministic(build: object) -> None:
    assert is_deterministic(build())  # type: ignore[operator]  # from a table


RANDOM = [
    node("RandomNormalLike", "x", "y"),
    node("RandomUniformLike", "x", "y", seed=1.0),
    node("RandomNormal", "", "y", shape=SHAPE),
    node("RandomUniform", "", "y", shape=SHAPE),
    node("Bernoulli", "x", "y"),
    node("Multinomial", "x", "y", dtype=TensorProto.INT64),
]


@pytest.mark.parametrize("drawing", RANDOM, ids=lambda n: n.op_type)
def test_random_operators_are_found_wherever_they_are(drawing: NodeProto) -> None:
    assert not is_deterministic(of(drawing))
    assert not is_deterministic(inside(drawing))
    assert not is_deterministic(function(drawing))


@pytest.mark.parametrize(
    "plain", [node("Relu", "x", "y"), node("Dropout", "x", "y")], ids=["Relu", "Dropout"]
)
def test_subgraphs_and_functions_alone_are_deterministic(plain: NodeProto) -> None:
    assert is_deterministic(inside(plain))
    assert is_deterministic(function(plain))


RATIO = np.array(0.5, np.float32)


@pytest.mark.parametrize(("training", "deterministic"), [(False, True), (True, False)])
def test_dropout_is_random_in_training_mode(training: bool, deterministic: bool) -> None:
    dropout = node("Dropout", "x ratio training", "y")
    as_initializer = of(dropout, ratio=RATIO, training=np.array(training))
    constant = node("Constant", "", "training", value=onnx.numpy_helper.from_array(np.array(training)))
    as_node = of(constant, dropout, ratio=RATIO)
    assert is_deterministic(as_initializer) is deterministic
    assert is_deterministic(as_node) is deterministic


def test_dropout_without_a_mode_is_deterministic() -> None:
    assert is_deterministic(of(node("Dropout", "x ratio", "y"), ratio=RATIO))


def test_dropout_whose_mode_a_caller_may_set_is_random() -> None:
    dropout = of(node("Dropout", "x ratio training", "y"), ratio=RATIO, training=np.array(False))
    dropout.graph.input.append(value("training", [], TensorProto.BOOL))
    assert not is_deterministic(dropout)


def test_a_graph_tells_it() -> None:
    assert Graph.parse(lenet().SerializeToString()).deterministic
    assert not Graph.parse(of(RANDOM[0]).SerializeToString()).deterministic
