"""Tensors of types that numpy lacks: fed and handed over as wider ones."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import TensorProto

from service.device import Execution
from service.errors import InvalidRequestError
from service.graph import Array
from service.model import Model
from tests.service.onnx_models import model, node, value

NARROW = {
    "BFLOAT16": [-1.5, 0.0, 3.0, 384.0, np.inf],
    "FLOAT8E4M3FN": [-1.5, 0.0, 3.0, 384.0, 0.0625],
    "FLOAT8E4M3FNUZ": [-1.5, 0.0, 3.0, 192.0, 0.0625],
    "FLOAT8E5M2": [-1.5, 0.0, 3.0, 384.0, 0.0625],
    "FLOAT8E5M2FNUZ": [-1.5, 0.0, 3.0, 384.0, 0.0625],
    "INT4": [-8, 0, 3, 7, -1],
    "UINT4": [15, 0, 3, 7, 1],
    "INT2": [-2, 0, 1, -1, 1],
    "UINT2": [3, 0, 1, 2, 3],
}


def through(name: str) -> Model:
    """Load a model of x, of a type that numpy lacks, to the same as float32 and to the same as it came."""
    element = TensorProto.DataType.Value(name)
    nodes = [node("Cast", "x", "y", to=TensorProto.FLOAT), node("Cast", "y", "same", to=element)]
    outputs = [value("y", None), value("same", None, element)]
    proto = model(nodes, [value("x", None, element)], outputs, opset=25)
    proto.ir_version = 13
    return Model(proto.SerializeToString(), Execution())


@pytest.mark.parametrize("name", NARROW)
@pytest.mark.parametrize("shape", [(5,), (1, 3), (), (0, 2)], ids=str)
def test_inputs_of_types_that_numpy_lacks_come_as_wider_ones(name: str, shape: tuple[int, ...]) -> None:
    loaded = through(name)
    x = np.resize(np.array(NARROW[name], loaded.inputs[0].dtype), shape)
    loaded.check_inputs({"x": x})
    answer = loaded.run({"x": x}, ["y", "same"])
    np.testing.assert_array_equal(answer["y"], x.astype(np.float32), strict=True)
    np.testing.assert_array_equal(answer["same"], x, strict=True)


def test_floats_are_rounded() -> None:
    x = np.array([1 + 2**-8, 1 + 3 * 2**-8], np.float32)
    assert through("BFLOAT16").run({"x": x}, ["y"])["y"].tolist() == [1.0, 1 + 2**-6]


@pytest.mark.parametrize(
    ("name", "x", "message"),
    [
        ("INT4", np.array([-9, 7], np.int8), "has values from -9 to 7; expected -8 to 7"),
        ("UINT2", np.array([4], np.uint8), "has values from 4 to 4; expected 0 to 3"),
        ("UINT4", np.array([4], np.int8), "is int8; expected uint8"),
    ],
)
def test_integers_that_the_type_can_not_hold_are_refused(name: str, x: Array, message: str) -> None:
    with pytest.raises(InvalidRequestError) as error:
        through(name).check_inputs({"x": x})
    assert str(error.value) == f'the input "x" {message}'
