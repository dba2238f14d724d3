"""The map of statuses, line by line: every way in which a call can end, over both transports and services."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import grpc
import numpy as np
import onnx
import pytest
from onnx import TensorProto

from service import errors
from tests.service import scenes
from tests.service.conftest import add_model
from tests.service.oip.stub import integer
from tests.service.onnx_models import lenet, model, node, value
from tests.service.scenes import CLASSIFY, DIGIT, INFER, SECRET, Provoke, Scene, Service, asking, sending
from tests.serving import Serving
from tests.serving import serving as run_server

Code = grpc.StatusCode

# Each is passed by one of the requests below, and by no other.
LIMITS = {
    "max_images_per_request": 4,
    "max_layers_per_request": 2,
    "max_request_bytes": 100_000,
    "max_response_bytes": 40_000,
    "max_image_side": 64,
}


@dataclass(frozen=True)
class Line:
    """A line of the map."""

    what: str
    error: type[errors.ServiceError] | None
    """What it is inside the server; None for what gRPC answers by itself."""
    status: Code
    provoke: Provoke
    details: str
    """Part of what the caller is told."""
    services: tuple[Service, ...] = (CLASSIFY, INFER)


def many(count: int) -> np.ndarray:
    return np.repeat(DIGIT, count, axis=0)


def in_a_sequence() -> bytes:
    message = scenes.infer_message(scenes.Ask())
    message.parameters["sequence_id"].CopyFrom(integer(1))
    return message.SerializeToString()


INVALID = errors.InvalidRequestError
TOO_MUCH = errors.LimitExceededError
UNKNOWN = "/featurelens.v1.Classifier/Explain"
MAP = (
    Line(
        "a shape that is not the input's",
        INVALID,
        Code.INVALID_ARGUMENT,
        asking(array=DIGIT[:, :, 1:]),
        'the input "image" has shape [1, 1, 31, 32]; expected [any, 1, 32, 32]',
    ),
    Line("no model's name", INVALID, Code.INVALID_ARGUMENT, asking(model=""), "names no model"),
    Line("NaN", INVALID, Code.INVALID_ARGUMENT, asking(array=DIGIT * np.nan), "has NaN or infinite values"),
    Line(
        "bytes that are no message",
        INVALID,
        Code.INVALID_ARGUMENT,
        lambda scene: sending(scene.service.method, b"\xff\xff")(scene),
        "is not an encoded",
    ),
    Line(
        "a file that is no image",
        errors.InvalidImageError,
        Code.INVALID_ARGUMENT,
        asking(images=(b"no image",)),
        "images[0]: ",
    ),
    Line(
        "a layer that there isn't",
        errors.UnknownLayerError,
        Code.INVALID_ARGUMENT,
        asking(layers=("conv9",)),
        '"conv9"',
    ),
    Line(
        "a model that there isn't", errors.UnknownModelError, Code.NOT_FOUND, asking(model="x"), 'model "x"'
    ),
    Line(
        "a version that there isn't",
        errors.UnknownModelError,
        Code.NOT_FOUND,
        asking(version="7"),
        'version "7"; it has 1',
    ),
    Line(
        "a model that could not be loaded",
        errors.ModelNotReadyError,
        Code.UNAVAILABLE,
        asking(model="broken"),
        'model "broken" version 1 could not be loaded',
    ),
    Line(
        "no token",
        errors.UnauthenticatedError,
        Code.UNAUTHENTICATED,
        scenes.no_token,
        "authorization: Bearer",
    ),
    Line(
        "a token that isn't for control",
        errors.PermissionDeniedError,
        Code.PERMISSION_DENIED,
        scenes.a_token_that_may_not_control,
        "control",
        (INFER,),
    ),
    Line(
        "a load of a model that can't be loaded",
        errors.ModelRefusedError,
        Code.FAILED_PRECONDITION,
        scenes.a_load_of_a_broken_model,
        'model "broken": version 1: ',
        (INFER,),
    ),
    Line(
        "a server that is shutting down",
        errors.DrainingError,
        Code.UNAVAILABLE,
        scenes.a_server_that_drains,
        "",
    ),
    Line(
        "a full queue",
        errors.QueueFullError,
        Code.RESOURCE_EXHAUSTED,
        scenes.a_full_queue,
        "1 requests already wait for this model; try again later",
    ),
    Line(
        "too many calls",
        errors.OverloadedError,
        Code.RESOURCE_EXHAUSTED,
        scenes.too_many_calls,
        "1 calls are already in progress; try again later",
    ),
    Line("too many items", TOO_MUCH, Code.RESOURCE_EXHAUSTED, asking(array=many(5)), "holds 5 items"),
    Line(
        "too many layers",
        TOO_MUCH,
        Code.RESOURCE_EXHAUSTED,
        asking(layers=("fc1", "fc2", "relu3")),
        "asks for 3 layers, the limit is 2",
    ),
    Line("too large a message", TOO_MUCH, Code.RESOURCE_EXHAUSTED, asking(array=many(50)), "100000"),
    Line(
        "too large an answer",
        TOO_MUCH,
        Code.RESOURCE_EXHAUSTED,
        asking(layers=("conv1", "relu1"), array=many(2)),
        "bytes, the limit is 40000",
    ),
    Line(
        "the caller's deadline",
        errors.DeadlineExceededError,
        Code.DEADLINE_EXCEEDED,
        scenes.the_callers_deadline,
        "",
    ),
    Line(
        "the server's deadline",
        errors.DeadlineExceededError,
        Code.DEADLINE_EXCEEDED,
        scenes.the_servers_deadline,
        "the deadline passed before the answer was ready",
    ),
    Line(
        "a client that went away",
        errors.CancelledError,
        Code.CANCELLED,
        scenes.a_cancelled_call,
        "the client cancelled the call",
    ),
    Line(
        "a part of a sequence",
        errors.UnimplementedError,
        Code.UNIMPLEMENTED,
        lambda scene: sending(scene.service.method, in_a_sequence())(scene),
        "leave sequence_id out",
        (INFER,),
    ),
    Line("a method that there isn't", None, Code.UNIMPLEMENTED, sending(UNKNOWN), "", (CLASSIFY,)),
    Line(
        "a fault of ours",
        errors.InternalError,
        Code.INTERNAL,
        scenes.a_fault_of_ours,
        "internal error; the server's log has more under request id ",
    ),
    Line(
        "a run that fails",
        errors.ExecutionError,
        Code.INTERNAL,
        asking(model="failing", array=np.full((1, 2), 7, np.float32)),
        "the model's run failed; the server's log says why; the server's log has more under request id ",
    ),
    Line(
        "an answer that isn't finite",
        errors.NonFiniteOutputError,
        Code.INTERNAL,
        asking(model="logarithm", array=np.array([[1, -1]], np.float32)),
        'answers with NaN or infinity in "scores" for item 0 of the tensor, of which no probabilities can be '
        'made; it begins in layer "scores" (Log)',
        (CLASSIFY,),
    ),
)
CASES = [
    pytest.param(line, service, id=f"{line.what}-{service.name}") for line in MAP for service in line.services
]


def failing() -> onnx.ModelProto:
    """A classifier of "image" [n, 2] whose run fails for values that are no index of its table."""
    return model(
        [node("Cast", "image", "index", to=TensorProto.INT64), node("Gather", "table index", "scores")],
        [value("image", ["n", 2])],
        [value("scores", ["n", 2])],
        {"table": np.arange(-1, 2, dtype=np.float32)},
    )


def logarithm() -> onnx.ModelProto:
    """A classifier of "image" [n, 2] that answers with NaN for values below 0."""
    image, scores = value("image", ["n", 2]), value("scores", ["n", 2])
    return model([node("Log", "image", "scores")], [image], [scores])


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of a LeNet, of a model whose runs may fail, and of one that can't be loaded."""
    folder = tmp_path_factory.mktemp("repository")
    add_model(folder, "lenet", lenet())
    (folder / "lenet" / "config.toml").write_text(
        '[preprocessing]\nkind = "resize"\nchannels = 1\nheight = 32\nwidth = 32\n'
    )
    add_model(folder, "failing", failing())
    add_model(folder, "logarithm", logarithm())
    add_model(folder, "broken", b"no model")
    return folder


@pytest.fixture(scope="module")
def shared_address(transport: str, repository: Path) -> Iterator[str]:
    """The address of a server of that folder."""
    with run_server(model_repository=repository, transport=transport, **LIMITS) as server:
        yield server.address


@pytest.mark.parametrize(("line", "service"), CASES)
def test_line_of_the_map(
    line: Line,
    service: Service,
    shared_address: str,
    repository: Path,
    serving: Serving,
    request: pytest.FixtureRequest,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    hold = lambda: request.getfixturevalue("held")  # noqa: E731 - only the lines that ask for it hold runs
    scene = Scene(service, shared_address, repository, serving, hold, monkeypatch)

    status, details = line.provoke(scene)

    assert status is line.status
    assert line.details in details
    assert SECRET not in details


def test_every_error_is_in_the_map() -> None:
    assert {line.error for line in MAP} - {None} == subclasses(errors.ServiceError)


def subclasses(of: type[errors.ServiceError]) -> set[type[errors.ServiceError]]:
    return {kind for child in of.__subclasses__() for kind in {child, *subclasses(child)}}
