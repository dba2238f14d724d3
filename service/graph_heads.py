"""What the graph proves of an output: that a softmax or a sigmoid computes it, whatever stands in between."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from service.heads import Kind
from service.onnx_file import is_described_only
from service.operators import Operator
from service.tensors import Array, Shape

_FLOATS = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16)
_SAME_ORDER = {"Identity", "Reshape", "Squeeze", "Unsqueeze", "Flatten", "QuantizeLinear", "DequantizeLinear"}
_SIGMOIDS = {"Sigmoid", "HardSigmoid", "QLinearSigmoid"}
_ML_CLASSIFIERS = {f"ai.onnx.ml::{name}Classifier" for name in ("TreeEnsemble", "Linear", "SVM")}
# https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsembleClassifier.html
_POST_TRANSFORMS = {b"SOFTMAX": Kind.SOFTMAX, b"SOFTMAX_ZERO": Kind.SOFTMAX, b"LOGISTIC": Kind.SIGMOID}
_NEARLY = 0.01  # clipping that keeps logarithms finite leaves out so little
_STEP = 1 / 128  # of 8 bits and one for the sign, where the scale isn't told
_MOST_STEPS = 100
# What reading a node raises that isn't as its operator wants it: only ONNX Runtime decides what is valid.
_UNREADABLE = (AttributeError, LookupError, TypeError, ValueError)


@dataclass(frozen=True, slots=True)
class Trace:
    """What is behind an output.

    Attributes:
        kind: What computes its values; None where the graph doesn't tell.
        layer: The tensor that shows it; not the output itself if that is the same in another form.
        op_type: Its operator.
        step: Distance of neighbouring values if it was quantized on the way, else 0.
    """

    kind: Kind | None = None
    layer: str = ""
    op_type: str = ""
    step: float = 0.0


class HeadWalk:
    """Walks from outputs back through a graph.

    Args:
        model: A model file, without the data of large tensors.
        shapes: Of the tensors, as far as they are known.
    """

    def __init__(self, model: onnx.ModelProto, shapes: Mapping[str, Shape | None]) -> None:
        opsets = {opset.domain: opset.version for opset in model.opset_import}
        self._shapes = shapes
        self._producers = {
            name: Operator(node, opsets.get(node.domain, 0))
            for node in model.graph.node
            for name in node.output
            if name
        }
        self._initializers = {tensor.name: tensor for tensor in model.graph.initializer}

    def trace(self, output: str, classes: int | None) -> Trace:
        """Tell what computes an output of so many classes; None: it isn't known how many."""
        try:
            return self._trace(output, classes)
        except _UNREADABLE:
            return Trace()

    def _trace(self, output: str, classes: int | None) -> Trace:
        step = 0.0
        name = output
        for _ in range(_MOST_STEPS):
            if (operator := self._producers.get(name)) is None:
                break
            if operator.op_type == "DequantizeLinear":
                step = max(step, self._scale(operator))
            elif operator.op_type.startswith("QLinear"):
                step = max(step, _STEP)
            if not self._keeps(operator):
                return Trace(self._kind(operator, name, classes), name, operator.op_type, step)
            name = operator.node.input[0]
        return Trace(step=step)

    def _scale(self, operator: Operator) -> float:
        scale = self._constant(operator, 1)
        return _STEP if scale is None or not scale.size else float(scale.max())

    def _keeps(self, operator: Operator) -> bool:
        """Tell whether an operator hands its first input's values on, in their order."""
        attributes = operator.attributes
        match operator.op_type:
            case "Cast":
                return attributes.get("to") in _FLOATS
            case "Clip":
                return self._clips_little(operator)
            case "Dropout":
                training = self._constant(operator, 2)
                return len(operator.node.input) < 3 or not (training is None or training.any())
            case "Transpose":
                return self._moves_ones_only(operator)
            case op_type:
                return op_type in _SAME_ORDER

    def _clips_little(self, operator: Operator) -> bool:
        bounds = []
        for position, key, missing in ((1, "min", 0.0), (2, "max", 1.0)):
            given = len(operator.node.input) > position and operator.node.input[position]
            constant = self._constant(operator, position)
            if given and constant is None:
                return False
            bounds.append(float(constant) if constant is not None else operator.attributes.get(key, missing))
        return bounds[0] <= _NEARLY and bounds[1] >= 1 - _NEARLY

    def _moves_ones_only(self, operator: Operator) -> bool:
        shape = self._shapes.get(operator.node.input[0])
        if shape is None:
            return False
        order = operator.attributes.get("perm", range(len(shape))[::-1])
        moved = [axis for axis in order if shape[axis] != 1]
        return moved == sorted(moved)

    def _kind(self, operator: Operator, name: str, classes: int | None) -> Kind | None:
        attributes = operator.attributes
        match operator.op_type:
            case "Softmax" | "LogSoftmax" | "QLinearSoftmax" as op_type:
                over = self._over_classes(name, classes, self._softmax_axes(operator, name))
                found = Kind.LOG_SOFTMAX if op_type == "LogSoftmax" else Kind.SOFTMAX
                return found if over else None
            case "Log":
                inner = self._trace(operator.node.input[0], classes).kind
                return Kind.LOG_SOFTMAX if inner is Kind.SOFTMAX else None
            case "Exp":
                inner = self._trace(operator.node.input[0], classes).kind
                return Kind.SOFTMAX if inner is Kind.LOG_SOFTMAX else None
            case "Div" | "Reciprocal":
                return self._written_out(operator, name, classes)
            case "ai.onnx.ml::Normalizer":
                return Kind.SOFTMAX if attributes.get("norm") == b"L1" else None
            case op_type if op_type in _ML_CLASSIFIERS and name == operator.node.output[1]:
                return _POST_TRANSFORMS.get(attributes.get("post_transform", b"NONE"))
            case op_type:
                return Kind.SIGMOID if op_type in _SIGMOIDS else None

    def _softmax_axes(self, operator: Operator, name: str) -> list[int]:
        """List the axes over which a softmax sums: before opset 13 all from the one that it names."""
        opset = operator.attributes.get("opset", operator.opset)
        rank = len(self._shapes.get(name) or ())
        axis = operator.attributes.get("axis", -1 if opset >= 13 else 1)
        axis += rank if axis < 0 else 0
        return [axis] if opset >= 13 else list(range(axis, rank))

    def _over_classes(self, name: str, classes: int | None, axes: list[int]) -> bool:
        """Tell whether these axes of a tensor are those of the classes, as far as its shape is known."""
        if (shape := self._shapes.get(name)) is None:
            return True
        wide = [axis for axis, size in enumerate(shape) if axis and size != 1]
        sizes = [shape[axis] for axis in wide]
        if 0 in axes or not set(wide) <= set(axes):
            return False
        known = np.prod([size for size in sizes if size is not None], dtype=int)
        return classes is None or None in sizes or int(known) == classes

    def _written_out(self, operator: Operator, name: str, classes: int | None) -> Kind | None:
        """Recognize exp(z) / sum(exp(z)), and 1 / (1 + exp(-z))."""
        inputs = operator.node.input
        below = self._producers.get(inputs[-1])
        if below is None:
            return None
        if below.op_type == "ReduceSum" and below.node.input[0] == inputs[0]:
            above = self._producers.get(inputs[0])
            axes = self._constant(below, 1) if below.opset >= 13 else below.attributes.get("axes")
            rank = len(self._shapes.get(name) or ())
            positive = [int(axis) % rank for axis in axes] if axes is not None and rank else []
            is_exp = above is not None and above.op_type == "Exp"
            return Kind.SOFTMAX if is_exp and self._over_classes(name, classes, positive) else None
        is_one = operator.op_type == "Reciprocal" or self._is_one(inputs[0])
        return Kind.SIGMOID if is_one and below.op_type == "Add" and self._is_one_and_exp(below) else None

    def _is_one_and_exp(self, add: Operator) -> bool:
        operators = [self._producers.get(name) for name in add.node.input]
        return any(map(self._is_one, add.node.input)) and any(o and o.op_type == "Exp" for o in operators)

    def _is_one(self, name: str) -> bool:
        value = self._value(name)
        return value is not None and value.size == 1 and float(value.reshape(())) == 1

    def _constant(self, operator: Operator, position: int) -> Array | None:
        inputs = operator.node.input
        return self._value(inputs[position]) if len(inputs) > position else None

    def _value(self, name: str) -> Array | None:
        tensor = self._initializers.get(name)
        producer = self._producers.get(name)
        if tensor is None and producer is not None and producer.op_type == "Constant":
            tensor = producer.attributes.get("value")
        if tensor is None or is_described_only(tensor) or tensor.external_data:
            return None
        return numpy_helper.to_array(tensor)
