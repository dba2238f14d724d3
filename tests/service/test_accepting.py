"""Requests that end grpcio's accept loop: calls in flight are answered, and new ones are soon."""

from __future__ import annotations

import socket
import ssl
from contextlib import suppress
from pathlib import Path
from tempfile import gettempdir
from threading import Event

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc
from hpack import Encoder
from hyperframe.frame import HeadersFrame, SettingsFrame

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.e2e.attacker import PREFACE
from tests.service.certificates import authority, pair_of
from tests.service.conftest import HeldRuns
from tests.service.test_classify import digits
from tests.serving import Serving, serving

REQUEST = pb.ClassifyRequest(tensor=pack(digits(1)))
TIMEOUT_S = 20
# Paths and headers that aren't UTF-8, in the places that a server may decode.
STRANGE = {
    "path": {b":path": b"/x/\xff"},
    "known method": {b":path": b"/featurelens.v1.Classifier/Classify\xff"},
    "authority": {b":authority": b"\xff"},
    "metadata": {b"x-strange": b"\xff\xfe"},
    "user agent": {b"user-agent": b"\xc3\x28"},
    "timeout": {b"grpc-timeout": b"\xff"},
    "encoding": {b"grpc-encoding": b"\xff"},
}


def strange_call(connection: socket.socket, changed: dict[bytes, bytes]) -> None:
    """Send a call with other headers than a client would."""
    headers = {
        b":method": b"POST",
        b":scheme": b"http",
        b":path": b"/featurelens.v1.Classifier/ListModels",
        b":authority": b"x",
        b"te": b"trailers",
        b"content-type": b"application/grpc",
    } | changed
    frame = HeadersFrame(1, Encoder().encode(list(headers.items())), flags=["END_HEADERS", "END_STREAM"])
    connection.sendall(PREFACE + SettingsFrame(0).serialize() + frame.serialize())
    connection.settimeout(TIMEOUT_S)
    while connection.recv(1 << 16):  # until the server is done with it, or has closed the connection
        connection.settimeout(0.2)


def attack(address: str, changed: dict[bytes, bytes]) -> None:
    host, _, port = address.rpartition(":")
    connection = socket.create_connection((host, int(port)), TIMEOUT_S)
    with connection, suppress(OSError):  # it was closed, or there is nothing more to read
        strange_call(connection, changed)


def call(address: str) -> pb.ClassifyResponse:
    with grpc.insecure_channel(address) as channel:
        response: pb.ClassifyResponse = ClassifierStub(channel).Classify(
            REQUEST, timeout=TIMEOUT_S, wait_for_ready=True
        )
        return response


@pytest.mark.parametrize("changed", STRANGE.values(), ids=STRANGE)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_strange_call_ends_nothing(serving: Serving, changed: dict[bytes, bytes]) -> None:
    with serving() as server:
        for _ in range(3):
            attack(server.address, changed)
            assert call(server.address).results


def test_calls_in_flight_are_answered(held: HeldRuns) -> None:
    with serving(transport="grpcio") as server, grpc.insecure_channel(server.address) as channel:
        in_flight = ClassifierStub(channel).Classify.future(REQUEST, timeout=TIMEOUT_S)
        assert held.started.wait(TIMEOUT_S)
        attack(server.address, STRANGE["path"])
        with grpc.insecure_channel(server.address) as other:  # the loop has ended, and another began
            health = health_pb2_grpc.HealthStub(other)
            health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S, wait_for_ready=True)
        assert not in_flight.done()
        held.may_run.set()
        assert in_flight.result().results
        assert call(server.address).results


def test_a_call_in_flight_may_outlive_the_server_that_took_it(held: HeldRuns) -> None:
    """The server stops while a call is left over from an accept loop that ended."""
    with serving(transport="grpcio") as server:
        channel = grpc.insecure_channel(server.address)
        in_flight = ClassifierStub(channel).Classify.future(REQUEST, timeout=TIMEOUT_S)
        assert held.started.wait(TIMEOUT_S)
        attack(server.address, STRANGE["path"])
        held.may_run.set()
    assert in_flight.result().results
    channel.close()


def test_over_tls(tmp_path: Path) -> None:
    issuer, ca_file = authority(tmp_path)
    pair = pair_of(issuer.issue_cert("127.0.0.1"), tmp_path / "server")
    with serving(tls_cert=pair.cert, tls_key=pair.key) as server:
        secrets = grpc.ssl_channel_credentials(ca_file.read_bytes())
        host, _, port = server.address.rpartition(":")
        context = ssl.create_default_context(cafile=str(ca_file))
        context.set_alpn_protocols(["h2"])
        plain = socket.create_connection((host, int(port)), TIMEOUT_S)
        with context.wrap_socket(plain, server_hostname=host) as connection, suppress(OSError):
            strange_call(connection, STRANGE["path"])
        with grpc.secure_channel(server.address, secrets) as channel:
            assert ClassifierStub(channel).Classify(REQUEST, timeout=TIMEOUT_S, wait_for_ready=True).results


def test_the_server_behind_the_native_transport() -> None:
    """What comes through the Unix socket is caught as well."""
    before = set(Path(gettempdir()).glob("featurelens-*/grpcio.sock"))
    with serving(transport="native") as server:
        (path,) = set(Path(gettempdir()).glob("featurelens-*/grpcio.sock")) - before
        for _ in range(2):
            with socket.socket(socket.AF_UNIX) as connection:
                connection.connect(str(path))
                with suppress(OSError):
                    strange_call(connection, STRANGE["path"])
            _until_serving(server.address)


def _until_serving(address: str, tries: int = 400) -> None:
    for _ in range(tries):
        with grpc.insecure_channel(address) as channel, suppress(grpc.RpcError):
            health = health_pb2_grpc.HealthStub(channel)
            health.Check(health_pb2.HealthCheckRequest(), timeout=TIMEOUT_S)
            return
        Event().wait(0.025)
    pytest.fail("it doesn't serve again")
