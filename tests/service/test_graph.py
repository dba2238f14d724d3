from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from service.errors import ModelLoadError
from service.graph import Graph, Layer, ReceptiveField, TensorSpec
from tests.service.onnx_models import (
    branching,
    convolutions,
    counting,
    exposed_initializer,
    free_size,
    lenet,
    looping,
    model,
    node,
    random_weights,
    residual,
    texts,
    through,
    value,
)

FLOAT = np.dtype(np.float32)
Builder = Callable[[], onnx.ModelProto]


def parsed(proto: onnx.ModelProto) -> Graph:
    return Graph.parse(proto.SerializeToString())


def parameters(graph: Graph) -> dict[str, int]:
    return {name: layer.parameters for name, layer in graph.layers.items() if layer.parameters}


def test_lenet_as_a_whole() -> None:
    graph = parsed(lenet())
    assert graph.inputs == (TensorSpec("image", FLOAT, (None, 1, 32, 32)),)
    assert graph.outputs == (TensorSpec("probabilities", FLOAT, (None, 10)),)
    assert (graph.opset, graph.producer, graph.parameters) == (21, "test 1", 63_802)
    assert json.loads(graph.metadata["featurelens.labels"])[9] == "9"


def test_lenet_s_layers_in_graph_order() -> None:
    layers = parsed(lenet()).layers
    assert {name: (layer.op_type, (layer.spec.shape or ())[1:]) for name, layer in layers.items()} == {
        "centered": ("Sub", (1, 32, 32)),
        "normalized": ("Div", (1, 32, 32)),
        "conv1": ("Conv", (6, 28, 28)),
        "relu1": ("Relu", (6, 28, 28)),
        "pool1": ("MaxPool", (6, 14, 14)),
        "conv2": ("Conv", (16, 10, 10)),
        "relu2": ("Relu", (16, 10, 10)),
        "pool2": ("MaxPool", (16, 5, 5)),
        "flat": ("Flatten", (400,)),
        "fc1": ("Gemm", (120,)),
        "relu3": ("Relu", (120,)),
        "fc2": ("Gemm", (100,)),
        "relu4": ("Relu", (100,)),
        "logits": ("Gemm", (10,)),
        "probabilities": ("Softmax", (10,)),
    }
    assert [*layers][:3] == ["centered", "normalized", "conv1"]


def test_layers_that_the_file_does_not_list_are_auxiliary() -> None:
    layers = parsed(lenet()).layers
    assert [name for name, layer in layers.items() if layer.auxiliary] == ["centered", "normalized", "flat"]
    untold = lenet()
    del untold.metadata_props[:]
    assert not any(layer.auxiliary for layer in parsed(untold).layers.values())


def test_a_layer_in_full() -> None:
    layers = parsed(lenet()).layers
    conv1 = Layer(
        name="conv1",
        op_type="Conv",
        module="net.conv1",
        auxiliary=False,
        inputs=("normalized",),
        spec=TensorSpec("conv1", FLOAT, (None, 6, 28, 28)),
        kernel_shape=(5, 5),
        strides=(1, 1),
        pads=(0, 0, 0, 0),
        dilations=(1, 1),
        group=1,
        parameters=156,
        receptive_field=ReceptiveField((5, 5), (1, 1), (0, 0)),
        weights=("w1", "b1"),
    )
    assert layers["conv1"] == conv1
    # The kernel's size is not an attribute here: it is that of the weights.
    assert layers["conv2"] == replace(
        conv1,
        name="conv2",
        module="net.conv2",
        inputs=("pool1",),
        spec=TensorSpec("conv2", FLOAT, (None, 16, 10, 10)),
        parameters=2416,
        receptive_field=ReceptiveField((14, 14), (2, 2), (0, 0)),
        weights=("w2", "b2"),
    )
    assert (layers["pool2"].kernel_shape, layers["pool2"].strides, layers["pool2"].group) == (
        (2, 2),
        (2, 2),
        0,
    )


def test_windows_with_defaults_filled_in_and_rules_resolved() -> None:
    layers = parsed(convolutions()).layers
    assert {
        name: (layer.kernel_shape, layer.strides, layer.pads, layer.dilations, layer.group)
        for name, layer in layers.items()
    } == {
        "transposed": ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
        "dilated": ((3, 3), (1, 1), (0, 0, 0, 0), (2, 3), 1),
        "grouped": ((3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 2),
        "same_upper": ((3, 3), (2, 2), (0, 0, 1, 1), (1, 1), 1),
        "same_lower": ((2, 2), (1, 1), (1, 1, 0, 0), (1, 1), 0),
        "upsampled": ((3, 3), (2, 2), (0, 0, 0, 0), (1, 1), 1),
    }


def test_padding_by_rule_is_unknown_where_the_size_is() -> None:
    nodes = [node("Conv", "image w", "y", auto_pad="SAME_UPPER")]
    graph = parsed(
        model(nodes, [value("image", ["n", 1, "h", "w"])], [value("y", None)], random_weights(w=(1, 1, 3, 3)))
    )
    assert (graph.layers["y"].pads, graph.layers["y"].receptive_field) == ((), None)


def test_weights_come_in_the_operator_s_order() -> None:
    initializers = {t.name: onnx.numpy_helper.to_array(t) for t in lenet().graph.initializer}
    graph = parsed(lenet())
    assert (graph.layers["fc1"].weights, graph.layers["relu1"].weights) == (("w3", "b3"), ())
    weights = graph.weights()
    assert sum(values.nbytes for values in weights.values()) == graph.weight_bytes == 4 * graph.parameters
    for name, values in weights.items():
        np.testing.assert_array_equal(values, initializers[name])


def test_weights_that_are_constant_nodes_or_take_another_form_first_are_counted_once() -> None:
    kernel = onnx.numpy_helper.from_array(np.ones((3, 4), np.float32))
    nodes = [
        node("Constant", "", "kernel", value=kernel),
        node("Transpose", "kernel", "transposed"),
        node("MatMul", "x transposed", "product"),
        node("Add", "product bias", "sum"),
        node("MatMul", "sum kernel", "back"),
        node("Mul", "back half", "y"),
    ]
    constants = {"bias": np.zeros(3, np.float32), "half": np.array(0.5, np.float32)}
    graph = parsed(model(nodes, [value("x", ["n", 4])], [value("y", ["n", 4])], constants))
    assert parameters(graph) == {"product": 12, "sum": 3, "back": 12}
    assert graph.parameters == 15
    assert graph.layers["product"].weights == graph.layers["back"].weights == ("kernel",)
    assert graph.weight_bytes == 4 * (12 + 3 + 12)
    assert list(graph.layers) == ["product", "sum", "back", "y"]


def test_measured_statistics_are_not_learned() -> None:
    nodes = [node("BatchNormalization", "image scale bias mean variance", "y")]
    image, y = (value(name, ["n", 5, 4, 4]) for name in ("image", "y"))
    graph = parsed(
        model(nodes, [image], [y], random_weights(scale=(5,), bias=(5,), mean=(5,), variance=(5,)))
    )
    assert graph.layers["y"].weights == ("scale", "bias")
    assert graph.parameters == 10


def test_bfloat16_weights_come_as_float32() -> None:
    kernel = helper.make_tensor("w", TensorProto.BFLOAT16, [2, 2], [1.0, 2.0, 3.0, 4.0])
    nodes = [node("Constant", "", "w", value=kernel), node("MatMul", "x w", "y")]
    x, y = (value(name, ["n", 2], TensorProto.BFLOAT16) for name in ("x", "y"))
    narrow = model(
        [node("Cast", "f", "x", to=TensorProto.BFLOAT16), *nodes], [value("f", ["n", 2])], [y], value_info=[x]
    )
    graph = parsed(narrow)
    (weights,) = graph.weights().values()
    assert graph.weight_bytes == weights.nbytes
    assert weights.dtype == FLOAT
    assert weights.tolist() == [[1.0, 2.0], [3.0, 4.0]]


def test_initializers_among_the_inputs_are_weights_not_inputs() -> None:
    graph = parsed(exposed_initializer())
    assert [spec.name for spec in graph.inputs] == ["x"]
    assert parameters(graph) == {"product": 12, "y": 3}


@pytest.mark.parametrize(
    ("build", "layers"), [(branching, ["sum", "positive", "chosen", "y"]), (looping, ["eightfold", "y"])]
)
def test_what_is_inside_of_control_flow_is_no_layer(build: Builder, layers: list[str]) -> None:
    assert list(parsed(build()).layers) == layers


def test_sequences_are_neither_layers_nor_outputs() -> None:
    nodes = [node("SplitToSequence", "x", "parts", axis=1), node("ConcatFromSequence", "parts", "y", axis=1)]
    parts = helper.make_value_info(
        "parts", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
    )
    graph = parsed(model(nodes, [value("x", [2, 3])], [value("y", [2, 3]), parts]))
    assert list(graph.layers) == ["y"]
    assert [spec.name for spec in graph.outputs] == ["y"]


@pytest.mark.parametrize(
    ("proto", "name", "dtype"),
    [
        (texts(), "marked", np.dtype(object)),
        (counting(), "best", np.dtype(np.int64)),
        (counting(), "mask", np.dtype(bool)),
        (through(TensorProto.FLOAT16), "narrow", np.dtype(np.float16)),
        (through(TensorProto.BFLOAT16), "narrow", FLOAT),
        (through(TensorProto.FLOAT8E4M3FN), "narrow", FLOAT),
        (through(TensorProto.INT4), "narrow", np.dtype(np.int8)),
        (through(TensorProto.UINT4), "narrow", np.dtype(np.uint8)),
    ],
)
def test_types_as_they_are_handed_over(proto: onnx.ModelProto, name: str, dtype: np.dtype[Any]) -> None:
    assert parsed(proto).layers[name].spec.dtype == dtype


def test_operators_of_unknown_domains_have_layers_of_unknown_type() -> None:
    nodes = [helper.make_node("Conv", ["x"], ["mystery"], domain="elsewhere"), node("Relu", "mystery", "y")]
    graph = parsed(model(nodes, [value("x", ["n", 1, 4, 4])], [value("y", None)]))
    assert graph.layers["mystery"].op_type == "elsewhere::Conv"
    assert graph.layers["mystery"].spec == TensorSpec("mystery", None, None)
    assert graph.layers["y"].receptive_field is None


def test_adding_outputs_leaves_the_graph_and_the_model_as_they_are() -> None:
    graph = parsed(lenet())
    with_more = onnx.load_model_from_string(graph.with_outputs(["conv1", "probabilities", "fc1"]))
    assert [output.name for output in with_more.graph.output] == ["probabilities", "conv1", "fc1"]
    del with_more.graph.output[1:]
    assert with_more == lenet()
    assert onnx.load_model_from_string(graph.with_outputs([])) == lenet()


def test_shapes_for_inputs_of_a_size() -> None:
    shapes = parsed(free_size()).shapes({"image": (2, 1, 6, 8)})
    assert (shapes["conv"], shapes["halves_of_it"], shapes["y"]) == ((2, 3, 6, 8), (2, 144), ())


def test_embeddings_and_tokens_behind_weights_are_learned_and_constants_in_front_are_not() -> None:
    nodes = [
        node("Sub", "image mean", "centered"),
        node("Conv", "centered w", "patches", strides=[4, 4]),
        node("Reshape", "patches rows", "tokens"),
        node("Shape", "tokens", "shape"),
        node("Expand", "token shape", "expanded"),
        node("Concat", "expanded tokens", "joined", axis=2),
        node("Add", "joined positions", "y"),
    ]
    weights = random_weights(w=(8, 3, 4, 4), token=(1, 8, 1), positions=(1, 8, 5), mean=(1, 3, 1, 1))
    weights["rows"] = np.array([-1, 8, 4], np.int64)
    graph = parsed(model(nodes, [value("image", ["n", 3, 8, 8])], [value("y", None)], weights))
    assert parameters(graph) == {"patches": 384, "expanded": 8, "y": 40}


def test_residual_parameters() -> None:
    assert parsed(residual()).parameters == 108 + 144 + 12 + 144 + 40 + 10


def external(proto: onnx.ModelProto, tmp_path: Path) -> bytes:
    onnx.save(proto, tmp_path / "model.onnx", save_as_external_data=True, size_threshold=0)
    return (tmp_path / "model.onnx").read_bytes()


def external_in_branch() -> bytes:
    proto = branching()
    tensor = TensorProto(name="hidden", data_location=TensorProto.EXTERNAL, data_type=1, dims=[1])
    proto.graph.node[2].attribute[0].g.initializer.append(tensor)
    return proto.SerializeToString()


def test_weights_in_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match='the weight "w1" is in another file'):
        Graph.parse(external(lenet(), tmp_path))
    with pytest.raises(ModelLoadError, match='the weight "hidden" is in another file'):
        Graph.parse(external_in_branch())


SEQUENCE = helper.make_value_info(
    "s", helper.make_sequence_type_proto(helper.make_tensor_type_proto(1, None))
)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "the file is empty; expected an ONNX model"),
        (b"\xffnot a model", "the file is not an ONNX model, or only a part of one"),
        (lenet().SerializeToString()[:-1000], "the file is not an ONNX model, or only a part of one"),
        (onnx.ModelProto(ir_version=10).SerializeToString(), "the file holds no ONNX graph"),
        (
            model([node("SequenceLength", "s", "y")], [SEQUENCE], [value("y", [], 7)]).SerializeToString(),
            'the input "s" is of type sequence, which can\'t be fed',
        ),
        (
            model([node("SequenceConstruct", "x", "s")], [value("x", [1])], [SEQUENCE]).SerializeToString(),
            'none of the model\'s outputs is a tensor: "s" is of type sequence',
        ),
    ],
    ids=["empty", "garbage", "truncated", "no graph", "sequence input", "sequence output"],
)
def test_bad_files_are_refused_with_the_reason(data: bytes, reason: str) -> None:
    with pytest.raises(ModelLoadError) as error:
        Graph.parse(data)
    assert str(error.value) == reason


@pytest.mark.parametrize(
    "nodes",
    [
        [node("Conv", "x", "y")],
        [node("MaxPool", "x", "y", kernel_shape=3.0)],
        [node("Transpose", "x", "y", perm=[7])],
    ],
    ids=["no kernel", "kernel of a wrong type", "axis out of range"],
)
def test_what_a_node_does_not_tell_is_unknown(nodes: list[onnx.NodeProto]) -> None:
    layer = parsed(model(nodes, [value("x", ["n", 1, 4, 4])], [value("y", None)])).layers["y"]
    assert (layer.kernel_shape, layer.weights, layer.receptive_field) == ((), (), None)


@pytest.mark.parametrize("table", ["{", "7", '["conv1"]', '[{"module": "conv1"}]'])
def test_a_layer_table_that_can_not_be_read_is_left_aside(table: str) -> None:
    metadata = {"featurelens.layers": table}
    graph = parsed(model([node("Neg", "x", "y")], [value("x", [1])], [value("y", [1])], metadata=metadata))
    assert [(layer.name, layer.module, layer.auxiliary) for layer in graph.layers.values()] == [
        ("y", "", False)
    ]


def test_constants_that_a_run_can_override_are_optional_inputs() -> None:
    proto = exposed_initializer()
    assert [spec.name for spec in parsed(proto).optional_inputs] == ["w", "b"]
    proto.ir_version = 3  # where every initializer had to be an input
    assert parsed(proto).optional_inputs == ()


def test_sizes_of_zero_are_sizes() -> None:
    graph = parsed(model([node("Neg", "x", "y")], [value("x", [0, "n", -1])], [value("y", None)]))
    assert graph.inputs[0].shape == (0, None, None)
