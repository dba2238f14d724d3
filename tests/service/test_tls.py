"""TLS and mutual TLS: who gets in, certificates that change under load, files that can't be used."""

from __future__ import annotations

import os
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from threading import Event, Thread

import grpc
import pytest
import structlog
import trustme

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from service.errors import StartupError
from service.security import guard_of
from service.settings import Settings
from service.transport.tls import TlsFiles, server_credentials
from tests.service.certificates import Pair, authority, pair_of
from tests.service.test_classify import digits
from tests.serving import serving

REQUEST = pb.ClassifyRequest(tensor=pack(digits(1)))
TIMEOUT_S = 20
CLIENTS = 4
CALLS_BETWEEN = 25


@pytest.fixture
def ca(tmp_path: Path) -> tuple[trustme.CA, Path]:
    return authority(tmp_path)


@pytest.fixture
def server_pair(ca: tuple[trustme.CA, Path], tmp_path: Path) -> Pair:
    return pair_of(ca[0].issue_cert("127.0.0.1"), tmp_path / "server")


def credentials(ca: Path, pair: Pair | None = None) -> grpc.ChannelCredentials:
    own = (pair.key.read_bytes(), pair.cert.read_bytes()) if pair else (None, None)
    return grpc.ssl_channel_credentials(ca.read_bytes(), *own)


def outcome(address: str, secrets: grpc.ChannelCredentials | None) -> str:
    channel = grpc.secure_channel(address, secrets) if secrets else grpc.insecure_channel(address)
    with channel:
        try:
            ClassifierStub(channel).Classify(REQUEST, timeout=TIMEOUT_S)
        except grpc.RpcError as error:
            return str(error.code().name)
    return "OK"


def presented(address: str) -> bytes:
    """Return the certificate that a new connection sees, as DER."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port))) as plain, context.wrap_socket(plain) as secure:
        return secure.getpeercert(binary_form=True) or b""


def der(issued: trustme.LeafCert) -> bytes:
    return ssl.PEM_cert_to_DER_cert(issued.cert_chain_pems[0].bytes().decode())


def test_who_trusts_the_authority_is_served_and_nobody_in_plain_text(
    ca: tuple[trustme.CA, Path], server_pair: Pair, tmp_path: Path
) -> None:
    _, stranger = authority(tmp_path, "stranger")
    with serving(tls_cert=server_pair.cert, tls_key=server_pair.key) as server:
        tried = [credentials(ca[1]), credentials(stranger), None]
        outcomes = [outcome(server.address, secrets) for secrets in tried]
    assert outcomes == ["OK", "UNAVAILABLE", "UNAVAILABLE"]


def test_with_mutual_tls_a_client_needs_a_certificate_of_the_right_authority(
    ca: tuple[trustme.CA, Path], server_pair: Pair, tmp_path: Path
) -> None:
    clients, clients_ca = authority(tmp_path, "clients")
    known = pair_of(clients.issue_cert("someone@example.org"), tmp_path / "known")
    other = pair_of(ca[0].issue_cert("someone@example.org"), tmp_path / "other")
    with serving(tls_cert=server_pair.cert, tls_key=server_pair.key, tls_client_ca=clients_ca) as server:
        tried = [credentials(ca[1], pair) for pair in (known, other, None)]
        outcomes = [outcome(server.address, secrets) for secrets in tried]
    assert outcomes == ["OK", "UNAVAILABLE", "UNAVAILABLE"]


def test_certificates_rotate_under_load_without_a_failed_call(
    ca: tuple[trustme.CA, Path], server_pair: Pair
) -> None:
    secrets = credentials(ca[1])
    issued = [ca[0].issue_cert("127.0.0.1") for _ in range(3)]
    with (
        serving(tls_cert=server_pair.cert, tls_key=server_pair.key) as server,
        calling(server.address, secrets) as load,
    ):
        for each in issued:
            server_pair.hold(each)
            assert presented(server.address) == der(each)
            load.wait_for_more_calls()
            assert outcome(server.address, secrets) == "OK"
        server_pair.cert.write_bytes(b"half a certif")
        load.wait_for_more_calls()
        assert presented(server.address) == der(issued[-1])
        assert outcome(server.address, secrets) == "OK"
    assert load.failures == []


class calling:  # noqa: N801 - used like a function, as contextlib's are
    """Clients that call all the time, each over a connection that stays and one that is new for each call."""

    def __init__(self, address: str, secrets: grpc.ChannelCredentials) -> None:
        self.failures: list[str] = []
        self._address = address
        self._secrets = secrets
        self._counts = [0] * CLIENTS
        self._more = Event()
        self._stop = Event()
        self._threads = [Thread(target=self._call, args=(index,)) for index in range(CLIENTS)]

    def __enter__(self) -> calling:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def wait_for_more_calls(self) -> None:
        """Wait until every client has made some calls more."""
        wanted = [count + CALLS_BETWEEN for count in self._counts]
        while any(count < least for count, least in zip(self._counts, wanted, strict=True)):
            self._more.clear()
            assert self._more.wait(TIMEOUT_S)

    def _call(self, index: int) -> None:
        with grpc.secure_channel(self._address, self._secrets) as channel:
            stub = ClassifierStub(channel)
            while not self._stop.is_set():
                try:
                    stub.Classify(REQUEST, timeout=TIMEOUT_S)
                except grpc.RpcError as error:
                    self.failures.append(str(error))
                if index == 0 and (code := outcome(self._address, self._secrets)) != "OK":
                    self.failures.append(code)
                self._counts[index] += 1
                self._more.set()


def test_a_new_authority_of_clients_is_taken_too(
    ca: tuple[trustme.CA, Path], server_pair: Pair, tmp_path: Path
) -> None:
    clients, clients_ca = authority(tmp_path, "clients")
    later, later_ca = authority(tmp_path, "later")
    first = credentials(ca[1], pair_of(clients.issue_cert("a@example.org"), tmp_path / "first"))
    second = credentials(ca[1], pair_of(later.issue_cert("b@example.org"), tmp_path / "second"))
    with serving(tls_cert=server_pair.cert, tls_key=server_pair.key, tls_client_ca=clients_ca) as server:
        assert [outcome(server.address, secrets) for secrets in (first, second)] == ["OK", "UNAVAILABLE"]
        shutil.move(later_ca, clients_ca)
        assert [outcome(server.address, secrets) for secrets in (first, second)] == ["UNAVAILABLE", "OK"]


def without_the_key(pair: Pair, _other: Pair) -> None:
    pair.key.unlink()


def with_the_key_of_another(pair: Pair, other: Pair) -> None:
    shutil.copy(other.key, pair.key)


def with_half_a_certificate(pair: Pair, _other: Pair) -> None:
    pair.cert.write_bytes(pair.cert.read_bytes()[:300])


def with_an_encrypted_key(pair: Pair, _other: Pair) -> None:
    from cryptography.hazmat.primitives import serialization

    key = serialization.load_pem_private_key(pair.key.read_bytes(), None)
    encryption = serialization.BestAvailableEncryption(b"password")
    kind = serialization.PrivateFormat.PKCS8
    pair.key.write_bytes(key.private_bytes(serialization.Encoding.PEM, kind, encryption))


BROKEN = [without_the_key, with_the_key_of_another, with_half_a_certificate, with_an_encrypted_key]


@pytest.mark.parametrize("spoil", BROKEN)
def test_files_that_cannot_be_used_stop_the_start(
    server_pair: Pair, ca: tuple[trustme.CA, Path], tmp_path: Path, spoil: Callable[[Pair, Pair], None]
) -> None:
    spoil(server_pair, pair_of(ca[0].issue_cert("127.0.0.1"), tmp_path / "other"))
    with pytest.raises(StartupError, match=r"TLS: \S+cert.pem, \S+key.pem can't be used together: "):
        server_credentials(TlsFiles(server_pair.cert, server_pair.key))


@pytest.mark.parametrize("spoil", BROKEN)
def test_files_that_are_spoilt_later_are_logged_once_and_the_old_ones_stay(
    server_pair: Pair, ca: tuple[trustme.CA, Path], tmp_path: Path, spoil: Callable[[Pair, Pair], None]
) -> None:
    other = pair_of(ca[0].issue_cert("127.0.0.1"), tmp_path / "other")
    with (
        serving(tls_cert=server_pair.cert, tls_key=server_pair.key) as server,
        structlog.testing.capture_logs() as lines,
    ):
        before = presented(server.address)
        spoil(server_pair, other)
        assert [presented(server.address) for _ in range(3)] == [before] * 3
        problems = [line for line in lines if line["log_level"] == "error"]
        assert len(problems) == 1
        assert "what they held before stays" in problems[0]["event"]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"tls_cert": "c.pem"}, "give both tls_cert and tls_key"),
        ({"tls_key": "k.pem"}, "give both tls_cert and tls_key"),
        ({"tls_client_ca": "ca.pem"}, "give both tls_cert and tls_key"),
        ({"tls_cert": "c.pem", "tls_key": "k.pem"}, "can't be used together"),
        ({"tls_cert": "c.pem", "tls_key": "k.pem", "transport": "native"}, "transport native has no TLS"),
    ],
)
def test_settings_that_cannot_be_are_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(StartupError, match=message), serving(**settings):
        pass


def test_over_tls_tokens_need_no_warning(server_pair: Pair) -> None:
    files = {"tls_cert": server_pair.cert, "tls_key": server_pair.key}
    with structlog.testing.capture_logs() as lines:
        assert guard_of(Settings(grpc_address="0.0.0.0:1", tokens=("a" * 64,), **files))  # type: ignore[arg-type]
    assert lines == []


@pytest.fixture
def probe(server_pair: Pair) -> Callable[[str], int]:
    """Run the health check as the container does: with the server's own variables."""
    names = {"FEATURELENS_TLS_CERT": str(server_pair.cert), "FEATURELENS_TLS_KEY": str(server_pair.key)}

    def run(address: str) -> int:
        command = [sys.executable, "-m", "service.healthcheck", address]
        return subprocess.run(command, env=os.environ | names, check=False).returncode

    return run


@pytest.mark.parametrize("mutual", [False, True])
def test_the_health_check_speaks_tls(
    ca: tuple[trustme.CA, Path],
    server_pair: Pair,
    tmp_path: Path,
    probe: Callable[[str], int],
    mutual: bool,
) -> None:
    server_pair.hold(ca[0].issue_cert("*.example.org"))
    client_ca = ca[1] if mutual else None
    with serving(tls_cert=server_pair.cert, tls_key=server_pair.key, tls_client_ca=client_ca) as server:
        assert probe(server.address) == 0
        server_pair.hold(ca[0].issue_cert("other.example.org"))  # it follows a rotation
        assert probe(server.address) == 0
        address = server.address
    assert probe(address) == 1
