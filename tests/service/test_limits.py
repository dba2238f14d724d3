"""Every limit of docs/limits.md: its default is the setting's, and it bites as the document says."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Event

import grpc
import pytest
from PIL import Image

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.errors import InvalidRequestError
from service.model import Model
from service.settings import Settings
from tests.e2e.attacker import Attacker, read_until_reset
from tests.service import onnx_models
from tests.service.conftest import HeldRuns, add_model
from tests.service.test_classify import digits, encoded
from tests.serving import Serving

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT_S = 20.0


@dataclass(frozen=True)
class Row:
    limit: str
    default: str
    over_it: str


def rows() -> Iterator[Row]:
    for line in (ROOT / "docs" / "limits.md").read_text().splitlines():
        if line.startswith("| ") and not line.startswith("| limit |"):
            limit, default, _, over_it = (cell.strip() for cell in line.strip("|").split("|"))
            yield Row(limit.strip("`"), default, over_it)


ROWS = {row.limit: row for row in rows()}


def of_tensor(images: int, **fields: object) -> pb.ClassifyRequest:
    return pb.ClassifyRequest(tensor=pack(digits(images)), **fields)  # type: ignore[arg-type] # as the message's


def of_picture(width: int, height: int) -> pb.ClassifyRequest:
    picture = encoded(Image.new("L", (width, height)))
    return pb.ClassifyRequest(images=pb.EncodedImages(images=[picture]))


@dataclass(frozen=True)
class Case:
    """A request within a limit, and one over it."""

    within: pb.ClassifyRequest
    over: pb.ClassifyRequest
    settings: dict[str, object] = field(default_factory=dict)


REQUESTS = {
    "max_request_bytes": Case(of_tensor(2), of_tensor(3), {"max_request_bytes": 10_000}),
    "max_response_bytes": Case(
        of_tensor(1, layers=["conv1"]), of_tensor(2, layers=["conv1"]), {"max_response_bytes": 30_000}
    ),
    "max_images_per_request": Case(of_tensor(2), of_tensor(3), {"max_images_per_request": 2}),
    "max_layers_per_request": Case(
        of_tensor(1, layers=["conv1"]), of_tensor(1, layers=["conv1", "relu1"]), {"max_layers_per_request": 1}
    ),
    "max_image_pixels": Case(of_picture(30, 20), of_picture(30, 21), {"max_image_pixels": 600}),
    "max_image_side": Case(of_picture(30, 2), of_picture(31, 2), {"max_image_side": 30}),
    "characters of a request's id": Case(of_tensor(1, id="i" * 256), of_tensor(1, id="i" * 257)),
}

ELSEWHERE = {
    "bytes of runs' tensors": (
        "tests/service/test_output_sizes.py::test_a_run_that_wants_more_memory_than_runs_may_take_fails_alone"
    ),
    "worker_timeout_s": "tests/e2e/test_worker_deaths.py::test_a_worker_that_hangs_is_replaced",
    "seconds to end besides drain and grace": (
        "tests/service/test_supervisor.py::test_workers_that_hang_are_ended_with_the_supervisor"
    ),
    "scans of a JPEG": "tests/service/test_images.py::test_jpeg_with_too_many_scans_is_refused",
    "classes in an answer, as texts": (
        "tests/service/oip/test_classification.py::test_too_many_texts_are_refused"
    ),
    "run_timeout_s": "tests/service/test_failures.py::test_a_run_that_hangs_is_ended_and_the_model_serves_on",
    "seconds of a model's trials at load": (
        "tests/service/test_warm_up.py::test_a_run_without_end_is_stopped_and_refused"
    ),
    "max_concurrent_calls": "tests/service/test_calls.py::test_calls_over_the_limit_are_refused_at_once",
    "max_queue_size": "tests/service/test_calls.py::test_a_full_queue_is_resource_exhausted",
    "tap_sessions": "tests/service/test_taps.py::test_the_least_recently_used_is_dropped",
    "tap_memory_mib": "tests/service/test_taps.py::test_what_many_models_hold_is_bounded",
    "building sessions for layers": (
        "tests/service/test_tap_limits.py::test_a_flood_of_new_sets_is_refused_and_known_ones_are_answered"
    ),
    "max_connections": "tests/e2e/test_attacks.py::test_of_too_many_connections_the_idlest_are_closed",
    "max_unread_bytes": "tests/e2e/test_attacks.py::test_who_leaves_answers_unread_is_disconnected",
    "seconds to begin to speak": (
        "tests/service/test_connections.py::test_who_does_not_begin_to_speak_is_disconnected"
    ),
    "seconds of silence": "tests/service/test_connections.py::test_who_answers_no_ping_is_disconnected",
}

HERE = {
    "bytes of metadata": "test_metadata_over_the_limit_is_refused",
    "characters of an error's message": "test_a_long_message_is_cut",
    "default_deadline_s": "test_deadlines",
    "max_deadline_s": "test_deadlines",
    "grace_s": "test_what_outlives_the_grace_is_ended",
    "max_batch_size": "test_a_request_over_the_batch_size_is_run_in_slices",
    "max_streams": "test_streams_over_the_limit_are_refused",
    "max_stream_in_flight": "test_a_stream_waits_for_its_slots",
    "max_model_bytes": "test_a_model_over_the_limit_is_unavailable",
    "calls on a connection": "test_calls_over_those_of_a_connection_are_refused",
}


def test_every_limit_has_a_test() -> None:
    assert ROWS.keys() == REQUESTS.keys() | ELSEWHERE.keys() | HERE.keys()
    for test in [*ELSEWHERE.values(), *(f"tests/service/test_limits.py::{name}" for name in HERE.values())]:
        path, _, name = test.partition("::")
        assert f"def {name}(" in (ROOT / path).read_text()


def test_defaults_are_those_of_the_settings() -> None:
    told = {row.limit: row.default for row in ROWS.values() if row.limit in Settings.model_fields}
    assert told == {name: str(Settings.model_fields[name].default) for name in told}


def test_every_setting_that_bounds_something_is_told() -> None:
    bounds = {name for name in Settings.model_fields if name.startswith("max_")} - {"max_queue_delay_us"}
    assert bounds - ROWS.keys() == set()


def outcome(call: Callable[[], object]) -> str:
    try:
        call()
    except grpc.RpcError as error:
        return str(error.code().name)
    return "OK"


@pytest.mark.parametrize("limit", REQUESTS)
def test_a_request_over_a_limit_is_refused(limit: str, serving: Serving) -> None:
    case = REQUESTS[limit]
    with serving(**case.settings) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        tried = [case.within, case.over, case.within]
        outcomes = [outcome(partial(stub.Classify, request)) for request in tried]
    assert outcomes == ["OK", ROWS[limit].over_it.strip("`"), "OK"]


def test_metadata_over_the_limit_is_refused(stub: ClassifierStub, transport: str) -> None:
    def classify(size: int) -> str:
        return outcome(lambda: stub.Classify(of_tensor(1), metadata=(("x", "v" * size),)))

    refusal = {"grpcio": "RESOURCE_EXHAUSTED", "native": "UNKNOWN"}[transport]  # so clients call status 431
    assert [classify(size) for size in (15_000, 17_000, 15_000)] == ["OK", refusal, "OK"]


def test_a_long_message_is_cut(serving: Serving, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise InvalidRequestError("x" * 5000)

    with serving() as server, grpc.insecure_channel(server.address) as channel:
        monkeypatch.setattr(Model, "check_inputs", refuse)
        with pytest.raises(grpc.RpcError) as info:
            ClassifierStub(channel).Classify(of_tensor(1))
    assert info.value.details() == "x" * 2048


@pytest.mark.parametrize(
    ("settings", "timeout_s"), [({"default_deadline_s": 0.2}, None), ({"max_deadline_s": 0.2}, TIMEOUT_S)]
)
def test_deadlines(
    held: HeldRuns, serving: Serving, settings: dict[str, object], timeout_s: float | None
) -> None:
    with serving(**settings) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        assert outcome(lambda: stub.Classify(of_tensor(1), timeout=timeout_s)) == "DEADLINE_EXCEEDED"
        held.may_run.set()
        assert outcome(lambda: stub.Classify(of_tensor(1), timeout=timeout_s)) == "OK"


def test_what_outlives_the_grace_is_ended(held: HeldRuns, serving: Serving) -> None:
    with serving(grace_s=0.2) as server:
        channel = grpc.insecure_channel(server.address)
        call = ClassifierStub(channel).Classify.future(of_tensor(1), timeout=TIMEOUT_S)
        assert held.started.wait(TIMEOUT_S)
        call.add_done_callback(lambda _: held.may_run.set())  # the server's threads end after their runs
    with channel:
        assert call.code().name in {"UNAVAILABLE", "CANCELLED"}


def test_a_request_over_the_batch_size_is_run_in_slices(serving: Serving) -> None:
    with serving(max_batch_size=2) as server, grpc.insecure_channel(server.address) as channel:
        answer = ClassifierStub(channel).Classify(of_tensor(5))
    assert len(answer.results) == 5
    assert answer.timings.run_batch_size == 2


@pytest.mark.parametrize(("slots", "together"), [(1, False), (16, True)])
def test_a_stream_waits_for_its_slots(serving: Serving, slots: int, together: bool) -> None:
    """Runs hold one request each as long as the next one isn't read before the last is answered."""
    settings = {"max_stream_in_flight": slots, "max_queue_delay_us": 50_000}
    with serving(**settings) as server, grpc.insecure_channel(server.address) as channel:
        answers = list(ClassifierStub(channel).ClassifyStream(of_tensor(1) for _ in range(16)))
    assert (max(answer.response.timings.run_batch_size for answer in answers) > 1) is together


def test_streams_over_the_limit_are_refused(serving: Serving) -> None:
    with serving(max_streams=2) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        over = Event()

        def held_open() -> Iterator[pb.ClassifyRequest]:
            yield of_tensor(1)
            over.wait(TIMEOUT_S)

        open_streams = [stub.ClassifyStream(held_open()) for _ in range(2)]
        for stream in open_streams:
            assert next(stream).response.results
        assert outcome(lambda: list(stub.ClassifyStream(iter([of_tensor(1)])))) == "RESOURCE_EXHAUSTED"
        assert outcome(lambda: stub.Classify(of_tensor(1))) == "OK"
        over.set()
        for stream in open_streams:
            assert list(stream) == []
        assert outcome(lambda: list(stub.ClassifyStream(iter([of_tensor(1)])))) == "OK"


def test_a_model_over_the_limit_is_unavailable(serving: Serving, repository: Path) -> None:
    size = max(path.stat().st_size for path in repository.rglob("*.onnx"))
    small = add_model(repository, "small", onnx_models.classifier())
    assert small.stat().st_size < size - 1
    settings = {"model_repository": repository, "max_model_bytes": size - 1}
    with serving(**settings) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        assert outcome(lambda: stub.Classify(of_tensor(1, model="lenet"))) == "UNAVAILABLE"
        assert outcome(lambda: stub.DescribeModel(pb.DescribeModelRequest(model="small"))) == "OK"


def test_calls_over_those_of_a_connection_are_refused(server_address: str) -> None:
    attacker = Attacker(server_address)
    for _ in range(300):
        attacker.headers()
    assert read_until_reset(attacker, 300 - 256)
    attacker.close()


def test_the_document_has_no_row_twice() -> None:
    text = (ROOT / "docs" / "limits.md").read_text()
    assert len(re.findall(r"^\| (?!limit \|)", text, re.MULTILINE)) == len(ROWS)
