"""Tensors whose datatype, shape and elements don't agree, with each other or with the model's input."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from protos.inference import messages as pb
from tests.service.oip.stub import Code, InferenceStub, Tensor, failure, texts
from tests.service.test_classify import SAMPLES

X = np.array([[1, 2], [3, 4]], "<f4").tobytes()
NAN = np.array([1, np.nan, 2, 3], "<f4").tobytes()


def details_of(zoo: InferenceStub, model: str, raws: list[bytes], **fields: Any) -> str:  # noqa: ANN401 - a field's value
    """Send an input to the model of this datatype, which has to refuse it, and return the text."""
    tensor = Tensor(**({"name": "x", "datatype": model, "shape": [2, 2]} | fields))
    message = pb.ModelInferRequest(model_name=f"same-{model}", inputs=[tensor], raw_input_contents=raws)
    code, details = failure(zoo.ModelInfer, message)
    assert code is Code.INVALID_ARGUMENT
    return details


@pytest.mark.parametrize(
    ("model", "sent", "expected"),
    [
        ("FP32", "FP64", "FP32"),
        ("FP32", "float", "FP32"),
        ("FP32", "", "FP32"),
        ("FP32", "BYTES", "FP32"),  # nobody knows how to make this input of an image
        ("FP16", "BF16", "FP16"),
        ("BYTES", "UINT8", "BYTES"),
        ("INT8", "UINT8", "INT8"),
    ],
)
def test_a_datatype_that_is_not_the_inputs(zoo: InferenceStub, model: str, sent: str, expected: str) -> None:
    details = details_of(zoo, model, [X], datatype=sent)

    assert details == f'the input "x" has datatype "{sent}"; expected "{expected}"'


@pytest.mark.parametrize(
    ("shape", "raws", "text"),
    [
        ([-2, -2], [X], "shape is [-2, -2], expected no negative size"),
        ([-1, 2], [X], "shape is [-1, 2], expected no negative size"),
        ([2**4, 2**60 + 2], [X], "expected at most 72057594037927936 elements"),
        ([0, 2**62], [b""], "expected at most 72057594037927936 elements"),
        ([1] * 65, [X], "shape has 65 axes, expected at most 64"),
        ([3, 2], [X], "data has 16 bytes, expected 24 for shape [3, 2] of float32"),
        ([2, 2], [X[:-1]], "data has 15 bytes, expected 16"),
        ([2, 2], [X + b"\0"], "data has 17 bytes, expected 16"),
        ([2, 2], [X + X], "data has 32 bytes, expected 16"),
        ([4], [X], 'the input "x" has shape [4]; expected [any, 2]'),
        ([1, 4], [X], 'the input "x" has shape [1, 4]; expected [any, 2]'),
        ([], [X[:4]], 'the input "x" has shape []; expected [any, 2]'),
        ([2, 2], [NAN], 'the input "x" has NaN or infinite values'),
        ([2, 2], [X, X], "raw_input_contents has 2 entries, expected 1: one for each input"),
        ([2, 2], [], "data has 0 elements, expected 4"),
    ],
)
def test_a_shape_that_does_not_fit(
    zoo: InferenceStub, shape: list[int], raws: list[bytes], text: str
) -> None:
    assert text in details_of(zoo, "FP32", raws, shape=shape)


def test_truth_values_other_than_0_and_1(zoo: InferenceStub) -> None:
    assert "bytes other than 0 and 1" in details_of(zoo, "BOOL", [b"\0\1\2\1"])


def test_raw_and_typed_elements_at_once(zoo: InferenceStub) -> None:
    contents = pb.InferTensorContents(fp32_contents=[1, 2, 3, 4])

    details = details_of(zoo, "FP32", [X], contents=contents)

    assert details == 'the input "x" has contents beside raw_input_contents; send one of them'


@pytest.mark.parametrize(
    ("datatype", "field", "elements", "text"),
    [
        ("FP32", "fp32_contents", [1, 2, 3], "data has 3 elements, expected 4"),
        ("FP32", "fp64_contents", [1, 2, 3, 4], "are in fp64_contents, expected fp32_contents"),
        ("INT64", "int_contents", [1, 2, 3, 4], "are in int_contents, expected int64_contents"),
        ("FP16", "fp32_contents", [1, 2, 3, 4], "no typed contents of FP16; send raw_input_contents"),
        ("INT8", "int_contents", [1, 2, 3, 128], "a value is out of the range of INT8"),
        ("INT16", "int_contents", [1, 2, 3, -32769], "a value is out of the range of INT16"),
        ("UINT16", "uint_contents", [1, 2, 3, 65536], "a value is out of the range of UINT16"),
        ("BYTES", "bytes_contents", [b"a"], "data has 1 elements, expected 4"),
        ("BYTES", "fp32_contents", [1], "are in fp32_contents, expected bytes_contents"),
        ("BYTES", "bytes_contents", [b"a", b"b", b"c", b"\xff"], "element 3 is not UTF-8"),
    ],
)
def test_typed_elements_that_do_not_fit(
    zoo: InferenceStub, datatype: str, field: str, elements: list[Any], text: str
) -> None:
    contents = pb.InferTensorContents(**{field: elements})

    assert text in details_of(zoo, datatype, [], contents=contents)


def test_typed_elements_of_a_negative_shape(zoo: InferenceStub) -> None:
    contents = pb.InferTensorContents(fp32_contents=[1, 2, 3, 4])

    assert "no negative size" in details_of(zoo, "FP32", [], contents=contents, shape=[-2, -2])


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (texts(["a"] * 3), "data has 3 elements, expected 4"),
        (texts(["a"] * 5), "data has 5 elements, expected 4"),
        (texts(["a"] * 4)[:-1], "element 3 ends 1 bytes after the data's 19"),
        (texts(["a"] * 3) + b"\1\0", "element 3 ends 3 bytes after the data's 17"),
        (b"\xff\xff\xff\xff", "element 0 ends 4294967295 bytes after the data's 4"),
        (texts(["a", "b", "c", b"\xff"]), "element 3 is not UTF-8"),
    ],
)
def test_lengths_of_texts_that_do_not_fit(zoo: InferenceStub, data: bytes, text: str) -> None:
    assert text in details_of(zoo, "BYTES", [data])


@pytest.mark.parametrize(
    ("shape", "elements", "text"),
    [
        ([1], [b"no image"], "images[0]: "),
        ([2], [SAMPLES[0].read_bytes(), b"no image"], "images[1]: "),
        ([0], [], "the request holds no images"),
        ([2], [b"x"], "data has 1 elements, expected 2"),
        ([1, 1, 1], [b"x"], "has shape [1, 1, 1]; image files have [N] or [N, 1]"),
        ([1, 2], [b"x", b"y"], "has shape [1, 2]; image files have [N] or [N, 1]"),
    ],
)
def test_image_files_that_are_none(
    lenet: InferenceStub, shape: list[int], elements: list[bytes], text: str
) -> None:
    message = pb.ModelInferRequest(
        model_name="lenet",
        inputs=[Tensor(name="image", datatype="BYTES", shape=shape)],
        raw_input_contents=[texts(elements)],
    )

    code, details = failure(lenet.ModelInfer, message)

    assert code is Code.INVALID_ARGUMENT
    assert text in details
