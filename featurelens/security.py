"""What a client proves and asks for: its token, TLS, its own certificate."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import grpc

from featurelens.errors import FeaturelensError

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class Tls:
    """PEM files for TLS; whoever gives `cert` gives `key` too."""

    ca: str | os.PathLike[str] | None = None
    """Authorities that may vouch for the server; without one, those that gRPC brings."""
    cert: str | os.PathLike[str] | None = None
    """The client's own certificate, for servers that ask for one."""
    key: str | os.PathLike[str] | None = None
    """Its private key."""


def credentials(tls: Tls | bool) -> grpc.ChannelCredentials | None:
    """Make a channel's credentials; None: plain text.

    Raises:
        FeaturelensError: INVALID_ARGUMENT, a file can't be read or one of a pair is missing.
    """
    if tls is False:
        return None
    files = Tls() if tls is True else tls
    if (files.cert is None) != (files.key is None):
        raise FeaturelensError("INVALID_ARGUMENT", "a certificate and its key go together: give both")
    return grpc.ssl_channel_credentials(_read(files.ca), _read(files.key), _read(files.cert))


def _read(file: str | os.PathLike[str] | None) -> bytes | None:
    try:
        return None if file is None else Path(file).read_bytes()
    except OSError as error:
        raise FeaturelensError("INVALID_ARGUMENT", f"can't read {file}: {error.strerror}") from error


def bearer(token: str) -> Metadata:
    """Make the metadata that shows a token.

    Raises:
        FeaturelensError: INVALID_ARGUMENT, no token looks like this.
    """
    if not token:
        return ()
    if not (token.isascii() and token.isprintable()) or " " in token:
        raise FeaturelensError("INVALID_ARGUMENT", "the token holds characters that no token has")
    return (("authorization", f"Bearer {token}"),)
