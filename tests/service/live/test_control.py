"""Models that are loaded and unloaded on request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from queue import SimpleQueue
from threading import Event, Thread
from typing import cast

import grpc
import pytest

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.inference import messages as pb
from service.attempts import Attempts
from service.control import Control
from service.errors import CancelledError, DrainingError, ServiceError
from service.folder_view import FolderView
from service.live import Done, LiveRepository
from service.peers import Alone
from service.reconciler import Reconciler
from service.trial import Trial, TrialLimits
from tests.service.live.repositories import ask, configure, index, put, refusal
from tests.service.live.test_trial import OPTIONS
from tests.service.oip.stub import InferenceStub, failure
from tests.serving import Serving

NO_TRIAL = TrialLimits(0, 0)
UNLOADED = "unloaded on request; RepositoryModelLoad brings it back"


@pytest.fixture
def unwatched(folder: Path, serving: Serving) -> Iterator[grpc.Channel]:
    """A server that changes nothing unless it is asked to."""
    settings = {"watch": False, "trial_timeout_s": 0, "model_control": True}
    with (
        serving(model_repository=folder, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        yield channel


def load(stub: InferenceStub, name: str = "tiny") -> None:
    stub.RepositoryModelLoad(pb.RepositoryModelLoadRequest(model_name=name))


def unload(stub: InferenceStub, name: str = "tiny") -> None:
    stub.RepositoryModelUnload(pb.RepositoryModelUnloadRequest(model_name=name))


def test_a_version_is_loaded_when_it_is_asked_for(folder: Path, unwatched: grpc.Channel) -> None:
    stub, inference = ClassifierStub(unwatched), InferenceStub(unwatched)
    put(folder, "tiny", 2)
    put(folder, "other", 1)
    configure(folder, "other", "")
    configure(folder, "tiny", "versions.all = true")
    load(inference)
    assert index(stub) == {"tiny/1": ("READY", ""), "tiny/2": ("READY", "")}
    assert ask(stub) == ("2", 2.0)
    load(inference, "other")
    assert ask(stub, name="other") == ("1", 1.0)


def test_a_model_is_unloaded_until_it_is_loaded(folder: Path, channel: grpc.Channel) -> None:
    stub, inference = ClassifierStub(channel), InferenceStub(channel)
    unload(inference)
    assert index(stub) == {"tiny/1": ("UNAVAILABLE", UNLOADED)}
    assert refusal(stub)[0] is grpc.StatusCode.UNAVAILABLE
    put(folder, "tiny", 2)
    load(inference)
    assert index(stub) == {"tiny/2": ("READY", "")}
    assert ask(stub) == ("2", 2.0)


def test_what_is_refused_says_why_and_is_tried_again(folder: Path, unwatched: grpc.Channel) -> None:
    stub, inference = ClassifierStub(unwatched), InferenceStub(unwatched)
    put(folder, "tiny", 2, b"no model")
    message = pb.RepositoryModelLoadRequest(model_name="tiny")
    for _ in range(2):
        code, details = failure(inference.RepositoryModelLoad, message)
        assert code is grpc.StatusCode.FAILED_PRECONDITION
        assert details.startswith('model "tiny": version 2: model.onnx can\'t be loaded: ')
        assert ask(stub) == ("1", 1.0)
    put(folder, "tiny", 3)
    load(inference)
    assert ask(stub) == ("3", 3.0)


@pytest.mark.parametrize(
    ("method", "fields", "code", "text"),
    [
        ("Load", {"model_name": "nothing"}, "NOT_FOUND", 'the model repository holds no model "nothing"'),
        ("Unload", {"model_name": "nothing"}, "NOT_FOUND", 'there is no model "nothing"'),
        ("Load", {"model_name": "../models/tiny"}, "NOT_FOUND", "the model repository holds no model "),
        ("Load", {}, "INVALID_ARGUMENT", "the request names no model"),
        ("Unload", {"repository_name": "mine"}, "INVALID_ARGUMENT", "there is one repository"),
        (
            "Load",
            {
                "model_name": "tiny",
                "parameters": {"file:1/model.onnx": pb.ModelRepositoryParameter(bytes_param=b"")},
            },
            "INVALID_ARGUMENT",
            "a model is loaded of the repository's files",
        ),
    ],
)
def test_requests_that_can_not_be_met(
    inference: InferenceStub, method: str, fields: dict[str, object], code: str, text: str
) -> None:
    request = getattr(pb, f"RepositoryModel{method}Request")(**fields)
    got, details = failure(getattr(inference, f"RepositoryModel{method}"), request)
    assert (got.name, details[: len(text)]) == (code, text)


class SlowRepository:
    """Meets the first request when it is let, and the others at once."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.begun = Event()
        self.may_go_on = Event()

    def load(self, name: str, done: Done) -> None:
        self.asked.append(name)
        self.begun.set()
        assert self.may_go_on.wait(20)
        done(None)

    unload = load


@pytest.fixture
def slow() -> Iterator[tuple[SlowRepository, Control]]:
    repository = SlowRepository()
    control = Control(Alone(), cast("LiveRepository", repository))
    yield repository, control
    repository.may_go_on.set()
    control.close()


def test_requests_whose_callers_have_gone_are_not_met(slow: tuple[SlowRepository, Control]) -> None:
    repository, control = slow
    outcomes: SimpleQueue[ServiceError | None] = SimpleQueue()
    control.load("first", outcomes.put, lambda: None)
    control.load("given up", outcomes.put, lambda: CancelledError("gone"))
    control.load("last", outcomes.put, lambda: None)
    repository.may_go_on.set()
    first, second, third = (outcomes.get(timeout=20) for _ in range(3))
    assert (first, type(second), third) == (None, CancelledError, None)
    assert repository.asked == ["first", "last"]


def test_requests_that_wait_are_refused_at_the_end(slow: tuple[SlowRepository, Control]) -> None:
    repository, control = slow
    outcomes: SimpleQueue[ServiceError | None] = SimpleQueue()
    for name in "abcd":
        control.load(name, outcomes.put, lambda: None)
    assert repository.begun.wait(20)
    closing = Thread(target=control.close)
    closing.start()
    while not control.is_closing:
        closing.join(0.01)
    repository.may_go_on.set()
    closing.join(20)
    told = [outcomes.get(timeout=20) for _ in range(4)]
    assert told[0] is None
    assert [type(error) for error in told[1:]] == [DrainingError] * 3
    assert repository.asked == ["a"]


def test_a_repository_that_has_stopped_refuses(folder: Path) -> None:
    """Requests that come after its end are answered, and not kept for ever."""
    reconciler = cast("Reconciler", SlowRepository())
    attempts = Attempts(FolderView(folder, {}, 0.1), Trial(NO_TRIAL), OPTIONS, lambda: None)
    live = LiveRepository(folder, reconciler, attempts, Event(), watch=False)
    live.close()
    outcomes: SimpleQueue[ServiceError | None] = SimpleQueue()
    live.load("tiny", outcomes.put)
    assert isinstance(outcomes.get(timeout=20), DrainingError)
