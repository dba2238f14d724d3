"""Makes of the settings what guards the door, tokens and TLS; says in the log what is left open."""

from __future__ import annotations

from ipaddress import ip_address

import structlog
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2
from structlog.typing import FilteringBoundLogger

from service.api.oip.methods import SERVICE as INFERENCE
from service.auth import AuthRules, Guard, guard
from service.errors import StartupError
from service.settings import Settings
from service.transport.tls import TlsFiles

_log: FilteringBoundLogger = structlog.get_logger()

_HEALTH = health_pb2.DESCRIPTOR.services_by_name["Health"].full_name
_REFLECTION = reflection_pb2.DESCRIPTOR.services_by_name["ServerReflection"].full_name
_CONTROL_METHODS = frozenset(f"/{INFERENCE}/RepositoryModel{verb}" for verb in ("Load", "Unload"))


def guard_of(settings: Settings) -> Guard | None:
    """Make what checks tokens, if the settings name any.

    Raises:
        StartupError: the file of tokens can't be used, or strangers could load models.
    """
    _refuse_open_control(settings)
    open_services = {_HEALTH: settings.open_health, _REFLECTION: settings.open_reflection}
    rules = AuthRules(
        tokens=settings.tokens,
        control_tokens=settings.control_tokens,
        file=settings.tokens_file,
        open_services=frozenset(name for name, is_open in open_services.items() if is_open),
        control_methods=_CONTROL_METHODS,
    )
    made = guard(rules)
    if made and not tls_files(settings) and not is_loopback(settings.grpc_address):
        _log.warning("tokens travel in plain text; switch TLS on", address=settings.grpc_address)
    return made


def _refuse_open_control(settings: Settings) -> None:
    has_control_tokens = settings.control_tokens or settings.tokens_file
    if settings.model_control and not has_control_tokens and not is_loopback(settings.grpc_address):
        raise StartupError(
            f"model_control needs control_tokens or a tokens_file where others reach {settings.grpc_address}"
        )


def tls_files(settings: Settings) -> TlsFiles | None:
    """Tell which files TLS takes; None: calls come in plain text.

    Raises:
        StartupError: one that it needs is missing.
    """
    if settings.tls_cert and settings.tls_key:
        return TlsFiles(settings.tls_cert, settings.tls_key, settings.tls_client_ca)
    if settings.tls_cert or settings.tls_key or settings.tls_client_ca:
        raise StartupError("TLS needs a certificate and its key: give both tls_cert and tls_key")
    return None


def is_loopback(address: str) -> bool:
    """Tell whether only this machine reaches an address such as `127.0.0.1:8001`."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host in {"localhost", "unix"} or address.startswith("unix:")
