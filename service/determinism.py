"""Tells whether a graph gives the same outputs whenever it is given the same inputs."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import onnx
from onnx import numpy_helper

# ONNX's own, and those of ONNX Runtime: https://onnxruntime.ai/docs/reference/operators/ContribOperators.html
_RANDOM = frozenset(
    (
        *("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform"),
        *("RandomUniformLike", "Sampling"),
    )
)
_DROPOUT = frozenset(("BiasDropout", "BitmaskBiasDropout", "BitmaskDropout", "Dropout"))


def is_deterministic(model: onnx.ModelProto) -> bool:
    """Tell whether nothing in a model, its subgraphs and functions draws random numbers.

    A dropout that could be in training mode counts as drawing them.
    """
    functions = (node for function in model.functions for node in function.node)
    nodes = [*_nodes(model.graph.node), *_nodes(functions)]
    off = _constant_falses(model.graph, nodes)
    return not any(node.op_type in _RANDOM or _may_drop(node, off) for node in nodes)


def _nodes(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.NodeProto]:
    for node in nodes:
        yield node
        for attribute in node.attribute:
            for subgraph in (attribute.g, *attribute.graphs):
                yield from _nodes(subgraph.node)


def _may_drop(node: onnx.NodeProto, off: frozenset[str]) -> bool:
    """Tell whether a dropout drops elements: it does if its last input, training_mode, is true."""
    if node.op_type not in _DROPOUT:
        return False
    position = 4 if "Bias" in node.op_type else 2
    return len(node.input) > position and node.input[position] not in off | {""}


def _constant_falses(graph: onnx.GraphProto, nodes: Iterable[onnx.NodeProto]) -> frozenset[str]:
    """Name the constants that are false, whatever a caller sends."""
    overridable = {value.name for value in graph.input}
    tensors = [(tensor.name, tensor) for tensor in graph.initializer if tensor.name not in overridable]
    tensors += [
        (node.output[0], attribute.t)
        for node in nodes
        if node.op_type == "Constant"
        for attribute in node.attribute
        if attribute.name == "value"
    ]
    return frozenset(
        name
        for name, tensor in tensors
        if tensor.data_type == onnx.TensorProto.BOOL and not numpy_helper.to_array(tensor).any()
    )
