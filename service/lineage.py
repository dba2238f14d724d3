"""What each tensor of a graph is computed from, and what that says of its rows where a run can't tell."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping

import onnx

_OF_SHAPES = frozenset({"Shape", "Size"})
"""Operators whose values depend on the shapes of their inputs alone."""

_BY_VALUES = frozenset(
    {
        *("NonZero", "Unique", "Compress", "NonMaxSuppression", "StringSplit"),
        *("DynamicQuantizeLinear", "DynamicQuantizeMatMul", "DynamicQuantizeLSTM"),
        *("Loop", "Scan", "SequenceMap"),
    }
)
"""Operators whose shapes, scales or number of turns may depend on the values of all items together.

https://onnx.ai/onnx/operators/ and
https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md
"""

_ELEMENTWISE = frozenset(
    {
        *("Abs", "Acos", "Acosh", "Asin", "Asinh", "Atan", "Atanh", "Ceil", "Cos", "Cosh", "Erf", "Exp"),
        *("Floor", "Log", "Neg", "Not", "Reciprocal", "Round", "Sigmoid", "Sign", "Sin", "Sinh", "Sqrt"),
        *("Tan", "Tanh", "Celu", "Clip", "Elu", "Gelu", "HardSigmoid", "HardSwish", "LeakyRelu", "Mish"),
        *("PRelu", "Relu", "Selu", "Shrink", "Softplus", "Softsign", "Swish", "ThresholdedRelu", "IsInf"),
        *("IsNaN", "BitwiseNot", "Add", "Sub", "Mul", "Div", "Mod", "Pow", "And", "Or", "Xor", "Max"),
        *("Min", "Mean", "Sum", "Where", "Equal", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        *("Cast", "CastLike", "Identity", "QuantizeLinear", "DequantizeLinear", "Dropout"),
        *("StringConcat", "RegexFullMatch", "CategoryMapper", "LabelEncoder", "Binarizer", "Imputer"),
        "Scaler",
    }
)
_REARRANGING = _ELEMENTWISE | {
    *("Reshape", "Transpose", "Flatten", "Squeeze", "Unsqueeze", "Expand", "Tile", "Split"),
    *("DepthToSpace", "SpaceToDepth", "Shape", "Size"),
}
"""Operators whose every element is of the elements at one place of their inputs."""
_OF_ITEMS = frozenset(
    {
        *("Conv", "ConvInteger", "ConvTranspose", "QLinearConv", "DeformConv", "LRN", "BatchNormalization"),
        *("InstanceNormalization", "GroupNormalization", "DepthToSpace", "SpaceToDepth"),
        *("AveragePool", "MaxPool", "LpPool", "GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool"),
        *("LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor", "Normalizer"),
        *("TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor"),
    }
)
"""Operators that have the items along axis 0 of their first input by definition."""
_ALONG_AXIS = {
    "ArgMax": 0,
    "ArgMin": 0,
    "Concat": 0,
    "Flatten": 1,
    **dict.fromkeys(("Softmax", "LogSoftmax", "Hardmax", "LayerNormalization"), -1),
}
"""Operators that leave all axes but one alone, or those before it, and which it is unless they say."""


class Lineage:
    """The descent of the tensors of a graph's main level.

    Attributes:
        parents: By tensor, the inputs and computed tensors that it is computed from, constants left out.
        told: The tensors whose values depend on constants and the shapes of the inputs alone.
        by_values: The tensors whose shapes or rows may depend on the values of all items together, in a way
            that runs on some items needn't show: what is found, selected, or done in turns.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.parents: dict[str, tuple[str, ...]] = {}
        self.told: set[str] = set()
        self.by_values: set[str] = set()
        self._nodes: dict[str, onnx.NodeProto] = {}
        self._by_values = _BY_VALUES | _deciding_functions(model)
        constants = {tensor.name for tensor in model.graph.initializer}
        self._computed = {value.name for value in model.graph.input} - constants
        for node in model.graph.node:
            self._add(node)

    def descendants(self, names: Collection[str]) -> set[str]:
        """Name these tensors and all that are computed from them, or from their shapes."""
        found = set(names)
        for name, parents in self.parents.items():  # in the order of the nodes
            if not found.isdisjoint(parents):
                found.add(name)
        return found

    def rearranges(self, name: str) -> bool:
        """Tell whether a tensor's operator only moves elements, or computes each of those at one place."""
        node = self._nodes.get(name)
        return node is not None and node.op_type in _REARRANGING

    def is_row_wise(self, name: str, rank: int) -> bool:
        """Tell whether a tensor's operator computes each row of axis 0 of the same row of its inputs."""
        node = self._nodes.get(name)
        if node is None:
            return False
        attributes = {a.name: a.i for a in node.attribute if a.type == onnx.AttributeProto.INT}
        if node.op_type in _ELEMENTWISE:
            return True
        if node.op_type in _OF_ITEMS:
            return self.parents[name] == (node.input[0],) and not attributes.get("training_mode")
        if node.op_type in ("Gemm", "MatMul"):
            return self.parents[name] == (node.input[0],) and not attributes.get("transA")
        if node.op_type in _ALONG_AXIS:
            axis = attributes.get("axis", _ALONG_AXIS[node.op_type])
            dropped = node.op_type.startswith("Arg") and not attributes.get("keepdims", 1)
            return axis > 0 or (axis == -1 and rank + dropped > 1)
        return False

    def _add(self, node: onnx.NodeProto) -> None:
        parents = tuple(dict.fromkeys(name for name in reads(node) if name in self._computed))
        if not parents:
            return
        outputs = [name for name in node.output if name]
        self.parents.update(dict.fromkeys(outputs, parents))
        self._nodes.update(dict.fromkeys(outputs, node))
        self._computed.update(outputs)
        if node.op_type in _OF_SHAPES or self.told.issuperset(parents):
            self.told.update(outputs)
        elif self._decides(node):
            self.by_values.update(outputs)

    def _decides(self, node: onnx.NodeProto) -> bool:
        if node.op_type in self._by_values:
            return True
        if node.op_type == "If" and node.input[0] in self._computed - self.told:
            return True
        return any(inner.op_type in self._by_values | {"If"} for inner in _inner_nodes(node))


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Name what a node reads, its subgraphs included, which may read any tensor of the graphs around them."""
    yield from node.input
    for graph in _subgraphs(node):
        for inner in graph.node:
            yield from reads(inner)
        yield from (value.name for value in graph.output)


def _inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    for graph in _subgraphs(node):
        for inner in graph.node:
            yield inner
            yield from _inner_nodes(inner)


def _subgraphs(node: onnx.NodeProto) -> Iterator[onnx.GraphProto]:
    for attribute in node.attribute:
        if attribute.type == onnx.AttributeProto.GRAPH:
            yield attribute.g
        yield from attribute.graphs


def _deciding_functions(model: onnx.ModelProto) -> set[str]:
    """Name the file's own functions in whose bodies, or in those of what they call, values decide."""
    bodies: Mapping[str, set[str]] = {
        function.name: {n.op_type for node in function.node for n in (node, *_inner_nodes(node))}
        for function in model.functions
    }
    found: set[str] = set()
    while more := {n for n, ops in bodies.items() if n not in found and ops & (_BY_VALUES | {"If"} | found)}:
        found |= more
    return found
