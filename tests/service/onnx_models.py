"""ONNX models for the tests, built node by node: a LeNet with random weights, and graphs of other kinds."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 21
Dims = Sequence[int | str | None]


def value(name: str, dims: Dims | None, element: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, dims)


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:  # noqa: ANN401 - as make_node
    """Make a node; tensor names are separated by blanks."""
    return helper.make_node(op_type, inputs.split(), outputs.split(), **attributes)


def model(
    nodes: Sequence[NodeProto],
    inputs: Sequence[ValueInfoProto],
    outputs: Sequence[ValueInfoProto],
    weights: Mapping[str, np.ndarray[Any, Any]] | None = None,
    *,
    opset: int = OPSET,
    metadata: Mapping[str, str] | None = None,
    value_info: Sequence[ValueInfoProto] = (),
) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(array, name) for name, array in (weights or {}).items()]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers, value_info=value_info)
    built = helper.make_model(
        graph,
        opset_imports=[helper.make_opsetid("", opset)],
        ir_version=10,
        producer_name="test",
        producer_version="1",
    )
    helper.set_model_props(built, dict(metadata or {}))
    return built


def random_weights(seed: int = 0, **shapes: Sequence[int]) -> dict[str, np.ndarray[Any, Any]]:
    """Draw weights so that values keep their scale from layer to layer."""
    generator = np.random.default_rng(seed)
    weights = {}
    for name, shape in shapes.items():
        fan_in = np.prod(shape[1:]) if len(shape) > 1 else 10.0
        weights[name] = (generator.normal(size=shape) * np.sqrt(2 / fan_in)).astype(np.float32)
    return weights


def lenet(seed: int = 0) -> onnx.ModelProto:
    """LeNet as the product ships it, with its tensor names and random weights."""
    weights = random_weights(
        seed,
        w1=(6, 1, 5, 5), b1=(6,), w2=(16, 6, 5, 5), b2=(16,), w3=(120, 400), b3=(120,),
        w4=(100, 120), b4=(100,), w5=(10, 100), b5=(10,),
    )  # fmt: skip
    weights |= {"mean": np.full((1, 1, 1, 1), 0.1, np.float32), "std": np.full(1, 0.3, np.float32)}
    nodes = [
        node("Sub", "image mean", "centered"),
        node("Div", "centered std", "normalized"),
        node("Conv", "normalized w1 b1", "conv1", kernel_shape=[5, 5]),
        node("Relu", "conv1", "relu1"),
        node("MaxPool", "relu1", "pool1", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "pool1 w2 b2", "conv2"),
        node("Relu", "conv2", "relu2"),
        node("MaxPool", "relu2", "pool2", kernel_shape=[2, 2], strides=[2, 2]),
        node("Flatten", "pool2", "flat"),
        node("Gemm", "flat w3 b3", "fc1", transB=1),
        node("Relu", "fc1", "relu3"),
        node("Gemm", "relu3 w4 b4", "fc2", transB=1),
        node("Relu", "fc2", "relu4"),
        node("Gemm", "relu4 w5 b5", "logits", transB=1),
        node("Softmax", "logits", "probabilities"),
    ]
    table = [{"name": n, "op": "", "module": f"net.{n}"} for n in ("conv1", "relu1", "fc1")]
    return model(
        nodes,
        [value("image", ["batch", 1, 32, 32])],
        [value("probabilities", ["batch", 10])],
        weights,
        metadata={
            "featurelens.layers": json.dumps(table),
            "featurelens.labels": json.dumps(list("0123456789")),
        },
    )
