"""What is sent and how its answer is checked, one `Protocol` for each kind of call."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from benchmarks.speed import echo
from benchmarks.speed.digits import Images
from benchmarks.speed.reference import INPUT, OUTPUT, Tensors, WrongAnswerError, compare, expected
from protos.featurelens.v1 import classifier_pb2 as pb
from protos.inference import messages
from protos.tensors import pack, unpack

_GRPC = "application/grpc"


@dataclass(frozen=True)
class Exchange:
    """A request, and what raises WrongAnswerError unless it is given the right answer."""

    request: bytes
    verify: Callable[[bytes], None]


@dataclass(frozen=True)
class Protocol:
    """A method and the messages it takes."""

    name: str
    path: str
    exchange: Callable[[Images, Sequence[str]], Exchange]
    messages: int = 1
    """Requests a call: 1, or those of a stream."""
    content_type: str = _GRPC
    metadata: tuple[tuple[str, str], ...] = ()
    """What each call carries besides."""

    @property
    def is_grpc(self) -> bool:
        """Whether it is gRPC; else it is HTTP/1.1, one call at a time on a connection."""
        return self.content_type == _GRPC

    @property
    def frame_bytes(self) -> int:
        """Bytes before each message: whether it is compressed, and its length."""
        return 5 if self.is_grpc else 0


def _echo(images: Images, layers: Sequence[str]) -> Exchange:
    request = _classify_request(images, layers)

    def verify(answer: bytes) -> None:
        if answer != request[: len(request) // echo.PART]:
            raise WrongAnswerError(f"the echo has {len(answer)} bytes that were not sent")

    return Exchange(request, verify)


def _classify(
    images: Images, layers: Sequence[str], *, decode: Callable[[bytes], pb.ClassifyResponse]
) -> Exchange:
    right = expected(images, layers)
    return Exchange(
        _classify_request(images, layers), lambda answer: compare(right, _tensors(decode(answer), layers))
    )


def _classify_request(images: Images, layers: Sequence[str]) -> bytes:
    return pb.ClassifyRequest(model="lenet", id="0", tensor=pack(images), layers=layers).SerializeToString()


def _tensors(response: pb.ClassifyResponse, layers: Sequence[str]) -> Tensors:
    probabilities = np.zeros((len(response.results), len(response.results[0].scores)), np.float32)
    for row, result in zip(probabilities, response.results, strict=True):
        row[[score.index for score in result.scores]] = [score.probability for score in result.scores]
    maps = {tensor.name: unpack(tensor).astype(np.float32) for tensor in response.feature_maps}
    return {OUTPUT: probabilities} | maps


def _model_infer(images: Images, layers: Sequence[str]) -> Exchange:
    right = expected(images, layers)
    tensor = messages.ModelInferRequest.InferInputTensor(name=INPUT, datatype="FP32", shape=images.shape)
    request = messages.ModelInferRequest(
        model_name="lenet",
        inputs=[tensor],
        outputs=[messages.ModelInferRequest.InferRequestedOutputTensor(name=name) for name in right],
        raw_input_contents=[images.tobytes()],
    )
    return Exchange(request.SerializeToString(), lambda answer: compare(right, _outputs(answer)))


def _outputs(answer: bytes) -> Tensors:
    response = messages.ModelInferResponse.FromString(answer)
    return {
        output.name: np.frombuffer(content, np.float32).reshape(output.shape)
        for output, content in zip(response.outputs, response.raw_output_contents, strict=True)
    }


def _base64_json(images: Images, layers: Sequence[str]) -> Exchange:
    request = json.dumps({"image": base64.b64encode(images.tobytes()).decode()}).encode()
    return Exchange(request, _json_verifier(images, layers))


def _raw(images: Images, layers: Sequence[str]) -> Exchange:
    return Exchange(images.tobytes(), _json_verifier(images, layers))


def _json_verifier(images: Images, layers: Sequence[str]) -> Callable[[bytes], None]:
    right = expected(images, layers)
    return lambda answer: compare(
        right, {name: np.array(values, np.float32) for name, values in json.loads(answer).items()}
    )


def _streamed(answer: bytes) -> pb.ClassifyResponse:
    streamed = pb.ClassifyStreamResponse.FromString(answer)
    if streamed.HasField("error"):
        raise WrongAnswerError(f"status {streamed.error.code}: {streamed.error.message}")
    return streamed.response


ECHO = Protocol("bare", echo.PATH, _echo)
CLASSIFY = Protocol(
    "Classify",
    "/featurelens.v1.Classifier/Classify",
    partial(_classify, decode=pb.ClassifyResponse.FromString),
)
MODEL_INFER = Protocol("ModelInfer", "/inference.GRPCInferenceService/ModelInfer", _model_infer)
BASE64_JSON = Protocol("JSON", "/predict", _base64_json, content_type="application/json")
RAW_HTTP = Protocol("HTTP", "/predictions/lenet", _raw, content_type="application/octet-stream")
CLASSIFY_STREAM = Protocol(
    "ClassifyStream",
    "/featurelens.v1.Classifier/ClassifyStream",
    partial(_classify, decode=_streamed),
    messages=32,
)
