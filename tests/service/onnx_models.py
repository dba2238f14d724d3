"""ONNX models for the tests, built node by node: a LeNet with random weights, and graphs of other kinds."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import NodeProto, TensorProto, ValueInfoProto, helper, numpy_helper

OPSET = 21
Dims = Sequence[int | str | None]


def value(name: str, dims: Dims | None, element: int = TensorProto.FLOAT) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, element, dims)


def node(op_type: str, inputs: str, outputs: str, **attributes: Any) -> NodeProto:  # noqa: ANN401 - as make_node
    """Make a node; tensor names are separated by blanks, two of which leave an input out."""
    return helper.make_node(op_type, inputs.split(" ") if inputs else [], outputs.split(), **attributes)


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
        w1=(6, 1, 5, 5),
        b1=(6,),
        w2=(16, 6, 5, 5),
        b2=(16,),
        w3=(120, 400),
        b3=(120,),
        w4=(100, 120),
        b4=(100,),
        w5=(10, 100),
        b5=(10,),
    )
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
    auxiliary = ("centered", "normalized", "flat")
    computed = [node.output[0] for node in nodes]
    table = [{"name": n, "op": "", "module": f"net.{n}"} for n in computed if n not in auxiliary]
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


def channels_last() -> onnx.ModelProto:
    """A convolution as TensorFlow's exporter wraps it: channels last outside, first inside."""
    nodes = [
        node("Transpose", "image", "nchw", perm=[0, 3, 1, 2]),
        node("Conv", "nchw w", "conv", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Transpose", "conv", "nhwc", perm=[0, 2, 3, 1]),
        node("Relu", "nhwc", "relu"),
        node("GlobalAveragePool", "conv", "pooled"),
        node("Flatten", "pooled", "features"),
    ]
    outputs = [value("features", ["n", 4]), value("relu", ["n", 6, 6, 4])]
    return model(nodes, [value("image", ["n", 12, 12, 3])], outputs, random_weights(w=(4, 3, 3, 3)))


def channels_last_bytes() -> onnx.ModelProto:
    """A classifier of channels-last pictures whose input is cast and turned in front of its convolution."""
    nodes = [
        node("Cast", "image", "cast", to=TensorProto.FLOAT),
        node("Transpose", "cast", "turned", perm=[0, 3, 1, 2]),
        node("Conv", "turned w", "conv", kernel_shape=[3, 3]),
        node("Transpose", "conv", "back", perm=[0, 2, 3, 1]),
        node("GlobalAveragePool", "conv", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Softmax", "flat", "p"),
    ]
    inputs, outputs = [value("image", ["n", 32, 32, 3])], [value("p", ["n", 5])]
    return model(nodes, inputs, outputs, random_weights(w=(5, 3, 3, 3)))


def two_inputs() -> onnx.ModelProto:
    """Two inputs, two outputs, and an output that no other node uses."""
    nodes = [
        node("Mul", "image gain", "scaled"),
        node("ReduceSum", "scaled axes", "total"),
        node("Neg", "total", "negative"),
    ]
    inputs = [value("image", ["n", 3, 8, 8]), value("gain", [1])]
    outputs = [value("total", ["n", 3, 1, 1]), value("negative", ["n", 3, 1, 1])]
    return model(nodes, inputs, outputs, {"axes": np.array([2, 3], np.int64)})


def without_batch() -> onnx.ModelProto:
    nodes = [node("MatMul", "w vector", "product"), node("Sigmoid", "product", "squashed")]
    return model(nodes, [value("vector", [5])], [value("squashed", [4])], random_weights(w=(4, 5)))


def branching() -> onnx.ModelProto:
    """An If whose branches use a tensor of the outer graph that is not among its inputs."""

    def branch(op_type: str) -> onnx.GraphProto:
        return helper.make_graph(
            [node(op_type, "x", f"inner_{op_type}")], op_type, [], [value(f"inner_{op_type}", ["n", 4])]
        )

    nodes = [
        node("ReduceSum", "x", "sum", keepdims=0),
        node("Greater", "sum zero", "positive"),
        node("If", "positive", "chosen", then_branch=branch("Relu"), else_branch=branch("Neg")),
        node("Abs", "chosen", "y"),
    ]
    return model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], {"zero": np.array(0, np.float32)})


def looping() -> onnx.ModelProto:
    """A Loop that doubles its state three times."""
    body = helper.make_graph(
        [node("Add", "state state", "doubled"), node("Identity", "going_on", "go_on")],
        "body",
        [
            value("turn", [], TensorProto.INT64),
            value("going_on", [], TensorProto.BOOL),
            value("state", ["n", 2]),
        ],
        [value("go_on", [], TensorProto.BOOL), value("doubled", ["n", 2])],
    )
    nodes = [node("Loop", "turns yes x", "eightfold", body=body), node("Neg", "eightfold", "y")]
    constants = {"turns": np.array(3, np.int64), "yes": np.array(True)}
    return model(nodes, [value("x", ["n", 2])], [value("y", ["n", 2])], constants)


def endless(batch: int | str = "n", turns: int = 2**62) -> onnx.ModelProto:
    """A Loop that takes as long as it is told to; x [n, 2] to the same, if the turns are even."""
    body = helper.make_graph(
        [node("Identity", "going_on", "go_on"), node("Neg", "state", "negative")],
        "body",
        [
            value("turn", [], TensorProto.INT64),
            value("going_on", [], TensorProto.BOOL),
            value("state", [batch, 2]),
        ],
        [value("go_on", [], TensorProto.BOOL), value("negative", [batch, 2])],
    )
    constants = {"turns": np.array(turns, np.int64), "yes": np.array(True)}
    nodes = [node("Loop", "turns yes x", "y", body=body)]
    return model(nodes, [value("x", [batch, 2])], [value("y", [batch, 2])], constants)


def hanging() -> onnx.ModelProto:
    """Gives what it gets, after as many turns of a Loop as the largest input says."""
    endless_loop = endless().graph
    (loop,) = endless_loop.node
    loop.input[0] = "turns"
    nodes = [
        node("ReduceMax", "x", "largest", keepdims=0),
        node("Cast", "largest", "turns", to=TensorProto.INT64),
        loop,
    ]
    return model(nodes, [value("x", ["n", 2])], [value("y", ["n", 2])], {"yes": np.array(True)})


def expanding() -> onnx.ModelProto:
    """Gives each item as many times as the largest input says."""
    nodes = [
        node("ReduceMax", "x", "largest", keepdims=0),
        node("Cast", "largest", "count", to=TensorProto.INT64),
        node("Unsqueeze", "count zero", "counts"),
        node("Concat", "one counts", "shape", axis=0),
        node("Expand", "x shape", "y"),
    ]
    constants = {"zero": np.array([0]), "one": np.array([1])}
    return model(nodes, [value("x", ["n", 1])], [value("y", ["n", "m"])], constants)


def texts() -> onnx.ModelProto:
    """String tensors in, between and out."""
    nodes = [node("StringConcat", "words suffix", "marked"), node("StringConcat", "marked suffix", "twice")]
    words, twice = (value(name, ["n"], TensorProto.STRING) for name in ("words", "twice"))
    return model(nodes, [words], [twice], {"suffix": np.array(["!"], dtype=object)})


def through(element: int) -> onnx.ModelProto:
    """A tensor of another type (`narrow`) between float32 ones, and as a declared output (`out`)."""
    nodes = [
        node("Relu", "x", "positive"),
        node("Cast", "positive", "narrow", to=element),
        node("Cast", "positive", "out", to=element),
        node("Cast", "narrow", "y", to=TensorProto.FLOAT),
    ]
    outputs = [value("y", ["n", 4]), value("out", ["n", 4], element)]
    return model(nodes, [value("x", ["n", 4])], outputs)


def counting() -> onnx.ModelProto:
    """An int64 and a bool tensor between float32 ones, and shapes computed while running."""
    nodes = [
        node("ArgMax", "x", "best", axis=1),
        node("Cast", "best", "y", to=TensorProto.FLOAT),
        node("Shape", "x", "shape"),
        node("Greater", "x zero", "mask"),
        node("NonZero", "mask", "places"),
        node("Cast", "places", "where", to=TensorProto.FLOAT),
    ]
    outputs = [value("y", ["n", 1]), value("where", [2, None])]
    return model(nodes, [value("x", ["n", 4])], outputs, {"zero": np.array(0, np.float32)})


def exposed_initializer() -> onnx.ModelProto:
    """Weights listed among the inputs, as files of before 2019 do."""
    inputs = [value("x", ["n", 4]), value("w", [4, 3]), value("b", [3])]
    nodes = [node("MatMul", "x w", "product"), node("Add", "product b", "y")]
    return model(nodes, inputs, [value("y", ["n", 3])], random_weights(w=(4, 3), b=(3,)))


def residual() -> onnx.ModelProto:
    """A residual block, then squeeze-and-excitation, then a classifier."""
    nodes = [
        node("Conv", "image w1", "stem", pads=[1, 1, 1, 1]),
        node("Conv", "stem w2", "block", pads=[1, 1, 1, 1]),
        node("Add", "stem block", "sum"),
        node("Conv", "image w3", "shortcut", strides=[2, 2]),
        node("Conv", "sum w4", "down", strides=[2, 2], pads=[1, 1, 1, 1]),
        node("Add", "down shortcut", "uneven"),
        node("GlobalAveragePool", "uneven", "squeezed"),
        node("Sigmoid", "squeezed", "gate"),
        node("Mul", "uneven gate", "excited"),
        node("Flatten", "squeezed", "flat"),
        node("Gemm", "flat w5 b5", "logits", transB=1),
    ]
    weights = random_weights(
        w1=(4, 3, 3, 3), w2=(4, 4, 3, 3), w3=(4, 3, 1, 1), w4=(4, 4, 3, 3), w5=(10, 4), b5=(10,)
    )
    outputs = [value("logits", ["n", 10]), value("excited", ["n", 4, 8, 8])]
    return model(nodes, [value("image", ["n", 3, 16, 16])], outputs, weights)


def convolutions() -> onnx.ModelProto:
    """Transposed, dilated, grouped convolutions, and padding that is told by rule."""
    nodes = [
        node("ConvTranspose", "image w1", "transposed", pads=[1, 1, 1, 1]),
        node("Conv", "transposed w2", "dilated", dilations=[2, 3]),
        node("Conv", "dilated w3", "grouped", group=2),
        node("Conv", "grouped w4", "same_upper", auto_pad="SAME_UPPER", strides=[2, 2]),
        node("MaxPool", "same_upper", "same_lower", auto_pad="SAME_LOWER", kernel_shape=[2, 2]),
        node("ConvTranspose", "same_lower w1", "upsampled", strides=[2, 2]),
    ]
    weights = random_weights(w1=(4, 4, 3, 3), w2=(4, 4, 3, 3), w3=(4, 2, 3, 3), w4=(4, 4, 3, 3))
    return model(
        nodes, [value("image", ["n", 4, 20, 20])], [value("upsampled", ["n", 4, None, None])], weights
    )


def free_size() -> onnx.ModelProto:
    """Takes pictures of any size, which must be even: it cuts them into two."""
    nodes = [
        node("Conv", "image w", "conv", pads=[1, 1, 1, 1]),
        node("Reshape", "conv halves", "halves_of_it"),
        node("ReduceMean", "halves_of_it", "y", keepdims=0),
    ]
    weights = random_weights(w=(3, 1, 3, 3)) | {"halves": np.array([2, -1], np.int64)}
    return model(nodes, [value("image", ["n", 1, "height", "width"])], [value("y", [])], weights)


def classifier(classes: int = 3, *, softmax: bool = False, gain: float = 1.0) -> onnx.ModelProto:
    """A classifier [n, 2] -> [n, classes] whose logits are sums of the inputs' multiples."""
    weights = {"w": gain * np.arange(2 * classes, dtype=np.float32).reshape(2, classes)}
    nodes = [node("MatMul", "x w", "scores"), *([node("Softmax", "scores", "p")] if softmax else [])]
    output = "p" if softmax else "scores"
    return model(nodes, [value("x", ["n", 2])], [value(output, ["n", classes])], weights)


def in_float16(origin: onnx.ModelProto) -> onnx.ModelProto:
    """The same model computing in float16, with a float16 input and outputs."""
    narrow = onnx.ModelProto()
    narrow.CopyFrom(origin)
    for tensor in narrow.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(
                numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float16), tensor.name)
            )
    for told in (*narrow.graph.input, *narrow.graph.output):
        told.type.tensor_type.elem_type = TensorProto.FLOAT16
    return narrow


def time_first() -> onnx.ModelProto:
    """Time and batch change places, as inside of recurrent networks: x [batch, time, 4]."""
    nodes = [
        node("Transpose", "x", "t", perm=[1, 0, 2]),
        node("ReduceMean", "t axis", "logits", keepdims=0),
    ]
    inputs, outputs = [value("x", ["batch", "time", 4])], [value("logits", ["batch", 4])]
    return model(nodes, inputs, outputs, {"axis": np.array([0])})


def folded() -> onnx.ModelProto:
    """Two heads are folded into the batch, as inside of attention, beside a shape and a scalar."""
    nodes = [
        node("Shape", "x", "shape"),
        node("ReduceSum", "shape", "count", keepdims=0),
        node("Reshape", "x fold", "heads"),
        node("Reshape", "heads unfold", "back"),
        node("Softmax", "back", "prob"),
    ]
    constants = {"fold": np.array([-1, 4]), "unfold": np.array([-1, 8])}
    return model(nodes, [value("x", ["batch", 2, 4])], [value("prob", ["batch", 8])], constants)


def statistics() -> onnx.ModelProto:
    """Values of the whole batch decide: a maximum, a mean, a condition, a scale, places that are found."""

    def branch(op_type: str) -> onnx.GraphProto:
        outputs = [value(f"in_{op_type}", None)]
        return helper.make_graph([node(op_type, "x", f"in_{op_type}")], op_type, [], outputs)

    nodes = [
        node("ReduceMax", "x", "largest", keepdims=0),
        node("Greater", "largest hundred", "exceeds"),
        node("Where", "exceeds zero x", "silenced"),
        node("If", "exceeds", "chosen", then_branch=branch("Neg"), else_branch=branch("Identity")),
        node("DynamicQuantizeLinear", "x", "bytes scale middle"),
        node("DequantizeLinear", "bytes scale middle", "coarse"),
        node("Greater", "x zero", "positive"),
        node("NonZero", "positive", "places"),
        node("Transpose", "places", "found"),
        node("Softmax", "x", "p"),
    ]
    constants = {"hundred": np.array(100, np.float32), "zero": np.array(0, np.float32)}
    return model(nodes, [value("x", ["n", 3])], [value("p", ["n", 3])], constants)


def fixed_batch(size: int | str) -> onnx.ModelProto:
    """A network of pictures [size, 3, 8, 8], of which each gives 5 classes; in between a shape, and heads."""
    nodes = [
        node("Conv", "image w", "conv"),
        node("Shape", "conv", "shape"),
        node("Transpose", "conv", "channels_first", perm=[1, 0, 2, 3]),
        node("GlobalAveragePool", "conv", "pooled"),
        node("Flatten", "pooled", "flat"),
        node("Softmax", "flat", "p"),
    ]
    inputs, outputs = [value("image", [size, 3, 8, 8])], [value("p", [size, 5])]
    return model(nodes, inputs, outputs, random_weights(w=(5, 3, 3, 3)))


FOREIGN: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "channels_last": channels_last,
    "two_inputs": two_inputs,
    "without_batch": without_batch,
    "branching": branching,
    "looping": looping,
    "texts": texts,
    "counting": counting,
    "exposed_initializer": exposed_initializer,
    "residual": residual,
    "convolutions": convolutions,
    "free_size": free_size,
    "time_first": time_first,
    "folded": folded,
    "statistics": statistics,
}
