"""Models that end in all the ways in which files of other programs do; their input is z [n, 4]."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, helper

from tests.service.onnx_models import Dims, model, node, value

HALF = TensorProto.FLOAT16
Z = value("z", ["n", 4])
Weights = Mapping[str, np.ndarray[Any, Any]]
SHAPE: Weights = {"s": np.array([0, 4])}
SCALE: Weights = {"scale": np.array(1 / 255, np.float32), "zero": np.array(0, np.uint8)}
SOFTMAX = node("Softmax", "z", "p")


def head(
    nodes: Sequence[NodeProto],
    weights: Weights | None = None,
    shape: Dims = ("n", 4),
    element: int = TensorProto.FLOAT,
    **more: Any,  # noqa: ANN401 - as model takes them
) -> onnx.ModelProto:
    """A model of z whose only output y is that of the last node."""
    return model(nodes, [Z], [value("y", shape, element)], weights, **more)


def with_ml(built: onnx.ModelProto) -> onnx.ModelProto:
    """Let a model use the operators of scikit-learn's converters."""
    built.opset_import.append(helper.make_opsetid("ai.onnx.ml", 3))
    return built


def written_out(opset: int = 21) -> onnx.ModelProto:
    nodes = [
        node("Exp", "z", "e"),
        node("ReduceSum", "e axes", "t", keepdims=1),
        node("Div", "e t", "y"),
    ]
    return head(nodes, {"axes": np.array([1])}, opset=opset)


def linear_classifier(post: str, normalizer: str = "") -> onnx.ModelProto:
    """Scores that are z; a label and probabilities, as scikit-learn's converters write."""
    scores = "raw" if normalizer else "probabilities"
    nodes = [
        helper.make_node(
            "LinearClassifier",
            ["z"],
            ["label", scores],
            domain="ai.onnx.ml",
            coefficients=np.eye(4, dtype=np.float32).ravel().tolist(),
            intercepts=[0.0] * 4,
            classlabels_strings=["ant", "bee", "cat", "dog"],
            multi_class=1,
            post_transform=post,
        )
    ]
    if normalizer:
        nodes.append(
            helper.make_node("Normalizer", ["raw"], ["probabilities"], domain="ai.onnx.ml", norm=normalizer)
        )
    outputs = [value("label", ["n"], TensorProto.STRING), value("probabilities", ["n", 4])]
    return with_ml(model(nodes, [Z], outputs))


def tree_ensemble() -> onnx.ModelProto:
    """One tree on z[0], the leaves of which hold probabilities; label as int64."""
    tree = helper.make_node(
        "TreeEnsembleClassifier",
        ["z"],
        ["label", "probabilities"],
        domain="ai.onnx.ml",
        nodes_treeids=[0, 0, 0],
        nodes_nodeids=[0, 1, 2],
        nodes_featureids=[0, 0, 0],
        nodes_modes=["BRANCH_LEQ", "LEAF", "LEAF"],
        nodes_values=[0.5, 0.0, 0.0],
        nodes_truenodeids=[1, 0, 0],
        nodes_falsenodeids=[2, 0, 0],
        class_treeids=[0] * 6,
        class_nodeids=[1, 1, 1, 2, 2, 2],
        class_ids=[0, 1, 2, 0, 1, 2],
        class_weights=[0.5, 0.3, 0.2, 0.1, 0.2, 0.7],
        classlabels_int64s=[7, 8, 9],
        post_transform="NONE",
    )
    outputs = [value("label", ["n"], TensorProto.INT64), value("probabilities", ["n", 3])]
    return with_ml(model([tree], [Z], outputs))


PROBABILITIES = [0.9905382, 0.0066741, 0.0024553, 0.0003323]  # softmax of 6, 1, 0, -2
SIGMOIDS = [0.9975274, 0.7310586, 0.5, 0.1192029]

KEPT: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "softmax": lambda: head([node("Softmax", "z", "y")]),
    "softmax_opset_11": lambda: head([node("Softmax", "z", "y")], opset=11),
    "identity": lambda: head([SOFTMAX, node("Identity", "p", "y")]),
    "cast": lambda: head(
        [SOFTMAX, node("Cast", "p", "h", to=HALF), node("Cast", "h", "y", to=TensorProto.FLOAT)]
    ),
    "half": lambda: head([SOFTMAX, node("Cast", "p", "y", to=HALF)], element=HALF),
    "reshape": lambda: head([SOFTMAX, node("Reshape", "p s", "y")], SHAPE),
    "flatten": lambda: head(
        [node("Unsqueeze", "z axes", "z4"), node("Softmax", "z4", "p", axis=1), node("Flatten", "p", "y")],
        {"axes": np.array([2, 3])},
    ),
    "transpose": lambda: head(
        [
            *(node("Unsqueeze", "z axes", "z3"), node("Softmax", "z3", "p", axis=1)),
            *(node("Transpose", "p", "t", perm=[0, 2, 1]), node("Squeeze", "t ones", "y")),
        ],
        {"axes": np.array([2]), "ones": np.array([1])},
    ),
    "spatial": lambda: head(
        [SOFTMAX, node("Reshape", "p s", "y")], {"s": np.array([0, 4, 1, 1])}, ("n", 4, 1, 1)
    ),
    "spatial_softmax": lambda: head(
        [node("Reshape", "z s", "z4"), node("Softmax", "z4", "y", axis=1)],
        {"s": np.array([0, 4, 1, 1])},
        ("n", 4, 1, 1),
    ),
    "in_the_middle": lambda: head(
        [SOFTMAX, node("Unsqueeze", "p s", "y")], {"s": np.array([1])}, ("n", 1, 4)
    ),
    "size_not_told": lambda: head([SOFTMAX, node("Reshape", "p s", "y")], SHAPE, ("n", "classes")),
    "quantized": lambda: head(
        [
            SOFTMAX,
            node("QuantizeLinear", "p scale zero", "q"),
            node("DequantizeLinear", "q scale zero", "y"),
        ],
        SCALE,
    ),
    "dropout": lambda: head([SOFTMAX, node("Dropout", "p", "y")]),
    "clip": lambda: head(
        [SOFTMAX, node("Clip", "p low high", "y")],
        {"low": np.array(1e-7, np.float32), "high": np.array(1, np.float32)},
    ),
    "written_out": written_out,
    "averaged": lambda: head([SOFTMAX, node("Mean", "p p", "y")]),
    "exp_of_log": lambda: head([node("LogSoftmax", "z", "l"), node("Exp", "l", "y")]),
    "normalizer": lambda: head_of_normalizer(),
    "linear": lambda: linear_classifier("SOFTMAX"),
}
"""All of them give PROBABILITIES for 6, 1, 0, -2, without another softmax."""


def head_of_normalizer() -> onnx.ModelProto:
    nodes = [
        node("Exp", "z", "e"),
        helper.make_node("Normalizer", ["e"], ["y"], domain="ai.onnx.ml", norm="L1"),
    ]
    return with_ml(head(nodes))


def binary(shape: Dims = ("n", 1), *, sigmoid: bool = True) -> onnx.ModelProto:
    weights = {"w": np.array([[-0.5], [0], [0], [0]], np.float32)}
    nodes = [
        node("MatMul", "z w", "l" if sigmoid else "y"),
        *([node("Sigmoid", "l", "y")] if sigmoid else []),
    ]
    return head(nodes, weights, shape)


OTHERS: Mapping[str, tuple[Callable[[], onnx.ModelProto], str, Sequence[float]]] = {
    "logits": (lambda: head([node("Identity", "z", "y")]), "logits", PROBABILITIES),
    "spatial_logits": (
        lambda: head([node("Unsqueeze", "z s", "y")], {"s": np.array([2, 3])}, ("n", 4, 1, 1)),
        "logits",
        PROBABILITIES,
    ),
    "log_softmax": (lambda: head([node("LogSoftmax", "z", "y")]), "log_softmax", PROBABILITIES),
    "log_of_softmax": (lambda: head([SOFTMAX, node("Log", "p", "y")]), "log_softmax", PROBABILITIES),
    "log_softmax_written_out": (
        lambda: head(
            [node("ReduceLogSumExp", "z axes", "t", keepdims=1), node("Sub", "z t", "y")],
            {"axes": np.array([1])},
        ),
        "log_softmax",
        PROBABILITIES,
    ),
    "sigmoid": (lambda: head([node("Sigmoid", "z", "y")]), "sigmoid", SIGMOIDS),
    "sigmoid_written_out": (
        lambda: head(
            [
                *(node("Neg", "z", "m"), node("Exp", "m", "e")),
                *(node("Add", "e one", "d"), node("Div", "one d", "y")),
            ],
            {"one": np.array(1, np.float32)},
        ),
        "sigmoid",
        SIGMOIDS,
    ),
    "sigmoid_linear": (lambda: linear_classifier("LOGISTIC"), "sigmoid", SIGMOIDS),
    "sigmoid_normalized": (
        lambda: linear_classifier("LOGISTIC", "L1"),
        "softmax",
        [x / sum(SIGMOIDS) for x in SIGMOIDS],
    ),
    "tree_ensemble": (tree_ensemble, "softmax", [0.1, 0.2, 0.7]),
    "binary": (binary, "sigmoid", [0.047426]),
}
"""With their kinds, and the probabilities of 6, 1, 0, -2."""
