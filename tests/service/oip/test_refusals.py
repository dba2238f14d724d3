"""Requests refused for names, versions, parameters or size; methods that are not offered."""

from __future__ import annotations

import grpc
import numpy as np
import pytest

from protos.inference import messages as pb
from tests.service.conftest import HeldRuns
from tests.service.oip.stub import (
    Code,
    InferenceStub,
    Output,
    Tensor,
    arrays,
    failure,
    integer,
    request,
)
from tests.service.oip.test_infer import SUMS, A
from tests.service.test_classify import digits
from tests.serving import Serving

BAD = Code.INVALID_ARGUMENT
REGION = {"shared_memory_region": pb.InferParameter(string_param="region")}


@pytest.mark.parametrize(
    ("model", "version", "code", "text"),
    [
        ("nothing", "", Code.NOT_FOUND, 'there is no model "nothing"; there is broken, '),
        ("../sums", "", Code.NOT_FOUND, 'there is no model "../sums"'),
        ("sums", "2", Code.NOT_FOUND, 'model "sums" has no version "2"; it has 1, 3'),
        ("sums", "-1", Code.NOT_FOUND, 'model "sums" has no version "-1"'),
        ("", "", BAD, "the request names no model; it is one of broken, "),
        ("broken", "", Code.UNAVAILABLE, 'model "broken" version 1 could not be loaded'),
    ],
)
@pytest.mark.parametrize("method", ["ModelInfer", "ModelMetadata", "ModelConfig"])
def test_models_that_do_not_answer(
    zoo: InferenceStub, method: str, model: str, version: str, code: Code, text: str
) -> None:
    message: object = request(model, SUMS, model_version=version)
    if method != "ModelInfer":
        message = getattr(pb, f"{method}Request")(name=model, version=version)

    got, details = failure(getattr(zoo, method), message)

    assert (got, details[: len(text)]) == (code, text)


@pytest.mark.parametrize(
    ("inputs", "outputs", "text"),
    [
        (SUMS[:1], [], 'got the inputs "a"; expected "a", "b"'),
        ([], [], 'got the inputs none; expected "a", "b"'),
        ([*SUMS, ("c", "FP32", A)], [], 'no input "c"; expected "a", "b"'),
        ([SUMS[0], SUMS[0]], [], 'the input "a" came twice; send it once'),
        (SUMS, ["summ"], 'no output or layer "summ"; did you mean "sum"?'),
        (SUMS, ["*"], 'no output or layer "*"; it is a pattern, which only Classify takes'),
        (SUMS, ["a"], 'no output or layer "a": it is an input of the model'),
        (SUMS, ["x" * 1000], f'no output or layer "{"x" * 200}"; the model has'),
        (SUMS, ["sum", "sum"], "an output is asked for twice; ask for each once"),
    ],
)
def test_names_that_do_not_fit(
    zoo: InferenceStub, inputs: list[tuple[str, str, np.ndarray]], outputs: list[str], text: str
) -> None:
    code, details = failure(zoo.ModelInfer, request("sums", inputs, outputs))

    assert (code, details[: len(text)]) == (BAD, text)


@pytest.mark.parametrize(
    ("name", "value", "got"),
    [
        ("priority", integer(-1), "int64_param -1"),
        ("priority", pb.InferParameter(string_param="high"), "string_param high"),
        ("timeout", integer(-5), "int64_param -5"),
        ("timeout", pb.InferParameter(double_param=0.5), "double_param 0.5"),
        ("timeout", pb.InferParameter(), "nothing"),
    ],
)
def test_parameters_that_are_no_natural_numbers(
    zoo: InferenceStub, name: str, value: pb.InferParameter, got: str
) -> None:
    outcome = failure(zoo.ModelInfer, request("sums", SUMS, parameters={name: value}))

    expected = f'the parameter "{name}" is {got}; expected int64_param or uint64_param, not negative'
    assert outcome == (BAD, expected)


def test_an_id_that_is_too_long(zoo: InferenceStub) -> None:
    outcome = failure(zoo.ModelInfer, request("sums", SUMS, id="x" * 257))

    assert outcome == (BAD, "the id has 257 characters, the limit is 256; shorten it")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (request("sums", SUMS, parameters={"sequence_id": integer(1)}), "no state between requests"),
        (request("sums", SUMS, [Output(name="sum", parameters=REGION)]), "shared memory is not offered"),
        (
            pb.ModelInferRequest(
                model_name="same-FP32",
                inputs=[Tensor(name="x", datatype="FP32", shape=[2, 2], parameters=REGION)],
            ),
            "shared memory is not offered",
        ),
    ],
    ids=["sequence", "output in shared memory", "input in shared memory"],
)
def test_parts_of_the_protocol_that_are_not_offered(
    zoo: InferenceStub, message: pb.ModelInferRequest, text: str
) -> None:
    code, details = failure(zoo.ModelInfer, message)

    assert code is Code.UNIMPLEMENTED
    assert text in details


@pytest.mark.parametrize(
    ("method", "text"),
    [
        (
            "RepositoryModelLoad",
            "models can't be loaded or unloaded by callers here: the setting model_control is off",
        ),
        (
            "RepositoryModelUnload",
            "models can't be loaded or unloaded by callers here: the setting model_control is off",
        ),
        ("TraceSetting", "flags of the server"),
        ("LogSettings", "flags of the server"),
        *(
            (f"{kind}SharedMemory{verb}", "shared memory is not offered")
            for kind in ("System", "Cuda")
            for verb in ("Status", "Register", "Unregister")
        ),
    ],
)
def test_methods_that_are_not_offered_say_why(zoo_address: str, method: str, text: str) -> None:
    code, details = raw_failure(zoo_address, method, b"")

    assert code is Code.UNIMPLEMENTED
    assert text in details


@pytest.mark.parametrize(
    "method",
    [
        *("ModelInfer", "ModelReady", "ModelMetadata", "ModelConfig", "ModelStatistics"),
        "RepositoryIndex",
    ],
)
def test_bytes_that_are_no_message(zoo_address: str, method: str) -> None:
    outcome = raw_failure(zoo_address, method, b"\xff\xff\xff")

    assert outcome == (BAD, f"the request is not an encoded {method}Request")


def raw_failure(address: str, method: str, message: bytes) -> tuple[Code, str]:
    with grpc.insecure_channel(address) as channel:
        return failure(channel.unary_unary(f"/{pb.SERVICE.full_name}/{method}", None, None), message)


@pytest.mark.parametrize(
    ("settings", "outputs", "count", "text"),
    [
        (
            {"max_images_per_request": 2},
            [],
            3,
            "the request holds 3 items along axis 0 of its inputs, the limit is 2",
        ),
        (
            {"max_layers_per_request": 1},
            ["conv1", "relu1"],
            1,
            "the request asks for 2 layers, the limit is 1",
        ),
        (
            {"max_response_bytes": 20_000},
            ["relu1"],
            2,
            "the answer would have 37632 bytes, the limit is 20000",
        ),
        ({"max_response_bytes": 1_000}, [], 30, "the answer has 1"),
    ],
)
def test_limits(
    serving: Serving, settings: dict[str, object], outputs: list[str], count: int, text: str
) -> None:
    with serving(**settings) as server, grpc.insecure_channel(server.address) as channel:
        stub = InferenceStub(channel)
        code, details = failure(stub.ModelInfer, of_digits(count, outputs))

        assert (code, details[: len(text)]) == (Code.RESOURCE_EXHAUSTED, text)
        assert stub.ModelInfer(of_digits(1)).outputs


def of_digits(count: int, outputs: list[str] | None = None) -> pb.ModelInferRequest:
    return request("lenet", [("image", "FP32", digits(count))], outputs or [])


def test_the_timeout_of_a_request_ends_it_while_it_waits(held: HeldRuns, serving: Serving) -> None:
    with serving() as server, grpc.insecure_channel(server.address) as channel:
        stub = InferenceStub(channel)
        running = stub.ModelInfer.future(of_digits(1))
        assert held.started.wait(20)
        hasty = of_digits(1)
        hasty.parameters["timeout"].int64_param = 50_000
        outcome = failure(stub.ModelInfer, hasty)
        (statistics,) = stub.ModelStatistics(pb.ModelStatisticsRequest()).model_stats
        held.may_run.set()

        assert outcome == (Code.DEADLINE_EXCEEDED, "the deadline passed before the answer was ready")
        assert statistics.inference_stats.fail.count == 1
        assert arrays(running.result(timeout=20))["probabilities"].shape == (1, 10)


def test_a_fault_of_ours_tells_the_request_id_alone(
    zoo: InferenceStub, monkeypatch: pytest.MonkeyPatch
) -> None:
    def explode(*_: object) -> None:
        raise ValueError("secret path /models/x.onnx")

    with monkeypatch.context() as patch:
        patch.setattr("service.api.oip.answers.Form.encode", explode)
        outcome = failure(zoo.ModelInfer, request("sums", SUMS, id="r1"))

    assert outcome == (Code.INTERNAL, "internal error; the server's log has more under request id r1")
    assert zoo.ModelInfer(request("sums", SUMS)).outputs
