"""Tokens and TLS from the client's side: the clients for Python and the command."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from featurelens import AsyncClient, Client, FeaturelensError, Tls
from tests.featurelens.conftest import Command
from tests.service.certificates import Pair, authority, pair_of
from tests.serving import serving

SESAME = "open-sesame"


@pytest.fixture(scope="module")
def guarded() -> Iterator[str]:
    """The address of a server that asks for a token."""
    with serving(tokens=sha256(SESAME.encode()).hexdigest()) as server:
        yield server.address


def test_a_client_shows_its_token_in_calls_and_streams(guarded: str, seven: Path) -> None:
    with Client(guarded, token=SESAME) as client:
        assert client.classify(seven).label == "7"
        assert [getattr(outcome, "label", None) for outcome in client.classify_stream([seven])] == ["7"]
        assert client.is_serving()


async def test_an_asyncio_client_does_so_too(guarded: str, seven: Path) -> None:
    async with AsyncClient(guarded, token=SESAME) as client:
        assert (await client.classify(seven)).label == "7"
        outcomes = [outcome async for outcome in client.classify_stream([seven])]
        assert [getattr(outcome, "label", None) for outcome in outcomes] == ["7"]
        assert await client.is_serving()


@pytest.mark.parametrize("token", ["", "sesame"])
def test_without_the_right_token_only_health_is_told(guarded: str, token: str, seven: Path) -> None:
    with Client(guarded, token=token) as client:
        with pytest.raises(FeaturelensError, match="UNAUTHENTICATED: the call needs a token"):
            client.models()
        with pytest.raises(FeaturelensError, match="UNAUTHENTICATED: the call needs a token"):
            list(client.classify_stream([seven]))
        assert client.is_serving()


@pytest.mark.parametrize("token", ["two words", "line\n", "ü"])
def test_what_is_no_token_is_refused_and_not_repeated(token: str) -> None:
    with pytest.raises(FeaturelensError, match="INVALID_ARGUMENT") as info:
        Client(token=token)
    assert token not in str(info.value)


def test_the_command_takes_its_token_from_a_file_or_the_environment(
    guarded: str, command: Command, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "token"
    for text in (f"{SESAME}\n", f"\ufeff{SESAME}\r\n"):
        file.write_text(text)
        assert command("models", "--server", guarded, "--token-file", file).status == 0
    monkeypatch.setenv("FEATURELENS_TOKEN", SESAME)
    assert command("models", "--server", guarded).status == 0
    monkeypatch.setenv("FEATURELENS_TOKEN", "sesame")
    refused = command("models", "--server", guarded)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith("featurelens: the call needs a token")
    missing = command("models", "--server", guarded, "--token-file", tmp_path / "nothing")
    assert (missing.status, missing.err.startswith("featurelens: can't read the token in ")) == (2, True)


@dataclass(frozen=True)
class Sealed:
    """A server with mutual TLS, and what its clients need."""

    address: str
    ca: Path
    own: Pair


@pytest.fixture(scope="module")
def sealed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sealed]:
    folder = tmp_path_factory.mktemp("certificates")
    ca, file = authority(folder)
    server = pair_of(ca.issue_cert("127.0.0.1"), folder / "server")
    own = pair_of(ca.issue_cert("me@example.org"), folder / "own")
    with serving(tls_cert=server.cert, tls_key=server.key, tls_client_ca=file) as running:
        yield Sealed(running.address, file, own)


async def test_clients_speak_tls_and_show_a_certificate(sealed: Sealed, seven: Path) -> None:
    tls = Tls(ca=sealed.ca, cert=sealed.own.cert, key=sealed.own.key)
    with Client(sealed.address, tls=tls) as client:
        assert client.classify(seven).label == "7"
    async with AsyncClient(sealed.address, tls=tls) as aio:
        assert (await aio.classify(seven)).label == "7"


def test_the_command_speaks_tls(sealed: Sealed, command: Command) -> None:
    server, own = ("models", "--server", sealed.address), ("--cert", sealed.own.cert, "--key", sealed.own.key)
    assert command(*server, "--ca", sealed.ca, *own).status == 0
    for arguments, problem in [
        ((*server, "--tls", *own), f"no TLS with {sealed.address}: "),
        ((*server, "--ca", sealed.ca), f"{sealed.address} closes the connection; it may want TLS, or a cert"),
        (server, f"{sealed.address} closes the connection; it may want TLS, or a certificate"),
        ((*server, "--cert", sealed.own.cert), "a certificate and its key go together: give both"),
        ((*server, "--ca", "nowhere.pem"), "can't read nowhere.pem: No such file or directory"),
    ]:
        refused = command(*arguments)
        assert (refused.status, refused.out) == (2, "")
        assert refused.err.startswith(f"featurelens: {problem}")
