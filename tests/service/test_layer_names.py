"""What layers can be asked for by: modules of either exporter, nodes, patterns, operators."""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import cache
from itertools import pairwise

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from onnx import TensorProto

from service.errors import LimitExceededError, UnknownLayerError
from service.graph import Graph
from service.layer_names import LayerNames
from service.suggestions import similar
from tests.service.onnx_models import counting, lenet, model, node, random_weights, value
from tests.service.torch_exports import SIDE, Exporter, export, outputs_of

BOTH = pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])


def names_of(model: onnx.ModelProto | bytes) -> LayerNames:
    return LayerNames(Graph.parse(model if isinstance(model, bytes) else model.SerializeToString()))


def refusal(names: LayerNames, asked: str) -> str:
    with pytest.raises(UnknownLayerError) as error:
        names.resolve([asked])
    return str(error.value)


@BOTH
@pytest.mark.parametrize(
    "module",
    ["stem", "layer1", "layer1.0", "layer1.1", "layer1.0.conv2", "layer1.1.shortcut", "layer2", "fc"],
)
def test_a_module_stands_for_what_it_gives_in_torch(exporter: Exporter, module: str) -> None:
    graph = Graph.parse(export(exporter))
    (layer,) = LayerNames(graph).resolve([module]).layers
    images = torch.rand((2, 3, SIDE, SIDE), generator=torch.Generator().manual_seed(1))
    session = ort.InferenceSession(graph.with_outputs([layer]), providers=["CPUExecutionProvider"])
    (found,) = session.run([layer], {"image": images.numpy()})

    np.testing.assert_allclose(found, outputs_of(module, images)[-1].numpy(), rtol=1e-4, atol=1e-5)


@BOTH
def test_every_layer_tells_its_module(exporter: Exporter) -> None:
    modules = {layer.module for layer in Graph.parse(export(exporter)).layers.values()}

    assert {"stem", "layer1.0.conv2", "layer1.1.shortcut.0", "extremes", "fc"} <= modules


@BOTH
def test_a_module_with_several_outputs_is_refused_with_their_names(exporter: Exporter) -> None:
    message = refusal(names := names_of(export(exporter)), "extremes")
    *_, first, _, second, end = message.split('"')

    assert message.startswith('the module "extremes" has 2 outputs: ')
    assert end == "; ask for these"
    assert len(names.resolve([first, second]).layers) == 2


def test_a_module_that_is_called_twice_is_refused_where_its_calls_are_apart() -> None:
    assert 'the module "layer1.0.relu" has 2 outputs: ' in refusal(
        names_of(export("dynamo")), "layer1.0.relu"
    )


def test_a_convolution_that_was_merged_is_refused_with_what_it_was_merged_into() -> None:
    assert refusal(names_of(export("dynamo")), "layer1.0.conv1") == (
        'no layer "layer1.0.conv1": the file has it merged into "layer1.0.bn1"; ask for that'
    )


def test_a_convolution_that_was_altered_is_refused_with_the_tensor() -> None:
    names = names_of(export("torchscript"))
    tensor = "/layer1/layer1.0/conv1/Conv_output_0"

    assert refusal(names, "layer1.0.conv1") == (
        'the exporter gave "layer1.0.conv1" other weights, as where it merges a BatchNormalization into it;'
        f' what the file computes with them is "{tensor}"'
    )
    assert names.resolve([tensor]).layers == (tensor,)
    assert tensor not in names.paths


@BOTH
def test_patterns_match_modules_and_names(exporter: Exporter) -> None:
    names = names_of(export(exporter))
    graph = Graph.parse(export(exporter))
    inside = [n for n, layer in graph.layers.items() if layer.module.startswith("layer1")]

    assert list(names.resolve(["layer1*"]).layers) == inside
    assert names.resolve(["layer?"]).layers == names.resolve(["layer1", "layer2"]).layers
    assert set(names.resolve(["*relu*"]).layers) == set(names.resolve(["op:relu"]).layers)
    assert names.resolve(["LAYER1.*", "layer1"][1:]).meant == {"layer1": names.resolve(["layer1"]).layers}
    assert refusal(names, "LAYER1*").startswith('no layer "LAYER1*"; did you mean "layer1", "layer1.')


def test_operators_are_found_whatever_their_case() -> None:
    names = names_of(lenet())

    assert names.resolve(["op:Conv"]).layers == names.resolve(["op:conv"]).layers == ("conv1", "conv2")
    assert refusal(names, "op:conv2d").startswith(
        'no operator "conv2d"; the model has "Conv", "Div", "Flatten", '
    )


def test_a_table_of_layers_tells_the_modules() -> None:
    names = names_of(lenet())

    assert names.resolve(["net.relu1", "relu1", "net.conv?"]).layers == ("relu1", "conv1", "conv2")


def keras(scope: str = "functional") -> onnx.ModelProto:
    """A network as TensorFlow's exporter names it: scopes with slashes, and a port at each tensor."""
    nodes = [
        node("Transpose", "image", "image_nchw", name="Transpose__1", perm=[0, 3, 1, 2]),
        node("Conv", "image_nchw w", "conv:0", name=f"{scope}/conv2d/Conv2D"),
        node("Relu", "conv:0", f"{scope}/conv2d/Relu:0", name=f"{scope}/conv2d/Relu"),
        node("GlobalMaxPool", f"{scope}/conv2d/Relu:0", "pool:0", name=f"{scope}/pool/Max"),
        node("Flatten", "pool:0", "y", name=f"{scope}/flat/Reshape"),
    ]
    return model(
        nodes, [value("image", ["n", 8, 8, 3])], [value("y", ["n", 4])], random_weights(w=(4, 3, 3, 3))
    )


@pytest.mark.parametrize("scope", ["functional", "StatefulPartitionedCall/functional"])
def test_keras_layers_are_found_with_and_without_what_is_around_all(scope: str) -> None:
    names = names_of(keras(scope))
    relu = f"{scope}/conv2d/Relu:0"

    for asked in ("conv2d", f"{scope}/conv2d", f"{scope}/conv2d/Relu", relu):
        assert names.resolve([asked]).layers == (relu,)
    assert names.resolve([scope, "pool"]).layers == ("y", "pool:0")


def test_a_tensor_wins_over_a_module_and_that_over_a_node_and_a_pattern() -> None:
    nodes = [
        node("Relu", "x", "a", name="/b/Relu"),
        node("Neg", "a", "c", name="/a/Neg"),
        node("Abs", "c", "d*", name="b"),
        node("Abs", "d*", "y", name="e"),
    ]
    names = names_of(model(nodes, [value("x", ["n", 2])], [value("y", ["n", 2])]))

    assert names.resolve(["a"]).layers == ("a",)
    assert names.resolve(["b"]).layers == ("a",)
    assert names.resolve(["e"]).layers == ("y",)
    assert names.resolve(["d*"]).layers == ("d*",)


def test_names_that_repeat_each_other_count_once_in_the_order_asked() -> None:
    resolution = names_of(lenet()).resolve(["relu1", "op:conv", "conv*", "net.relu1"])

    assert resolution.layers == ("relu1", "conv1", "conv2")
    assert resolution.meant == {
        "op:conv": ("conv1", "conv2"),
        "conv*": ("conv1", "conv2"),
        "net.relu1": ("relu1",),
    }


def test_what_depends_on_sizes_alone_is_auxiliary() -> None:
    nodes = [
        node("Shape", "x", "shape"),
        node("Gather", "shape zero", "count"),
        node("Cast", "count", "as_float", to=TensorProto.FLOAT),
        node("ConstantOfShape", "shape", "zeros"),
        node("Size", "x", "returned"),
        node("ArgMax", "x", "best", axis=1),
        node("Add", "x zeros", "sum"),
        node("Mul", "sum as_float", "y"),
    ]
    outputs = [value("y", ["n", 2]), value("returned", [], TensorProto.INT64)]
    names = names_of(model(nodes, [value("x", ["n", 2])], outputs, {"zero": np.array(0)}))

    assert names.all == ("returned", "best", "sum", "y")
    assert names.resolve(["count", "*"]).layers == ("count", "returned", "best", "sum", "y")
    assert names.resolve(["*e*"]).layers == ("returned", "best")  # a pattern leaves them out, too
    assert names.resolve(["sh*"]).layers == ("shape",)  # unless it matches nothing else
    assert "mask" in names_of(counting()).all


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ("conv", 'no layer "conv"; did you mean "conv1", "conv2", "net.conv1" (or one of 1 more)?'),
        ("Probabilities", 'no layer "Probabilities"; did you mean "probabilities", "net.probabilities"?'),
        ("*onv9*", 'no layer "*onv9*"; did you mean "conv2", "conv1"'),
        ("relu11", 'no layer "relu11"; did you mean "relu1", '),
        ("[", 'no layer "["; the model has "centered", "normalized", "conv1", '),
    ],
)
def test_names_that_contain_it_come_first_then_similar_ones(asked: str, message: str) -> None:
    assert refusal(names_of(lenet()), asked).startswith(message)


@cache
def network_of_5000_layers() -> LayerNames:
    names = ["x", *(f"{'a' * 180}layer{index}" for index in range(5000))]
    nodes = [node("Relu", before, after) for before, after in pairwise(names)]
    return names_of(model(nodes, [value("x", ["n"])], [value(names[-1], ["n"])]))


@pytest.mark.parametrize(
    "asked", ["layer_33", "a" * 200, "*" + "a*" * 90 + "b", "*a?" * 66, "[" * 200, "layer" * 40], ids=range(6)
)
def test_a_hostile_name_is_refused_quickly_by_a_large_network(asked: str) -> None:
    large = network_of_5000_layers()
    begin = time.perf_counter()

    assert refusal(large, asked).startswith("no layer")
    assert time.perf_counter() - begin < 0.5


def test_a_name_is_compared_with_the_names_that_are_most_like_it() -> None:
    assert similar("encodr.block7", [f"encoder.block{index}" for index in range(5000)])[0] == "encoder.block7"


def test_patterns_are_limited() -> None:
    names = names_of(lenet())

    assert len(names.resolve([f"conv{'*' * count}" for count in range(1, 17)]).layers) == 2
    with pytest.raises(LimitExceededError, match="more than 16 patterns; ask for fewer"):
        names.resolve([f"conv{'*' * count}" for count in range(1, 18)])


@pytest.mark.parametrize(
    "scopes",
    ["[", "['', 'a'", "{'': 1}", "['', 1, 'x']", "(" * 9000, "[" * 20_000, "__import__('os')", ""],
    ids=range(8),
)
def test_scopes_that_cannot_be_read_are_none(scopes: str) -> None:
    graph = lenet()
    del graph.metadata_props[:]
    for each in graph.graph.node:
        each.metadata_props.add(key="pkg.torch.onnx.name_scopes", value=scopes)

    assert {layer.module for layer in Graph.parse(graph.SerializeToString()).layers.values()} == {""}


def test_what_subgraphs_use_is_used_outside_of_its_module() -> None:
    def branch(op_type: str) -> onnx.GraphProto:
        inner = [node(op_type, "hidden", f"inner_{op_type}")]
        return onnx.helper.make_graph(inner, op_type, [], [value(f"inner_{op_type}", ["n"])])

    nodes: Sequence[onnx.NodeProto] = [
        node("Relu", "x", "hidden", name="/block/Relu"),
        node("Neg", "hidden", "negative", name="/block/Neg"),
        node("ReduceMax", "negative", "largest", name="/Max", keepdims=0),
        node("Cast", "largest", "positive", name="/Cast", to=TensorProto.BOOL),
        node("If", "positive", "y", name="/If", then_branch=branch("Abs"), else_branch=branch("Exp")),
    ]
    names = names_of(model(nodes, [value("x", ["n"])], [value("y", ["n"])]))

    assert 'the module "block" has 2 outputs: "hidden", "negative"' in refusal(names, "block")
