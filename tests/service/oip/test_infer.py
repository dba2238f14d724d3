"""ModelInfer: what comes back, of which model, in which form."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest

from protos.inference import messages as pb
from tests.service.oip.models import ELEMENTS
from tests.service.oip.stub import InferenceStub, Tensor, arrays, integer, request, texts
from tests.service.test_classify import MODEL, SAMPLES, digits

A = np.array([[1, 2], [3, 4]], np.float32)
B = np.array([[4, 3], [2, 1]], np.float32)
SUMS = [("a", "FP32", A), ("b", "FP32", B)]

VALUES = {
    "BOOL": [[True, False], [False, True]],
    **{f"INT{bits}": [[-(2 ** (bits - 1)), 2 ** (bits - 1) - 1], [0, -1]] for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": [[0, 2**bits - 1], [1, 2]] for bits in (8, 16, 32, 64)},
    "FP16": [[0.5, -65504], [1, 2]],
    "FP32": [[0.1, -3e38], [1, 2]],
    "FP64": [[0.1, -1e308], [1, 2]],
    "BF16": [[0.15625, -(2.0**100)], [1, 2]],  # that bfloat16 holds exactly
    "BYTES": [["", "é\0x"], ["日本", "x" * 300]],
}


def values(datatype: str) -> np.ndarray:
    dtype = object if datatype == "BYTES" else ort_dtype(datatype)
    return np.array(VALUES[datatype], dtype)


def ort_dtype(datatype: str) -> str:
    floats = {"FP16": "float16", "FP32": "float32", "FP64": "float64", "BF16": "float32"}
    return "bool" if datatype == "BOOL" else floats.get(datatype, datatype.lower())


def test_tensors_come_back_as_onnx_runtime_gives_them(lenet: InferenceStub) -> None:
    inputs = digits(3)
    session = ort.InferenceSession(MODEL, providers=["CPUExecutionProvider"])
    expected = session.run(["probabilities"], {"image": inputs})[0]

    response = lenet.ModelInfer(request("lenet", [("image", "FP32", inputs)], id="mine"))

    assert (response.model_name, response.model_version, response.id) == ("lenet", "1", "mine")
    (output,) = response.outputs
    assert (output.name, output.datatype, list(output.shape)) == ("probabilities", "FP32", [3, 10])
    np.testing.assert_allclose(arrays(response)["probabilities"], expected, atol=1e-6)


@pytest.mark.parametrize("datatype", ELEMENTS)
def test_every_datatype_goes_in_and_out_raw(zoo: InferenceStub, datatype: str) -> None:
    response = zoo.ModelInfer(request(f"same-{datatype}", [("x", datatype, values(datatype))]))

    assert [(output.name, output.datatype) for output in response.outputs] == [("y", datatype)]
    np.testing.assert_array_equal(arrays(response)["y"], values(datatype))


@pytest.mark.parametrize(
    ("datatype", "field"),
    [
        ("BOOL", "bool_contents"),
        *((f"INT{bits}", "int_contents") for bits in (8, 16, 32)),
        ("INT64", "int64_contents"),
        *((f"UINT{bits}", "uint_contents") for bits in (8, 16, 32)),
        ("UINT64", "uint64_contents"),
        ("FP32", "fp32_contents"),
        ("FP64", "fp64_contents"),
        ("BYTES", "bytes_contents"),
    ],
)
def test_typed_contents_are_taken_and_answered_raw(zoo: InferenceStub, datatype: str, field: str) -> None:
    flat = values(datatype).ravel().tolist()
    elements = [text.encode() for text in flat] if datatype == "BYTES" else flat
    contents = pb.InferTensorContents(**{field: elements})
    message = pb.ModelInferRequest(
        model_name=f"same-{datatype}",
        inputs=[Tensor(name="x", datatype=datatype, shape=[2, 2], contents=contents)],
    )

    np.testing.assert_array_equal(arrays(zoo.ModelInfer(message))["y"], values(datatype))


@pytest.mark.parametrize(("sent", "taken"), [("BF16", "FP32"), ("FP32", "BF16")])
def test_bf16_and_fp32_stand_in_for_each_other(zoo: InferenceStub, sent: str, taken: str) -> None:
    response = zoo.ModelInfer(request(f"same-{taken}", [("x", sent, values("BF16"))]))

    assert response.outputs[0].datatype == taken
    np.testing.assert_array_equal(arrays(response)["y"], values("BF16"))


def test_a_layer_of_bfloat16_is_bf16(zoo: InferenceStub) -> None:
    x = np.array([[1 + 2**-8, -(2.0**-130)]], np.float32)
    response = zoo.ModelInfer(request("rounded", [("x", "FP32", x)], ["short", "y"]))

    assert [(output.name, output.datatype) for output in response.outputs] == [
        ("short", "BF16"),
        ("y", "FP32"),
    ]
    assert len(response.raw_output_contents[0]) == 4
    found = arrays(response)
    np.testing.assert_array_equal(found["short"], [[1, -(2.0**-130)]])
    np.testing.assert_array_equal(found["y"], found["short"])


def test_several_inputs_come_in_any_order_and_all_declared_outputs_go_out(zoo: InferenceStub) -> None:
    response = zoo.ModelInfer(request("sums", reversed(SUMS)))

    found = arrays(response)
    assert list(found) == ["sum", "less"]
    np.testing.assert_array_equal(found["sum"], A + B)
    np.testing.assert_array_equal(found["less"], A < B)


def test_outputs_come_in_the_order_in_which_they_are_asked_for(zoo: InferenceStub) -> None:
    assert list(arrays(zoo.ModelInfer(request("sums", SUMS, ["less", "sum"])))) == ["less", "sum"]
    assert list(arrays(zoo.ModelInfer(request("sums", SUMS, ["less"])))) == ["less"]


def test_a_layer_is_one_more_requested_output(lenet: InferenceStub) -> None:
    message = request("lenet", [("image", "FP32", digits(2))], ["relu1", "probabilities", "conv2"])

    found = arrays(lenet.ModelInfer(message))

    assert {name: array.shape for name, array in found.items()} == {
        "relu1": (2, 6, 28, 28),
        "probabilities": (2, 10),
        "conv2": (2, 16, 10, 10),
    }
    assert found["relu1"].min() == 0


def test_a_model_without_a_batch(zoo: InferenceStub) -> None:
    b = np.arange(12, dtype=np.float32).reshape(3, 4)
    message = request(
        "product", [("a", "FP32", np.ones((2, 3), np.float32)), ("b", "FP32", b)], ["minus", "ab"]
    )

    found = arrays(zoo.ModelInfer(message))

    np.testing.assert_array_equal(found["ab"], np.ones((2, 3)) @ b)
    np.testing.assert_array_equal(found["minus"], -found["ab"])


def test_inputs_of_unequal_length_are_no_batch(zoo: InferenceStub) -> None:
    response = zoo.ModelInfer(request("sums", [SUMS[0], ("b", "FP32", B[:1])], ["sum"]))

    np.testing.assert_array_equal(arrays(response)["sum"], A + B[:1])


def test_an_output_of_one_value_an_item(zoo: InferenceStub) -> None:
    rows = np.arange(8, dtype=np.float32).reshape(2, 4)

    found = arrays(zoo.ModelInfer(request("totals", [("x", "FP32", rows)])))["total"]

    np.testing.assert_array_equal(found, rows.sum(axis=1))


def test_a_model_without_inputs(zoo: InferenceStub) -> None:
    assert arrays(zoo.ModelInfer(request("constant", [])))["y"].tolist() == [7, 8]


def test_a_scalar(zoo: InferenceStub) -> None:
    response = zoo.ModelInfer(request("scalar", [("x", "FP32", np.array(1.5, np.float32))]))

    assert (list(response.outputs[0].shape), arrays(response)["y"].item()) == ([], 3.0)


@pytest.mark.parametrize(("version", "answered"), [("", "3"), ("1", "1"), ("3", "3")])
def test_versions_are_texts_and_the_answer_tells_which(
    zoo: InferenceStub, version: str, answered: str
) -> None:
    response = zoo.ModelInfer(request("sums", SUMS, model_version=version))

    assert response.model_version == answered


def test_without_an_id_none_comes_back(zoo: InferenceStub) -> None:
    response, call = zoo.ModelInfer.with_call(request("sums", SUMS))

    assert response.id == ""
    assert dict(call.trailing_metadata())["x-request-id"]


def test_the_answer_tells_its_timings(zoo: InferenceStub) -> None:
    parameters = zoo.ModelInfer(request("sums", SUMS)).parameters

    assert parameters.keys() == {"decode_ns", "queue_ns", "compute_ns"}
    assert parameters["decode_ns"].int64_param > 0
    assert parameters["compute_ns"].int64_param > 0
    assert parameters["queue_ns"].int64_param >= 0


def test_priority_timeout_and_parameters_of_the_callers_own_are_taken(zoo: InferenceStub) -> None:
    own = {
        "priority": pb.InferParameter(uint64_param=3),
        "timeout": integer(5_000_000),
        "lenet.trace": pb.InferParameter(double_param=1.5),
    }

    assert arrays(zoo.ModelInfer(request("sums", SUMS, parameters=own))).keys() == {"sum", "less"}


@pytest.mark.parametrize("shape", [[2], [2, 1]])
def test_image_files_are_taken_where_the_preprocessing_is_known(
    lenet: InferenceStub, shape: list[int]
) -> None:
    zero, nine = SAMPLES[0], SAMPLES[-1]
    message = pb.ModelInferRequest(
        model_name="lenet",
        inputs=[Tensor(name="image", datatype="BYTES", shape=shape)],
        raw_input_contents=[texts([zero.read_bytes(), nine.read_bytes()])],
    )

    probabilities = arrays(lenet.ModelInfer(message))["probabilities"]

    alone = [arrays(lenet.ModelInfer(of_image(path)))["probabilities"] for path in (zero, nine)]
    np.testing.assert_allclose(probabilities, np.concatenate(alone), atol=1e-6)
    assert probabilities.argmax(axis=1).tolist() == [0, 9]


def of_image(path: Path) -> pb.ModelInferRequest:
    contents = pb.InferTensorContents(bytes_contents=[path.read_bytes()])
    return pb.ModelInferRequest(
        model_name="lenet",
        inputs=[Tensor(name="image", datatype="BYTES", shape=[1], contents=contents)],
    )


def test_the_only_model_needs_no_name(lenet: InferenceStub) -> None:
    assert lenet.ModelInfer(request("", [("image", "FP32", digits(1))])).model_name == "lenet"
