"""Checks of the addresses to listen on, and of those to send to."""

from __future__ import annotations

import errno
import socket
from urllib.parse import urlsplit

from service.checks.finding import Finding, bad, good, notice
from service.settings import Settings

_ENDING = "_address"
_METRICS = "metrics_address"
_OTLP_PORT = 4317
_TIMEOUT_S = 2.0
# A name may stand for addresses of a kind that this machine doesn't have.
_NOT_HERE = frozenset({errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT})


def addresses(settings: Settings) -> list[Finding]:
    """Check every setting that is an address to listen on."""
    names = [name for name in type(settings).model_fields if name.endswith(_ENDING)]
    return [
        _address(name, address, chosen=name in settings.model_fields_set)
        for name in names
        if (address := getattr(settings, name))
    ]


def collectors(settings: Settings) -> list[Finding]:
    """Check that somebody answers where traces are to be sent, if they are."""
    if not settings.trace_endpoint:
        return []
    url = urlsplit(settings.trace_endpoint)
    try:
        socket.create_connection((url.hostname or "", url.port or _OTLP_PORT), _TIMEOUT_S).close()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        advice = "start the collector, or correct --trace-endpoint; calls are answered without it"
        return [notice("trace_endpoint", f"{settings.trace_endpoint}: {reason}", advice)]
    return [good("trace_endpoint", f"{settings.trace_endpoint} can be reached")]


def _address(setting: str, address: str, *, chosen: bool) -> Finding:
    host, _, port = address.rpartition(":")
    if host == "unix":
        return good(setting, address)
    choose = f"choose another with --{setting.replace('_', '-')}"
    if not (host and port.isdigit() and int(port) < 1 << 16):
        return bad(setting, f"{address} is no host:port", choose)
    if reason := _obstacle(host.strip("[]"), int(port)):
        # The server does without metrics, unless somebody chose an address for them.
        finding = bad if chosen or setting != _METRICS else notice
        return finding(setting, f"{address}: {reason}", f"end what listens there, or {choose}")
    return good(setting, f"{address} is free")


def _obstacle(host: str, port: int) -> str:
    """Tell why the address can't be bound; "" if it can."""
    try:
        places = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except OSError as error:
        return error.strerror or str(error)
    errors = [failure for family, _, _, _, place in places if (failure := _bind(family, place))]
    if len(errors) == len(places) or any(error.errno not in _NOT_HERE for error in errors):
        return errors[-1].strerror or str(errors[-1])
    return ""


def _bind(family: int, place: tuple[object, ...]) -> OSError | None:
    try:
        with socket.socket(family, socket.SOCK_STREAM) as end:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            end.bind(place)
    except OSError as error:
        return error
    return None
