"""Types as files tell them: only where they leave nothing open, and then what inference would say."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import onnx
import pytest
from onnx import TensorProto, helper

from service.onnx_file import infer_types
from service.tensors import Shape, shape_of
from service.told_types import told_types
from tests.service.onnx_models import Dims, channels_last, lenet, model, node, two_inputs, value

Shapes = Mapping[str, Sequence[int]]


def chain(
    middle: Dims | None, *, first: Dims = ("n", 4), element: int = TensorProto.FLOAT
) -> onnx.ModelProto:
    """x to y by way of m, of which the file tells this shape."""
    told = [value("m", middle, element)]
    return model(
        [node("Relu", "x", "m"), node("Neg", "m", "y")],
        [value("x", first)],
        [value("y", first)],
        value_info=told,
    )


def complete(build: Callable[[], onnx.ModelProto]) -> onnx.ModelProto:
    return onnx.shape_inference.infer_shapes(build(), data_prop=True)


def shapes(types: Mapping[str, onnx.TypeProto] | None) -> dict[str, Shape | None]:
    assert types is not None
    return {name: shape_of(told) for name, told in types.items()}


@pytest.mark.parametrize("build", [lenet, channels_last, two_inputs])
@pytest.mark.parametrize("batch", [None, 5])
def test_a_complete_file_tells_what_inference_finds(
    build: Callable[[], onnx.ModelProto], batch: int | None
) -> None:
    bare = build()
    sizes = {
        spec.name: [size if size is not None else batch or 0 for size in shape_of(spec.type) or ()]
        for spec in bare.graph.input
    }
    given = sizes if batch else {}
    told = told_types(complete(build).graph, given)
    assert told_types(bare.graph, given) is None
    assert shapes(told) == shapes(infer_types(bare, given))


@pytest.mark.parametrize(
    ("given", "expected"),
    [({}, (None, 4)), ({"x": [3, 4]}, (3, 4)), ({"z": [3, 4]}, (None, 4))],
    ids=["open", "given", "another input is given"],
)
def test_symbols_stand_for_the_sizes_of_the_inputs(given: Shapes, expected: Shape) -> None:
    assert shapes(told_types(chain(["n", 4]).graph, given)) == dict.fromkeys("xmy", expected)


def test_the_file_itself_is_left_as_it_is() -> None:
    graph = chain(["n", 4]).graph
    before = graph.SerializeToString()
    told_types(graph, {"x": [3, 4]})
    assert graph.SerializeToString() == before


@pytest.mark.parametrize(
    "incomplete",
    [
        chain(["rows", 4]),  # a symbol that no input explains
        chain([None, 4]),
        chain(None),
        chain(["n", 4], element=TensorProto.UNDEFINED),
        model([node("Relu", "x", "m"), node("Neg", "m", "y")], [value("x", ["n"])], [value("y", ["n"])]),
    ],
    ids=["unknown symbol", "open axis", "no shape", "no type", "nothing told"],
)
def test_files_that_leave_something_open_tell_nothing(incomplete: onnx.ModelProto) -> None:
    assert told_types(incomplete.graph, {}) is None
    assert "m" in infer_types(incomplete)


def test_sequences_are_left_to_inference() -> None:
    nodes = [node("SequenceConstruct", "x", "s"), node("ConcatFromSequence", "s", "y", axis=0)]
    sequence = helper.make_tensor_sequence_value_info("s", TensorProto.FLOAT, ["n"])
    graph = model(nodes, [value("x", ["n"])], [value("y", ["n"])], value_info=[sequence]).graph
    assert told_types(graph, {}) is None


def test_a_symbol_that_would_stand_for_two_sizes_is_left_to_inference() -> None:
    pair = [value(name, ["n"]) for name in "ab"]
    graph = model([node("Concat", "a b", "y", axis=0)], pair, [value("y", ["n"])]).graph
    assert told_types(graph, {"a": [2], "b": [3]}) is None
    assert shapes(told_types(graph, {"a": [2], "b": [2]})) == {"a": (2,), "b": (2,), "y": (2,)}
