"""ClassifyStream: one answer per request, errors in-band, bounded work, and clients that leave."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from threading import Event
from typing import TYPE_CHECKING

import grpc
import pytest

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.service.test_classify import digits
from tests.serving import Serving

if TYPE_CHECKING:
    from protos.featurelens.v1.classifier_pb2_grpc import ClassifierAsyncStub


def requests(count: int) -> Iterator[pb.ClassifyRequest]:
    for i in range(count):
        yield pb.ClassifyRequest(id=str(i), tensor=pack(digits(1, seed=i)), layers=["conv1"])


def test_every_request_gets_its_own_answer(stub: ClassifierStub) -> None:
    answers = {answer.id: answer.response for answer in stub.ClassifyStream(requests(300))}
    assert len(answers) == 300
    for request in list(requests(300))[::50]:
        alone = stub.Classify(request)
        assert answers[request.id].results == alone.results
        assert answers[request.id].feature_maps[0].shape == [1, 6, 28, 28]


def test_a_bad_request_is_answered_in_band_and_the_stream_goes_on(stub: ClassifierStub) -> None:
    mixed = [
        pb.ClassifyRequest(id="good", tensor=pack(digits(1))),
        pb.ClassifyRequest(id="bad", images=pb.EncodedImages(images=[b"no image"])),
        pb.ClassifyRequest(id="unknown", model="resnet"),
        pb.ClassifyRequest(id="good too", tensor=pack(digits(1))),
    ]
    answers = {answer.id: answer for answer in stub.ClassifyStream(iter(mixed))}
    assert answers.keys() == {"good", "bad", "unknown", "good too"}
    assert answers["good"].response.results == answers["good too"].response.results
    assert answers["bad"].error.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]
    assert answers["bad"].error.message.startswith("images[0]: ")
    assert answers["unknown"].error.code == grpc.StatusCode.NOT_FOUND.value[0]


async def test_answers_arrive_while_the_stream_is_open(async_stub: ClassifierAsyncStub) -> None:
    call = async_stub.ClassifyStream()
    for i in range(3):
        await call.write(pb.ClassifyRequest(id=str(i), tensor=pack(digits(1))))
        answer = await call.read()
        assert isinstance(answer, pb.ClassifyStreamResponse)
        assert answer.id == str(i)
    await call.done_writing()
    assert await call.read() is grpc.aio.EOF
    assert await call.code() is grpc.StatusCode.OK


async def test_a_client_that_leaves_frees_the_server(async_stub: ClassifierAsyncStub) -> None:
    async def endless() -> AsyncIterator[pb.ClassifyRequest]:
        while True:
            yield pb.ClassifyRequest(id="x", tensor=pack(digits(1)))

    call = async_stub.ClassifyStream(endless())
    assert isinstance(await call.read(), pb.ClassifyStreamResponse)
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call.read()
    answer = await async_stub.Classify(pb.ClassifyRequest(tensor=pack(digits(1))))
    assert len(answer.results) == 1


def test_an_empty_stream_ends_well(stub: ClassifierStub) -> None:
    assert list(stub.ClassifyStream(iter(()))) == []


def test_a_stream_with_one_slot_answers_all_in_order(serving: Serving) -> None:
    with serving(max_stream_in_flight=1) as server, grpc.insecure_channel(server.address) as channel:
        answers = list(ClassifierStub(channel).ClassifyStream(requests(20)))
    assert [answer.id for answer in answers] == [str(i) for i in range(20)]


def test_idle_streams_do_not_hold_up_the_end(serving: Serving) -> None:
    """They end as calls that should be made elsewhere; the requests before that are answered."""
    with serving(grace_s=60.0) as server:
        channel = grpc.insecure_channel(server.address)
        stub = ClassifierStub(channel)
        idle = [Idle() for _ in range(20)]
        streams = [stub.ClassifyStream(iter(each)) for each in idle]
        for stream in streams:
            assert next(stream).response.results
    for stream in streams:
        with pytest.raises(grpc.RpcError) as caught:
            next(stream)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
        assert "shutting down" in str(caught.value.details())
    for each in idle:
        each.over.set()
    channel.close()


class Idle:
    """One request, and no more until it is over."""

    def __init__(self) -> None:
        self.over = Event()

    def __iter__(self) -> Iterator[pb.ClassifyRequest]:
        yield from requests(1)
        self.over.wait(60)
