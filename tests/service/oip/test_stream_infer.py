"""ModelStreamInfer: one answer per request, matched by id, errors in-band."""

from __future__ import annotations

import numpy as np

from protos.inference import messages as pb
from tests.service.oip.stub import InferenceStub, arrays, request
from tests.service.test_classify import digits


def numbered(count: int) -> list[pb.ModelInferRequest]:
    return [
        request("lenet", [("image", "FP32", digits(1, seed=i))], ["probabilities", "conv1"], id=str(i))
        for i in range(count)
    ]


def test_every_request_gets_its_own_answer(lenet: InferenceStub) -> None:
    requests = numbered(100)

    answers = {answer.infer_response.id: answer for answer in lenet.ModelStreamInfer(iter(requests))}

    assert answers.keys() == {str(i) for i in range(100)}
    assert {answer.error_message for answer in answers.values()} == {""}
    for i in (0, 50, 99):
        found, alone = arrays(answers[str(i)].infer_response), arrays(lenet.ModelInfer(requests[i]))
        np.testing.assert_allclose(found["probabilities"], alone["probabilities"], atol=1e-6)
        np.testing.assert_allclose(found["conv1"], alone["conv1"], atol=1e-5)


def test_errors_are_told_in_band_and_the_stream_goes_on(lenet: InferenceStub) -> None:
    good, also_good = numbered(2)
    bad = request("lenet", [("image", "FP32", digits(1))], ["conv9"], id="bad")
    unknown = request("resnet", [], id="unknown")

    answers = {
        answer.infer_response.id: answer
        for answer in lenet.ModelStreamInfer(iter([good, bad, unknown, also_good]))
    }

    assert answers.keys() == {"0", "bad", "unknown", "1"}
    assert answers["bad"].error_message.startswith('no output or layer "conv9"; did you mean')
    assert answers["unknown"].error_message == 'there is no model "resnet"; there is lenet'
    assert answers["bad"].infer_response == pb.ModelInferResponse(id="bad")
    assert answers["0"].error_message == answers["1"].error_message == ""


def test_an_empty_stream_ends_well(lenet: InferenceStub) -> None:
    assert list(lenet.ModelStreamInfer(iter(()))) == []
