"""Asks a server for its health: `python -m service.healthcheck [ADDRESS]` exits 0 if it is SERVING, else 1.

Meant for containers, whose image has neither a shell tool nor a probe for gRPC.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc

_TIMEOUT_S = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if the server at the address, or where FEATURELENS_GRPC_ADDRESS listens, is SERVING."""
    arguments = sys.argv[1:] if argv is None else argv
    address = arguments[0] if arguments else os.environ.get("FEATURELENS_GRPC_ADDRESS", "127.0.0.1:8001")
    with grpc.insecure_channel(address.replace("0.0.0.0", "127.0.0.1")) as channel:  # noqa: S104 - replaced, not bound
        stub = health_pb2_grpc.HealthStub(channel)
        try:
            answer = stub.Check(health_pb2.HealthCheckRequest(), timeout=_TIMEOUT_S)
        except grpc.RpcError as error:
            sys.stderr.write(f"{address}: {error.code().name}\n")
            return 1
    return 0 if answer.status == health_pb2.HealthCheckResponse.SERVING else 1


if __name__ == "__main__":
    sys.exit(main())
