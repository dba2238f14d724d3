"""Pictures through the server: digits in what people put around them, and pictures without any."""

from __future__ import annotations

import grpc
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as oip
from tests.service.oip.stub import InferenceStub
from tests.service.papers import DRAWINGS, SAMPLES, Draw, blank, png, sheet
from tests.service.test_classify import of_images

SEVEN = next(sample for sample in SAMPLES if sample.name.startswith("7"))
MESSAGE = "no ink was found in the picture"


@pytest.mark.parametrize("draw", DRAWINGS.values(), ids=DRAWINGS)
def test_a_seven_is_a_seven_whatever_is_around_it(stub: ClassifierStub, draw: Draw) -> None:
    (result,) = stub.Classify(of_images(png(draw(sheet(SEVEN))), top_k=1)).results

    assert result.scores[0].label == "7"
    assert not result.warnings


def test_images_without_ink_get_a_warning(stub: ClassifierStub) -> None:
    framed = png(DRAWINGS["broad frame"](blank()))
    results = stub.Classify(of_images(png(blank()), SEVEN.read_bytes(), framed, top_k=2)).results

    warned = [[(each.code, each.message) for each in result.warnings] for result in results]
    assert warned == [[("no_ink", MESSAGE)], [], [("no_ink", MESSAGE)]]
    assert [len(result.scores) for result in results] == [2, 2, 2]


def test_answers_in_a_stream_have_warnings(stub: ClassifierStub) -> None:
    requests = [of_images(image, id=str(at)) for at, image in enumerate((png(blank()), SEVEN.read_bytes()))]
    answers = {answer.id: answer.response for answer in stub.ClassifyStream(iter(requests))}

    assert [each.code for each in answers["0"].results[0].warnings] == ["no_ink"]
    assert not answers["1"].results[0].warnings


def test_a_tensor_gets_no_warning(stub: ClassifierStub) -> None:
    tensor = pb.Tensor(shape=[1, 1, 32, 32], data_type=pb.DATA_TYPE_FLOAT32, data=bytes(4096))

    assert not stub.Classify(pb.ClassifyRequest(tensor=tensor)).results[0].warnings


@pytest.fixture
def lenet(channel: grpc.Channel) -> InferenceStub:
    return InferenceStub(channel)


def infer(lenet: InferenceStub, *images: bytes) -> oip.ModelInferResponse:
    request = oip.ModelInferRequest(model_name="lenet")
    request.inputs.add(name="image", datatype="BYTES", shape=[len(images)])
    request.inputs[0].contents.bytes_contents.extend(images)
    answer: oip.ModelInferResponse = lenet.ModelInfer(request)
    return answer


def test_the_open_inference_protocol_names_the_images_without_ink(lenet: InferenceStub) -> None:
    answer = infer(lenet, png(blank()), SEVEN.read_bytes(), png(blank()))
    told = answer.parameters["featurelens_warnings"].string_param

    assert told == f"images[0]: {MESSAGE}; images[2]: {MESSAGE}"
    assert [list(output.shape) for output in answer.outputs] == [[3, 10]]
    assert "featurelens_warnings" not in infer(lenet, SEVEN.read_bytes()).parameters
