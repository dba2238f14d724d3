"""Which axis holds channels, as far as a graph proves it."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from service.graph import Graph
from tests.service.onnx_models import channels_last, lenet, model, node, random_weights, residual, value


def axes_of(graph: onnx.ModelProto) -> dict[str, int]:
    return dict(Graph.parse(graph.SerializeToString()).channel_axes)


def test_convolutions_and_what_follows_them_have_channels_first() -> None:
    axes = axes_of(residual())

    assert {axes[name] for name in ("image", "stem", "sum", "squeezed", "gate", "excited")} == {-3}
    assert not {"flat", "logits"} & axes.keys()


def test_transpositions_move_the_axis_forwards_and_backwards() -> None:
    axes = axes_of(channels_last())

    assert (axes["image"], axes["nchw"], axes["conv"], axes["nhwc"], axes["relu"]) == (-1, -3, -3, -1, -1)
    assert "features" not in axes


def test_the_input_is_known_through_what_is_done_to_it_first() -> None:
    axes = axes_of(lenet())

    assert {axes[name] for name in ("image", "centered", "normalized", "pool2")} == {-3}


def test_sizes_decide_nothing() -> None:
    """3 channels behind, as pictures have them, of which the graph says that they are rows."""
    nodes = [node("Conv", "image w", "conv"), node("Relu", "conv", "y")]
    graph = model(nodes, [value("image", ["n", 2, 8, 3])], [value("y", None)], random_weights(w=(4, 2, 3, 3)))

    assert axes_of(graph) == {"image": -3, "conv": -3, "y": -3}


@pytest.mark.parametrize(
    ("between", "constants"),
    [
        ([node("Reshape", "conv shape", "cut")], {"shape": np.array([0, 4, 6, 6])}),
        (
            [node("Flatten", "conv", "flat"), node("Reshape", "flat shape", "cut")],
            {"shape": np.array([0, 4, 6, 6])},
        ),
    ],
    ids=["reshape", "flatten"],
)
def test_behind_a_reshape_it_is_unknown(
    between: list[onnx.NodeProto], constants: dict[str, np.ndarray[tuple[int], np.dtype[np.int64]]]
) -> None:
    nodes = [node("Conv", "image w", "conv"), *between, node("Relu", "cut", "y")]
    graph = model(
        nodes,
        [value("image", ["n", 2, 8, 8])],
        [value("y", ["n", 4, 6, 6])],
        random_weights(w=(4, 2, 3, 3)) | constants,
    )

    assert axes_of(graph) == {"image": -3, "conv": -3}


def test_operands_that_disagree_leave_it_unknown() -> None:
    nodes = [
        node("Conv", "image w", "conv", pads=[1, 1, 1, 1]),
        node("Transpose", "conv", "turned", perm=[0, 2, 3, 1]),
        node("Add", "conv turned", "y"),
    ]
    graph = model(
        nodes, [value("image", ["n", 4, 4, 4])], [value("y", ["n", 4, 4, 4])], random_weights(w=(4, 4, 3, 3))
    )

    assert axes_of(graph) == {"image": -3, "conv": -3, "turned": -1}


def test_axes_of_volumes_are_counted_from_the_end() -> None:
    nodes = [node("Conv", "image w", "conv"), node("Transpose", "conv", "y", perm=[0, 2, 3, 4, 1])]
    graph = model(
        nodes,
        [value("image", ["n", 2, 5, 5, 5])],
        [value("y", ["n", 3, 3, 3, 4])],
        random_weights(w=(4, 2, 3, 3, 3)),
    )

    assert axes_of(graph) == {"image": -4, "conv": -4, "y": -1}


def test_a_transposition_without_an_order_reverses_the_axes() -> None:
    nodes = [node("Conv", "image w", "conv"), node("Transpose", "conv", "y")]
    graph = model(
        nodes, [value("image", [1, 2, 8, 8])], [value("y", [6, 6, 4, 1])], random_weights(w=(4, 2, 3, 3))
    )

    assert axes_of(graph)["y"] == -2


def test_a_linear_layer_over_the_last_axis_keeps_channels_there() -> None:
    nodes = [
        node("Conv", "image w", "conv"),
        node("Transpose", "conv", "turned", perm=[0, 2, 3, 1]),
        node("MatMul", "turned m", "wider"),
        node("Gelu", "wider", "y"),
        node("MatMul", "conv k", "rows"),
    ]
    weights = random_weights(w=(4, 2, 3, 3), m=(4, 16), k=(6, 6))
    outputs = [value("y", ["n", 6, 6, 16]), value("rows", ["n", 4, 6, 6])]
    axes = axes_of(model(nodes, [value("image", ["n", 2, 8, 8])], outputs, weights))

    assert (axes["wider"], axes["y"], axes.get("rows")) == (-1, -1, None)
