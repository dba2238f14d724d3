"""What ONNX's operator specification says of a node: attributes, window geometry, which inputs hold weights.

https://onnx.ai/onnx/operators/
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import onnx
from onnx import TensorProto

from service.onnx_file import element_count
from service.tensors import Shape

# Operators that slide a window over their first input, and the input that holds the kernel.
CONVOLUTIONS = {"Conv": 1, "ConvTranspose": 1, "ConvInteger": 1, "QLinearConv": 3, "FusedConv": 1}
POOLINGS = {"MaxPool", "AveragePool", "LpPool", "QLinearAveragePool"}

# Inputs that hold learned parameters where they are constant. A BatchNormalization's running mean and
# variance (inputs 3 and 4) are measured, not learned.
_LEARNED: Mapping[str, tuple[int, ...]] = {
    "Conv": (1, 2),
    "FusedConv": (1, 2),
    "ConvTranspose": (1, 2),
    "ConvInteger": (1,),
    "QLinearConv": (3, 8),
    "DeformConv": (1, 3),
    "Gemm": (0, 1, 2),
    "FusedGemm": (0, 1, 2),
    "MatMul": (0, 1),
    "MatMulInteger": (0, 1),
    "QLinearMatMul": (0, 3),
    "BatchNormalization": (1, 2),
    "InstanceNormalization": (1, 2),
    "GroupNormalization": (1, 2),
    "LayerNormalization": (1, 2),
    "RMSNormalization": (1,),
    "PRelu": (1,),
    "RNN": (1, 2, 3),
    "GRU": (1, 2, 3),
    "LSTM": (1, 2, 3, 7),
    "Gather": (0,),  # an embedding
}
# Operators whose constant operands are learned too (biases, positional embeddings, class tokens), but only
# behind an operator with weights: those in front of it normalize the input.
_COMBINING = {"Add", "Mul", "Concat", "Expand"}
_FLOATING = {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
_NEVER_LEARNED = {TensorProto.INT64, TensorProto.BOOL, TensorProto.STRING}  # shapes, indices, masks, texts

# Operators whose elements depend on the elements at the same place of their inputs and no others; LRN, which
# mixes channels, on those at the same place in space.
# fmt: off
ELEMENTWISE = frozenset((
    "Abs", "Add", "BatchNormalization", "Cast", "CastLike", "Ceil", "Celu", "Clip", "Cos",
    "DequantizeLinear", "Div", "Dropout", "Elu", "Equal", "Erf", "Exp", "Floor", "Gelu", "Greater",
    "HardSigmoid", "HardSwish", "Identity", "LRN", "LeakyRelu", "Less", "Log", "Max", "Mean", "Min", "Mish",
    "Mul", "Neg", "Not", "PRelu", "Pow", "QuantizeLinear", "Reciprocal", "Relu", "Round", "Selu", "Shrink",
    "Sigmoid", "Sign", "Sin", "Softplus", "Softsign", "Sqrt", "Sub", "Sum", "Swish", "Tanh",
    "ThresholdedRelu", "Where",
))
# fmt: on

# Operators that use the sizes of their input and not its elements.
OF_SIZES = {"Shape", "Size", "EyeLike"}

# Operators that give a constant another form: what they yield is still the same weight.
FORMING = {"Identity", "Cast", "Transpose", "Reshape", "Squeeze", "Unsqueeze", "DequantizeLinear"}


@dataclass(frozen=True)
class Window:
    """Geometry of a convolution or pooling, one entry per spatial axis.

    `pads` are the beginnings of all axes, then the ends; empty where they depend on a size that isn't known.
    `group` is 0 for a pooling.
    """

    kernel_shape: tuple[int, ...] = ()
    strides: tuple[int, ...] = ()
    pads: tuple[int, ...] = ()
    dilations: tuple[int, ...] = ()
    group: int = 0


@dataclass(frozen=True)
class Operator:
    """One node of a graph; `opset` is the version of its operator set."""

    node: onnx.NodeProto
    opset: int

    @property
    def op_type(self) -> str:
        """Name the operator, such as Conv; with its domain in front if that is a foreign one."""
        standard = self.node.domain in ("", "ai.onnx", "com.microsoft")
        return self.node.op_type if standard else f"{self.node.domain}::{self.node.op_type}"

    @cached_property
    def attributes(self) -> Mapping[str, Any]:
        """Values of the attributes that the node sets; strings as bytes."""
        return {
            a.name: onnx.helper.get_attribute_value(a) for a in self.node.attribute if not a.ref_attr_name
        }

    @property
    def has_subgraph(self) -> bool:
        """Tell whether it is a control-flow operator, which may use tensors that are not among its inputs."""
        return any(a.HasField("g") or a.graphs for a in self.node.attribute)

    def integers(self, name: str, default: Sequence[int] = ()) -> tuple[int, ...]:
        """Return an attribute that is a list of integers."""
        return tuple(self.attributes.get(name, default))


def window(operator: Operator, shapes: Mapping[str, Shape | None]) -> Window:
    """Tell the window of a convolution or pooling, defaults filled in; an empty one for other operators."""
    kernel = _kernel_shape(operator, shapes)
    if not kernel:
        return Window()
    ones = (1,) * len(kernel)
    strides, dilations = operator.integers("strides", ones), operator.integers("dilations", ones)
    return Window(
        kernel_shape=kernel,
        strides=strides,
        pads=_pads(operator, kernel, strides, dilations, shapes.get(operator.node.input[0])),
        dilations=dilations,
        group=operator.attributes.get("group", 1) if operator.op_type in CONVOLUTIONS else 0,
    )


def _kernel_shape(operator: Operator, shapes: Mapping[str, Shape | None]) -> tuple[int, ...]:
    if operator.op_type in POOLINGS:
        return operator.integers("kernel_shape")
    if operator.op_type not in CONVOLUTIONS:
        return ()
    weight = shapes.get(operator.node.input[CONVOLUTIONS[operator.op_type]]) or ()
    kernel = operator.integers("kernel_shape") or weight[2:]
    return tuple(size for size in kernel if size is not None)


def _pads(
    operator: Operator,
    kernel: Sequence[int],
    strides: Sequence[int],
    dilations: Sequence[int],
    shape: Shape | None,
) -> tuple[int, ...]:
    auto_pad = operator.attributes.get("auto_pad", b"NOTSET").decode()
    if auto_pad in ("NOTSET", ""):
        explicit_size = operator.op_type == "ConvTranspose" and "output_shape" in operator.attributes
        return () if explicit_size else operator.integers("pads", (0,) * 2 * len(kernel))
    if auto_pad == "VALID":
        return (0,) * 2 * len(kernel)
    sizes = (shape or ())[2:]
    if operator.op_type == "ConvTranspose" or len(sizes) != len(kernel):
        return ()
    totals = []
    for size, k, stride, dilation in zip(sizes, kernel, strides, dilations, strict=True):
        if size is None:
            return ()
        outputs = -(-size // stride)  # rounded up
        totals.append(max((outputs - 1) * stride + (k - 1) * dilation + 1 - size, 0))
    smaller, larger = [t // 2 for t in totals], [t - t // 2 for t in totals]
    return tuple(smaller + larger if auto_pad == "SAME_UPPER" else larger + smaller)


def learned_inputs(
    operator: Operator, constants: Mapping[str, TensorProto | None], behind_weights: Collection[str]
) -> tuple[TensorProto, ...]:
    """List the constants that hold learned parameters of this node, in the operator's order.

    Args:
        operator: The node.
        constants: Tensor that each constant of the graph stems from; None where it was computed from several.
        behind_weights: Tensors that depend on an operator with weights.
    """
    inputs = operator.node.input
    if operator.op_type in _LEARNED:
        positions = [p for p in _LEARNED[operator.op_type] if p < len(inputs)]
        found = [constants.get(inputs[p]) for p in positions]
        return tuple(t for t in found if t is not None and t.data_type not in _NEVER_LEARNED)
    if operator.op_type in _COMBINING and any(name in behind_weights for name in inputs):
        found = [constants.get(name) for name in inputs]
        return tuple(t for t in found if t is not None and t.data_type in _FLOATING and element_count(t) > 1)
    return ()
