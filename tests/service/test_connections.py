"""Connections that say nothing are closed, those that speak stay; how gRPC's addresses are read."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import replace

import grpc
import pytest
from hyperframe.frame import SettingsFrame

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service import server
from service.from_settings import transport_limits
from service.settings import Settings
from service.transport.connections import Peer, connections_to, parsed
from service.transport.limits import TransportLimits
from service.transport.unread import Backlog
from tests.service.test_classify import digits
from tests.serving import Serving

REQUEST = pb.ClassifyRequest(tensor=pack(digits(1)))
TIMEOUT_S = 20


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let servers that the test starts wait for nobody."""
    limits = transport_limits

    def hasty_limits(settings: Settings) -> TransportLimits:
        return replace(
            limits(settings),
            keepalive_time_s=1,
            keepalive_timeout_s=1,
            greeting_s=0.2,
            look_at_connections_every_s=0.1,
        )

    monkeypatch.setattr(server, "transport_limits", hasty_limits)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("said", [b"", b"PRI * HTTP/2.0", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"])
def test_who_does_not_begin_to_speak_is_disconnected(serving: Serving, said: bytes) -> None:
    with serving() as running, grpc.insecure_channel(running.address) as channel, ExitStack() as stack:
        stub = ClassifierStub(channel)
        assert stub.Classify(REQUEST).results
        host, _, port = running.address.rpartition(":")
        (speaker,) = connections_to(int(port))
        for _ in range(3):
            silent = stack.enter_context(socket.create_connection((host, int(port)), TIMEOUT_S))
            silent.sendall(said)
            while silent.recv(4096):  # the server's greeting
                pass
        assert stub.Classify(REQUEST).results
        assert speaker in connections_to(int(port))


@pytest.mark.usefixtures("hasty")
def test_who_answers_no_ping_is_disconnected(serving: Serving) -> None:
    preface = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
    greeting = preface + SettingsFrame(0).serialize() + SettingsFrame(0, flags=["ACK"]).serialize()
    with serving() as running, grpc.insecure_channel(running.address) as channel:
        host, _, port = running.address.rpartition(":")
        with socket.create_connection((host, int(port)), TIMEOUT_S) as mute:
            mute.sendall(greeting)
            while mute.recv(4096):  # the server's pings
                pass
        assert ClassifierStub(channel).Classify(REQUEST).results


@pytest.mark.parametrize(
    ("peer", "expected"),
    [
        ("ipv4:127.0.0.1:50000", ("127.0.0.1", 50000)),
        ("ipv6:[::1]:50000", ("::1", 50000)),
        ("ipv6:%5B::1%5D:50000", ("::1", 50000)),
        ("ipv6:%5B::ffff:10.0.0.1%5D:50000", ("10.0.0.1", 50000)),
        ("unix:", ("", 0)),
    ],
)
def test_addresses_as_grpc_writes_them(peer: str, expected: Peer) -> None:
    assert parsed(peer) == expected


class Stream:
    def __init__(self) -> None:
        self.ended = False

    def cancel(self) -> None:
        self.ended = True


def test_of_the_streams_that_hold_answers_back_the_worst_is_ended() -> None:
    backlog, streams = Backlog(100), [Stream() for _ in range(3)]
    for stream, size in zip(streams, (20, 50, 30), strict=True):
        backlog.add(stream, size)
    assert [stream.ended for stream in streams] == [False, False, False]
    backlog.add(streams[0], 1)
    assert [stream.ended for stream in streams] == [False, True, False]
    backlog.add(streams[0], -21)
    backlog.forget(streams[2])
    backlog.add(streams[0], 100)  # all that is held back now
    assert [stream.ended for stream in streams] == [False, True, False]
