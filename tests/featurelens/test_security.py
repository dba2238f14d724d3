"""Tokens and TLS from the client's side: the clients for Python and the command."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest

from featurelens import AsyncClient, Client, FeaturelensError
from tests.featurelens.conftest import Command
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
    file.write_text(f"{SESAME}\n")
    assert command("models", "--server", guarded, "--token-file", file).status == 0
    monkeypatch.setenv("FEATURELENS_TOKEN", SESAME)
    assert command("models", "--server", guarded).status == 0
    monkeypatch.setenv("FEATURELENS_TOKEN", "sesame")
    refused = command("models", "--server", guarded)
    assert (refused.status, refused.out) == (2, "")
    assert refused.err.startswith("featurelens: the call needs a token")
    missing = command("models", "--server", guarded, "--token-file", tmp_path / "nothing")
    assert (missing.status, missing.err.startswith("featurelens: can't read the token in ")) == (2, True)
