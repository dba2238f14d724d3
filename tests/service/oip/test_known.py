"""Requests that are recognised without parsing get what they would get parsed, and nothing else does."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from weakref import ref

import numpy as np
import pytest

from protos.inference import messages as pb
from service.api.limits import RequestLimits
from service.api.oip.interface import Interface
from service.api.oip.known import Known, KnownRequests
from service.api.oip.query import Query, Urgency, query
from service.device import resolve
from service.images import ImageLimits
from service.model import Model
from service.repository import Entry, Repository, ServedModel
from tests.service.oip.stub import Code, InferenceStub, Tensor, arrays, failure, request
from tests.service.test_classify import MODEL, digits

LIMITS = RequestLimits(64, 64, 2**20, images=ImageLimits(100, 100))


def lenet_request(images: np.ndarray, **fields: Any) -> pb.ModelInferRequest:  # noqa: ANN401 - as the message takes them
    return request("lenet", [("image", "FP32", images)], **fields)


@pytest.fixture(scope="module")
def served() -> ServedModel:
    return ServedModel(
        "lenet", "1", Model(Path(MODEL).read_bytes(), resolve("cpu", threads=1)), None, finite=True
    )


@pytest.fixture
def repository(served: ServedModel) -> Repository:
    repository = Repository()
    repository.publish([Entry.loading("lenet", "1")])
    repository.publish([Entry.ready(served)])
    return repository


def query_of(served: ServedModel, images: np.ndarray) -> Query:
    interface = Interface(served)
    return query(served, interface.declared, [], {"image": images}, Urgency(), LIMITS)


def remembered(
    repository: Repository, served: ServedModel, message: pb.ModelInferRequest
) -> tuple[KnownRequests, bytes]:
    known = KnownRequests(repository)
    data = message.SerializeToString()
    known.remember(repository.generation, data, message, served, query_of(served, digits(1)))
    return known, data


def found(known: KnownRequests, data: bytes) -> Known:
    result = known.find(data)
    assert result is not None
    return result


def test_a_request_with_other_elements_is_recognised(repository: Repository, served: ServedModel) -> None:
    known, _ = remembered(repository, served, lenet_request(np.zeros((1, 1, 32, 32), np.float32)))
    data = lenet_request(digits(1)).SerializeToString()

    alike = found(known, data)

    assert alike.model() is served
    np.testing.assert_array_equal(alike.feeds(data)["image"], digits(1))
    assert not alike.feeds(data)["image"].flags.writeable


def test_a_request_that_differs_outside_of_the_elements_is_not(
    repository: Repository, served: ServedModel
) -> None:
    known, data = remembered(repository, served, lenet_request(digits(1), outputs=["relu1"]))
    elements = data.index(digits(1).tobytes())
    fixed = [*range(elements), *range(elements + 4096, len(data))]

    changed = [data[:i] + bytes([data[i] ^ 1]) + data[i + 1 :] for i in fixed]

    assert [known.find(other) for other in changed] == [None] * len(fixed)
    assert found(known, data)


@pytest.mark.parametrize(
    "other",
    [
        lenet_request(digits(2)),
        lenet_request(digits(1), id="mine"),
        lenet_request(digits(1), outputs=["relu1"]),
        lenet_request(digits(1), model_version="1"),
    ],
    ids=["items", "id", "outputs", "version"],
)
def test_a_request_of_another_length_is_not(
    repository: Repository, served: ServedModel, other: pb.ModelInferRequest
) -> None:
    known, _ = remembered(repository, served, lenet_request(digits(1)))

    assert known.find(other.SerializeToString()) is None


@pytest.mark.parametrize(
    "message",
    [
        lenet_request(digits(1), id="mine"),
        request("lenet", [("image", "BYTES", np.array(["x"], object))]),
        request("lenet", [("image", "BOOL", np.array([True]))]),
        pb.ModelInferRequest(model_name="lenet"),
        pb.ModelInferRequest(
            model_name="x" * 5000, raw_input_contents=[b""], inputs=[Tensor(datatype="FP32")]
        ),
    ],
    ids=["id", "texts", "truth values", "nothing raw", "long"],
)
def test_a_request_that_needs_a_closer_look_is_not_remembered(
    repository: Repository, served: ServedModel, message: pb.ModelInferRequest
) -> None:
    known, data = remembered(repository, served, message)

    assert known.find(data) is None


# Field 1000 as a group, with a field of its own in it. Parsers skip what they don't know.
UNKNOWN_GROUP = b"\xc3\x3e\x08\x01\xc4\x3e"


@pytest.mark.parametrize("place", ["before", "behind"])
def test_a_request_with_an_unknown_group_is_answered(lenet: InferenceStub, place: str) -> None:
    message = lenet_request(digits(1))
    encoded = message.SerializeToString()
    strange = pb.ModelInferRequest.FromString(
        UNKNOWN_GROUP + encoded if place == "before" else encoded + UNKNOWN_GROUP
    )
    for _ in range(2):  # the second may be recognised
        assert arrays(lenet.ModelInfer(strange)).keys() == arrays(lenet.ModelInfer(message)).keys()


@pytest.mark.parametrize("before", [True, False])
def test_an_unknown_group_is_no_tensor(repository: Repository, served: ServedModel, before: bool) -> None:
    message = lenet_request(digits(1))
    data = message.SerializeToString()
    data = UNKNOWN_GROUP + data if before else data + UNKNOWN_GROUP
    known = KnownRequests(repository)
    known.remember(repository.generation, data, message, served, query_of(served, digits(1)))
    assert (known.find(data) is None) == before


def test_requests_are_forgotten_when_models_change(repository: Repository, served: ServedModel) -> None:
    known, data = remembered(repository, served, lenet_request(digits(1)))
    assert found(known, data)

    repository.publish([Entry.unavailable("other", "1", "broken")])

    assert known.find(data) is None


def test_a_request_that_was_looked_up_before_a_change_is_not_remembered(
    repository: Repository, served: ServedModel
) -> None:
    known, message = KnownRequests(repository), lenet_request(digits(1))
    before = repository.generation
    repository.publish([Entry.unavailable("other", "1", "broken")])

    data = message.SerializeToString()
    known.remember(before, data, message, served, query_of(served, digits(1)))

    assert known.find(data) is None


def test_no_model_is_kept_alive(repository: Repository) -> None:
    model = ServedModel(
        "lenet", "1", Model(Path(MODEL).read_bytes(), resolve("cpu", threads=1)), None, finite=True
    )
    gone = ref(model)
    known, data = remembered(repository, model, lenet_request(digits(1)))

    del model

    assert found(known, data).model() is None
    assert gone() is None


def test_no_number_of_kinds_fills_the_memory(repository: Repository, served: ServedModel) -> None:
    known = KnownRequests(repository)
    asked = query_of(served, digits(1))
    for i in range(2000):
        message = lenet_request(np.zeros(i % 100, np.float32), model_version=f"{i:04}")
        data = message.SerializeToString()
        known.remember(repository.generation, data, message, served, asked)
        assert found(known, data)

    assert sum(map(len, known._by_length.values())) <= 512


def test_alike_requests_get_each_its_own_answer(lenet: InferenceStub) -> None:
    images = digits(8)
    together = arrays(lenet.ModelInfer(lenet_request(images, outputs=["probabilities", "relu1"])))

    for _ in range(2):  # parsed, then recognised
        for i in range(8):
            alone = arrays(
                lenet.ModelInfer(lenet_request(images[i : i + 1], outputs=["probabilities", "relu1"]))
            )
            for name, array in alone.items():
                np.testing.assert_allclose(array[0], together[name][i], atol=1e-5)


def test_alike_requests_for_other_layers_get_theirs(lenet: InferenceStub) -> None:
    for _ in range(2):
        for layer in ("relu1", "relu2", "relu3", "pool1", "pool2", "conv1", "conv2"):
            (output,) = lenet.ModelInfer(lenet_request(digits(1), outputs=[layer])).outputs
            assert output.name == layer


def test_a_recognised_request_is_refused_as_a_parsed_one_is(lenet: InferenceStub) -> None:
    bad = digits(1).copy()
    bad[0, 0, 5, 5] = np.nan
    parsed = failure(lenet.ModelInfer, lenet_request(bad))
    lenet.ModelInfer(lenet_request(digits(1)))

    assert failure(lenet.ModelInfer, lenet_request(bad)) == parsed
    assert parsed[0] is Code.INVALID_ARGUMENT


def test_recognised_requests_are_counted(lenet: InferenceStub) -> None:
    def count() -> int:
        (found,) = lenet.ModelStatistics(pb.ModelStatisticsRequest(name="lenet")).model_stats
        return int(found.inference_stats.success.count)

    before = count()
    for _ in range(5):
        lenet.ModelInfer(lenet_request(digits(1)))

    assert count() == before + 5
