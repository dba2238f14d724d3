"""The parameter "classification" of a requested output: the largest elements, with their labels, as texts."""

from __future__ import annotations

import numpy as np
import pytest

from protos.inference import messages as pb
from service.api.oip.classification import classify
from service.errors import LimitExceededError
from tests.service.oip.stub import Code, InferenceStub, Output, arrays, failure, integer, request
from tests.service.test_classify import digits

X = np.array([[0.1, -2.5, 0.7, 0.1], [1, 2, 3, 4]])


def ranked(
    datatype: str, top_k: int, x: np.ndarray = X, parameter: pb.InferParameter | None = None
) -> pb.ModelInferRequest:
    output = Output(name="scores", parameters={"classification": parameter or integer(top_k)})
    return request(f"ranked-{datatype}", [("x", datatype, x)], [output])


@pytest.mark.parametrize(
    ("datatype", "top_k", "x", "expected"),
    [
        ("FP32", 1, X, [["0.700000:2:c"], ["4.000000:3:d"]]),
        ("FP32", 2, X, [["0.700000:2:c", "0.100000:0:a"], ["4.000000:3:d", "3.000000:2:c"]]),
        ("BF16", 1, X, [["0.699219:2:2"], ["4.000000:3:3"]]),
        ("INT32", 2, np.array([[5, -7, 5, 0]]), [["5:0", "5:2"]]),
        ("UINT8", 3, np.array([[0, 255, 1, 1]]), [["255:1", "1:2", "1:3"]]),
    ],
)
def test_the_largest_come_first_and_equal_ones_in_order(
    zoo: InferenceStub, datatype: str, top_k: int, x: np.ndarray, expected: list[list[str]]
) -> None:
    response = zoo.ModelInfer(ranked(datatype, top_k, x))

    assert [(output.name, output.datatype) for output in response.outputs] == [("scores", "BYTES")]
    assert arrays(response)["scores"].tolist() == expected


def test_no_more_are_given_than_there_are(zoo: InferenceStub) -> None:
    assert arrays(zoo.ModelInfer(ranked("FP32", 2**40)))["scores"].shape == (2, 4)


def test_an_unsigned_parameter_is_taken(zoo: InferenceStub) -> None:
    message = ranked("FP32", 0, parameter=pb.InferParameter(uint64_param=1))

    assert arrays(zoo.ModelInfer(message))["scores"].shape == (2, 1)


def test_an_output_without_a_batch_is_one_item(zoo: InferenceStub) -> None:
    inputs = [("a", "FP32", np.ones((2, 3))), ("b", "FP32", np.array([[1, 0], [1, 0], [1, 5]]))]
    output = Output(name="ab", parameters={"classification": integer(2)})

    found = arrays(zoo.ModelInfer(request("product", inputs, [output])))

    assert found["ab"].tolist() == ["5.000000:1", "5.000000:3"]


def test_tensors_and_classes_come_in_one_answer(lenet: InferenceStub) -> None:
    inputs = [("image", "FP32", digits(2))]
    plain = arrays(lenet.ModelInfer(request("lenet", inputs)))["probabilities"]
    output = Output(name="probabilities", parameters={"classification": integer(1)})

    found = arrays(lenet.ModelInfer(request("lenet", inputs, ["relu4", output])))

    best = [(int(row.argmax()), float(row.max())) for row in plain]
    assert found["relu4"].shape == (2, 100)
    assert found["probabilities"].tolist() == [[f"{p:f}:{index}:{index}"] for index, p in best]


@pytest.mark.parametrize(
    ("datatype", "parameter", "text"),
    [
        ("FP32", integer(0), 'the parameter "classification" is 0; expected at least 1'),
        ("FP32", integer(-1), 'the parameter "classification" is int64_param -1'),
        ("FP32", pb.InferParameter(string_param="3"), '"classification" is string_param 3'),
        ("FP16", integer(1), "an output of float16 can't be classified; expected integers, FP32 or FP64"),
    ],
    ids=["zero", "negative", "text", "half"],
)
def test_what_can_not_be_classified(
    zoo: InferenceStub, datatype: str, parameter: pb.InferParameter, text: str
) -> None:
    code, details = failure(zoo.ModelInfer, ranked(datatype, 0, parameter=parameter))

    assert code is Code.INVALID_ARGUMENT
    assert text in details


def test_texts_can_not_be_classified(zoo: InferenceStub) -> None:
    output = Output(name="y", parameters={"classification": integer(1)})
    message = request("same-BYTES", [("x", "BYTES", np.array([["a", "b"]]))], [output])

    assert failure(zoo.ModelInfer, message)[0] is Code.INVALID_ARGUMENT


def test_no_items_have_no_classes() -> None:
    assert classify(np.empty((0, 4), np.float32), 2, (), batch=True).shape == (0, 2)
    assert classify(np.empty((3, 0), np.float32), 2, (), batch=True).shape == (3, 0)


def test_too_many_texts_are_refused() -> None:
    with pytest.raises(LimitExceededError, match="200000 classes are asked for, the limit is 100000"):
        classify(np.zeros((2, 100_000), np.float32), 100_000, (), batch=True)


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_comes_last_and_infinities_where_they_belong(kind: type[np.floating]) -> None:
    array = np.array([[np.nan, 1, np.inf, -np.inf, 1, np.nan]], kind)

    texts = classify(array, 6, (), batch=True)

    assert texts.tolist() == [["inf:2", "1.000000:1", "1.000000:4", "-inf:3", "nan:0", "nan:5"]]
