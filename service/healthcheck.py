"""Asks a server for its health: `python -m service.healthcheck [ADDRESS]` exits 0 if it is SERVING, else 1.

Meant for containers, whose image has neither a shell tool nor a probe for gRPC. It takes the server's own
variables: where it listens, and TLS. To a server that asks for certificates it shows the server's own.
"""

from __future__ import annotations

import os
import socket
import ssl
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if the server at the address, or where FEATURELENS_GRPC_ADDRESS listens, is SERVING."""
    arguments = sys.argv[1:] if argv is None else argv
    address = arguments[0] if arguments else os.environ.get("FEATURELENS_GRPC_ADDRESS", "127.0.0.1:8001")
    token = os.environ.get("FEATURELENS_TOKEN")
    metadata = (("authorization", f"Bearer {token}"),) if token else ()
    try:
        with _connect(address.replace("0.0.0.0", "127.0.0.1")) as channel:  # noqa: S104 - replaced, not bound
            check = health_pb2_grpc.HealthStub(channel).Check
            answer = check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S, metadata=metadata)
    except grpc.RpcError as error:
        sys.stderr.write(f"{address}: {error.code().name}\n")
        return 1
    except OSError as error:
        sys.stderr.write(f"{address}: {error}\n")
        return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


def _connect(address: str) -> grpc.Channel:
    cert, key = os.environ.get("FEATURELENS_TLS_CERT"), os.environ.get("FEATURELENS_TLS_KEY")
    if not (cert and key):
        return grpc.insecure_channel(address)
    presented, name = _identity(address, cert, key)
    credentials = grpc.ssl_channel_credentials(presented, Path(key).read_bytes(), Path(cert).read_bytes())
    return grpc.secure_channel(address, credentials, (("grpc.ssl_target_name_override", name),))


def _identity(address: str, cert: str, key: str) -> tuple[bytes, str]:
    """Find out which certificate the server presents, and a name that it holds.

    The probe asks whether the server lives, not who it is: an address of this machine is no name that
    certificates hold, and after a failed rotation the file isn't what is presented.
    """
    unverified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    unverified.check_hostname = False
    unverified.verify_mode = ssl.CERT_NONE
    presented, _ = _shake_hands(address, unverified, cert, key)
    # Only of a certificate that was verified does Python tell the names.
    verified = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    verified.check_hostname = False
    verified.load_verify_locations(cadata=presented)
    verified.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    _, names = _shake_hands(address, verified, cert, key)
    return presented.encode(), names[0][1].replace("*", "any")


def _shake_hands(
    address: str, context: ssl.SSLContext, cert: str, key: str
) -> tuple[str, Sequence[tuple[str, str]]]:
    """Return the certificate that the server presents, as PEM, and its names, with their kinds."""
    context.load_cert_chain(cert, key)
    context.set_alpn_protocols(["h2"])
    host, _, port = address.rpartition(":")
    with (
        socket.create_connection((host.strip("[]"), int(port)), _TIMEOUT_S) as connection,
        context.wrap_socket(connection) as secure,
    ):
        facts: Any = secure.getpeercert() or {}
        presented = secure.getpeercert(binary_form=True) or b""
    return ssl.DER_cert_to_PEM_cert(presented), facts.get("subjectAltName", ())


if __name__ == "__main__":
    sys.exit(main())
