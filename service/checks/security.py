"""Checks of what guards the door: TLS and tokens."""

from __future__ import annotations

from structlog.testing import capture_logs

from service.checks.finding import Finding, bad, good, notice
from service.errors import StartupError
from service.security import guard_of, is_loopback, tls_files
from service.settings import Settings
from service.transport.tls import server_credentials


def door(settings: Settings) -> list[Finding]:
    """Check the files of TLS and of tokens, and whether strangers find the door open."""
    return [_tls(settings), _tokens(settings)]


def _tls(settings: Settings) -> Finding:
    try:
        files = tls_files(settings)
        if files is not None:
            server_credentials(files)
            told = "clients prove who they are" if files.client_ca else "any client may connect"
            return good("TLS", f"{files.cert} and its key fit together; {told}")
    except StartupError as error:
        return bad("TLS", str(error), "correct --tls-cert, --tls-key and --tls-client-ca")
    if is_loopback(settings.grpc_address):
        return good("TLS", "none; only this machine reaches the server")
    advice = "give --tls-cert and --tls-key, or leave TLS to a proxy"
    return notice("TLS", f"none, and others reach {settings.grpc_address}", advice)


def _tokens(settings: Settings) -> Finding:
    try:
        with capture_logs():  # what it warns of is said above
            guard = guard_of(settings)
    except StartupError as error:
        return bad("tokens", str(error), "correct --tokens-file")
    if guard is not None:
        return good("tokens", "calls need one")
    if is_loopback(settings.grpc_address) or settings.tls_client_ca:
        return good("tokens", "none")
    advice = "give --tokens-file or --tokens; `featurelens token` makes one"
    return notice("tokens", f"none, and others reach {settings.grpc_address}", advice)
