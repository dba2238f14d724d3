"""Bound runs give what plain runs give; the CPU's memory stands in for that of a GPU."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from service.binding import BoundSession, runner_of
from service.device import RUNTIME_ERRORS, Execution, create_session, value_of
from service.tensors import Array
from tests.service.onnx_models import endless, lenet, model, node, value


def session_of(proto: onnx.ModelProto) -> ort.InferenceSession:
    return create_session(proto.SerializeToString(), Execution())


def identity(element: int) -> onnx.ModelProto:
    return model([node("Identity", "x", "y")], [value("x", None, element)], [value("y", None, element)])


def assert_runs_agree(
    session: ort.InferenceSession, feeds: Mapping[str, Array | ort.OrtValue], *outputs: str
) -> None:
    bound = BoundSession(session, "cpu").run(outputs, feeds)
    plain = session.run(outputs, feeds)
    assert [(array.dtype, array.shape) for array in bound] == [(a.dtype, a.shape) for a in plain]
    for array, expected in zip(bound, plain, strict=True):
        np.testing.assert_array_equal(array, expected)


ELEMENTS = ["FLOAT", "DOUBLE", "FLOAT16", "BOOL", "INT8", "INT16", "INT32", "INT64", "UINT8", "UINT16"]
ELEMENTS += ["UINT32", "UINT64", "STRING"]


@pytest.mark.parametrize("element", ELEMENTS)
@pytest.mark.parametrize("shape", [(2, 3), (), (0, 3)], ids=["matrix", "scalar", "empty"])
def test_elements_of_every_type(element: str, shape: tuple[int, ...]) -> None:
    element_type = TensorProto.DataType.Value(element)
    array = np.ones(shape).astype(helper.tensor_dtype_to_np_dtype(element_type))
    if element == "STRING":
        array = np.full(shape, "text", object)
    assert_runs_agree(session_of(identity(element_type)), {"x": array}, "y")


def test_elements_of_a_type_that_numpy_lacks() -> None:
    nodes = [node("Cast", "x", "y", to=TensorProto.FLOAT)]
    widening = model(nodes, [value("x", ["n"], TensorProto.BFLOAT16)], [value("y", ["n"])])
    feeds = {"x": value_of(np.array([1.5, -2], np.float32), TensorProto.BFLOAT16)}
    assert_runs_agree(session_of(widening), feeds, "y")


@pytest.mark.parametrize("names", [["probabilities"], ["relu1", "probabilities", "conv2"]])
@pytest.mark.parametrize("batch", [1, 7, 0])
def test_layers_and_batches_of_any_size(names: list[str], batch: int) -> None:
    tapped = lenet()
    tapped.graph.output.extend(onnx.ValueInfoProto(name=name) for name in ("relu1", "conv2"))
    images = np.random.default_rng(0).random((batch, 1, 32, 32), dtype=np.float32)
    assert_runs_agree(session_of(tapped), {"image": images}, *names)


@pytest.mark.parametrize("array", [np.eye(3), np.zeros((2, 2))], ids=["found", "empty"])
def test_outputs_whose_size_depends_on_values(array: Array) -> None:
    found = [value("y", [2, None], TensorProto.INT64)]
    session = session_of(model([node("NonZero", "x", "y")], [value("x", ["n", "m"])], found))
    assert_runs_agree(session, {"x": array.astype(np.float32)}, "y")


@pytest.mark.parametrize(
    "array", [np.ones((4, 6), np.float32)[::2, ::3], np.arange(6, dtype=np.float32).reshape(2, 3).T]
)
def test_arrays_that_are_not_contiguous(array: Array) -> None:
    assert_runs_agree(session_of(identity(TensorProto.FLOAT)), {"x": array}, "y")


def test_texts_among_other_outputs() -> None:
    nodes = [node("Cast", "x", "text", to=TensorProto.STRING), node("Neg", "x", "negative")]
    outputs = [value("text", ["n"], TensorProto.STRING), value("negative", ["n"])]
    session = session_of(model(nodes, [value("x", ["n"])], outputs))
    feeds = {"x": np.array([1, 2], np.float32)}
    assert_runs_agree(session, feeds, "negative")
    assert_runs_agree(session, feeds, "text", "negative")


def test_answers_outlive_the_session() -> None:
    session = session_of(identity(TensorProto.FLOAT))
    (array,) = BoundSession(session, "cpu").run(["y"], {"x": np.array([3], np.float32)})
    del session
    np.testing.assert_array_equal(array, [3])


def test_a_run_that_fails_raises_what_a_plain_one_may_raise() -> None:
    reshape = model(
        [node("Reshape", "x shape", "y")],
        [value("x", ["n"]), value("shape", [2], TensorProto.INT64)],
        [value("y", [None, None])],
    )
    feeds = {"x": np.zeros(3, np.float32), "shape": np.array([2, 2], np.int64)}
    with pytest.raises(RUNTIME_ERRORS, match="reshape"):
        BoundSession(session_of(reshape), "cpu").run(["y"], feeds)


def test_a_run_can_be_ended() -> None:
    options = ort.RunOptions()
    options.terminate = True
    with pytest.raises(RUNTIME_ERRORS, match="terminate"):
        BoundSession(session_of(endless()), "cpu").run(["y"], {"x": np.ones((1, 2), np.float32)}, options)


def test_a_session_on_the_cpu_is_run_as_it_is() -> None:
    session = session_of(lenet())
    assert runner_of(session) is session
