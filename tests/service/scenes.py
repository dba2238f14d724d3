"""What brings about each way in which a call can end, in terms of neither service."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from queue import Queue
from typing import Any

import grpc
import numpy as np
import pytest
import structlog

from protos.featurelens.v1 import classifier_pb2 as classifier
from protos.inference import messages as inference
from protos.tensors import pack
from service.model import Model
from tests.service.conftest import HeldRuns
from tests.service.oip import stub
from tests.serving import Serving

Code = grpc.StatusCode
Outcome = tuple[Code, str]

TIMEOUT_S = 30
SECRET = "/models/x.onnx"  # noqa: S105 - a path, which nobody but the log is to be told
DIGIT = np.random.default_rng(0).random((1, 1, 32, 32), np.float32)


@dataclass(frozen=True)
class Ask:
    """A request."""

    model: str = "lenet"
    version: str = ""
    array: np.ndarray = field(default_factory=lambda: DIGIT)
    images: tuple[bytes, ...] = ()
    layers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Service:
    """A method that runs models."""

    name: str
    method: str
    message: Callable[[Ask], Any]
    answer: type[Any]


def classify_message(ask: Ask) -> classifier.ClassifyRequest:
    message = classifier.ClassifyRequest(model=ask.model, version=ask.version, layers=ask.layers)
    if ask.images:
        message.images.images.extend(ask.images)
    else:
        message.tensor.CopyFrom(pack(ask.array))
    return message


def infer_message(ask: Ask) -> inference.ModelInferRequest:
    image: Any = ("image", "FP32", ask.array)
    if ask.images:
        image = ("image", "BYTES", np.array(ask.images, object))
    return stub.request(ask.model, [image], ask.layers, model_version=ask.version)


CLASSIFY = Service(
    "Classify", "/featurelens.v1.Classifier/Classify", classify_message, classifier.ClassifyResponse
)
INFER = Service(
    "ModelInfer", "/inference.GRPCInferenceService/ModelInfer", infer_message, inference.ModelInferResponse
)


class Caller:
    """Calls one method of a server."""

    def __init__(self, channel: grpc.Channel, service: Service) -> None:
        self.channel = channel
        self._service = service
        self._call: Any = channel.unary_unary(
            service.method, lambda message: message.SerializeToString(), service.answer.FromString
        )

    def start(self) -> Any:  # noqa: ANN401 - grpc's future, which has no public type
        """Make a call that nothing is wrong with, and don't wait for it."""
        return self._call.future(self._service.message(Ask()), timeout=TIMEOUT_S)

    def end(self, ask: Ask | None = None, timeout: float | None = TIMEOUT_S) -> Outcome:
        """Make a call and tell how it ended."""
        return outcome_of(self._call, self._service.message(ask or Ask()), timeout)


def outcome_of(
    call: Any,  # noqa: ANN401 - grpc's
    message: object,
    timeout: float | None = TIMEOUT_S,
    metadata: tuple[tuple[str, str], ...] = (),
) -> Outcome:
    try:
        _, ended = call.with_call(message, timeout=timeout, metadata=metadata)
    except grpc.RpcError as error:
        ended = error
    return ended.code(), ended.details()


@dataclass(frozen=True)
class Scene:
    """What may be used to bring an end about."""

    service: Service
    shared_address: str
    """A server for requests that are enough by themselves."""
    repository: Path
    """The models of that server."""
    serving: Serving
    hold: Callable[[], HeldRuns]
    patch: pytest.MonkeyPatch

    @contextmanager
    def server(self, **settings: object) -> Iterator[Caller]:
        """Start a server with settings of its own."""
        with self.serving(**settings) as server, grpc.insecure_channel(server.address) as channel:
            yield Caller(channel, self.service)


Provoke = Callable[[Scene], Outcome]


def asking(**ask: Any) -> Provoke:  # noqa: ANN401 - as Ask takes them
    """Send a request; the server serves the next."""

    def provoke(scene: Scene) -> Outcome:
        with grpc.insecure_channel(scene.shared_address) as channel:
            caller = Caller(channel, scene.service)
            outcome = caller.end(Ask(**ask))
            assert caller.end()[0] is Code.OK
            return outcome

    return provoke


def sending(method: str, data: bytes = b"") -> Provoke:
    """Send bytes to a method, by its full name."""

    def provoke(scene: Scene) -> Outcome:
        with grpc.insecure_channel(scene.shared_address) as channel:
            return outcome_of(channel.unary_unary(method, None, None), data)

    return provoke


def a_full_queue(scene: Scene) -> Outcome:
    held = scene.hold()
    with scene.server(max_queue_size=1) as caller:
        running = caller.start()
        assert held.started.wait(TIMEOUT_S)
        ended: Queue[Any] = Queue()
        for _ in range(2):
            caller.start().add_done_callback(ended.put)
        refused = ended.get(timeout=TIMEOUT_S)
        held.may_run.set()
        assert {running.code(), ended.get(timeout=TIMEOUT_S).code()} == {Code.OK}
        return refused.code(), refused.details()


def too_many_calls(scene: Scene) -> Outcome:
    held = scene.hold()
    with scene.server(max_concurrent_calls=1) as caller:
        running = caller.start()
        assert held.started.wait(TIMEOUT_S)
        outcome = caller.end()
        held.may_run.set()
        assert running.code() is Code.OK
        assert caller.end()[0] is Code.OK
        return outcome


def a_load_of_a_broken_model(scene: Scene) -> Outcome:
    message = inference.RepositoryModelLoadRequest(model_name="broken").SerializeToString()
    with scene.server(model_repository=scene.repository, model_control=True) as caller:
        load: Any = caller.channel.unary_unary(
            f"/{inference.SERVICE.full_name}/RepositoryModelLoad", None, None
        )
        outcome = outcome_of(load, message)
        assert caller.end()[0] is Code.OK
        return outcome


def no_token(scene: Scene) -> Outcome:
    with scene.server(tokens=[sha256(b"a-token").hexdigest()]) as caller:
        return caller.end()


def a_token_that_may_not_control(scene: Scene) -> Outcome:
    hashes = {name: [sha256(name.encode()).hexdigest()] for name in ("tokens", "control_tokens")}
    settings = {"model_repository": scene.repository, "model_control": True, **hashes}
    message = inference.RepositoryModelLoadRequest(model_name="lenet").SerializeToString()
    with scene.server(**settings) as caller:
        load: Any = caller.channel.unary_unary(
            f"/{inference.SERVICE.full_name}/RepositoryModelLoad", None, None
        )
        return outcome_of(load, message, metadata=(("authorization", "Bearer tokens"),))


def the_callers_deadline(scene: Scene) -> Outcome:
    held = scene.hold()
    with scene.server() as caller:
        outcome = caller.end(timeout=0.3)
        held.may_run.set()
        assert caller.end()[0] is Code.OK
        return outcome


def the_servers_deadline(scene: Scene) -> Outcome:
    held = scene.hold()
    with scene.server(default_deadline_s=0.3) as caller:
        outcome = caller.end(timeout=None)
        held.may_run.set()
        return outcome


def a_cancelled_call(scene: Scene) -> Outcome:
    """Judged by the server's log: the status that a client sees of its own cancellation is its own."""
    held = scene.hold()
    with _log_lines() as lines, scene.server() as caller:
        running = caller.start()
        assert held.started.wait(TIMEOUT_S)
        running.cancel()
        line = next(line for line in iter(lambda: lines.get(timeout=TIMEOUT_S), None) if "code" in line)
        held.may_run.set()
        assert caller.end()[0] is Code.OK
    return grpc.StatusCode[line["code"]], line["error"]


@contextmanager
def _log_lines() -> Iterator[Queue[dict[str, Any]]]:
    lines: Queue[dict[str, Any]] = Queue()

    def keep(_: object, __: str, line: Any) -> Any:  # noqa: ANN401 - as structlog has it
        lines.put(line)
        raise structlog.DropEvent

    processors = structlog.get_config()["processors"]
    structlog.configure(processors=[keep])
    try:
        yield lines
    finally:
        structlog.configure(processors=processors)


def a_server_that_drains(scene: Scene) -> Outcome:
    """Call on while the server stops, which a run that was accepted before keeps it from."""
    held = scene.hold()

    def call_until_refused(caller: Caller) -> Outcome:
        ends = iter(lambda: caller.end(timeout=0.3), None)
        # Until it stops calls wait for the run; one that meets the stop itself grpcio's core may cancel.
        refused = next(end for end in ends if end[0] not in (Code.DEADLINE_EXCEEDED, Code.CANCELLED))
        held.may_run.set()
        return refused

    with ThreadPoolExecutor(1) as thread, ExitStack() as stack:
        with scene.serving(grace_s=TIMEOUT_S) as server:
            caller = Caller(stack.enter_context(grpc.insecure_channel(server.address)), scene.service)
            running = caller.start()
            assert held.started.wait(TIMEOUT_S)
            refused = thread.submit(call_until_refused, caller)
        assert running.code() is Code.OK
        return refused.result()


def a_fault_of_ours(scene: Scene) -> Outcome:
    def explode(*_: object, **__: object) -> None:
        raise ValueError(SECRET)

    with scene.server() as caller:
        with scene.patch.context() as patch:
            patch.setattr(Model, "check_inputs", explode)
            outcome = caller.end()
        assert caller.end()[0] is Code.OK
        return outcome
