"""How the clients connect: limits and retries of the channel, and gRPC's errors in our words."""

from __future__ import annotations

import json
from typing import cast

import grpc

from featurelens.errors import FeaturelensError

DEFAULT_ADDRESS = "127.0.0.1:8001"
DEFAULT_TIMEOUT_S = 10.0
MAX_REQUEST_BYTES = 16 * 2**20  # what the server accepts unless told otherwise
_MAX_ANSWER_BYTES = 64 * 2**20  # feature maps are larger than images

# grpc.health.v1 asks and answers in a few bytes, which spares the base install a dependency.
HEALTH_CHECK = "/grpc.health.v1.Health/Check"
WHOLE_SERVER = b""  # HealthCheckRequest with an empty `service`
SERVING = b"\x08\x01"  # HealthCheckResponse with `status`, field 1, SERVING = 1

# https://github.com/grpc/proposal/blob/master/A6-client-retries.md; only UNAVAILABLE means "try again".
_RETRIES = {
    "methodConfig": [
        {
            "name": [{"service": "featurelens.v1.Classifier"}],
            "retryPolicy": {
                "maxAttempts": 4,
                "initialBackoff": "0.1s",
                "maxBackoff": "1s",
                "backoffMultiplier": 2,
                "retryableStatusCodes": ["UNAVAILABLE"],
            },
        }
    ]
}
OPTIONS: tuple[tuple[str, int | str], ...] = (
    ("grpc.max_send_message_length", MAX_REQUEST_BYTES),
    ("grpc.max_receive_message_length", _MAX_ANSWER_BYTES),
    ("grpc.service_config", json.dumps(_RETRIES)),
    # A call is retried only while its request is buffered; gRPC's 256 KiB is less than a photograph.
    ("grpc.per_rpc_retry_buffer_size", MAX_REQUEST_BYTES),
)

# gRPC has no code of its own for "nobody there": so begin the details of its own UNAVAILABLE.
_NOBODY_THERE = ("failed to connect", "errors resolving", "DNS resolution failed")
_HANDSHAKE = "Tls handshake failed "
_CLOSED = "Socket closed"


def check_address(address: str) -> str:
    """Return the address if it names a port: gRPC would silently take 443.

    Raises:
        FeaturelensError: INVALID_ARGUMENT.
    """
    if ":" not in address:
        raise FeaturelensError(
            "INVALID_ARGUMENT", f"server is {address!r}, expected host:port, such as {DEFAULT_ADDRESS}"
        )
    return address


def translate(error: grpc.RpcError, address: str, timeout: float) -> FeaturelensError:
    """Return the error of a call to the server at `address`, which had `timeout` seconds, in our words."""
    call = cast(grpc.Call, error)  # every error that a call raises has the call's status too
    code, details = call.code().name, call.details() or ""
    if code == "UNAVAILABLE" and _HANDSHAKE in details:
        details = f"no TLS with {address}: {details.partition(_HANDSHAKE)[2]}"
    elif code == "UNAVAILABLE" and details.startswith(_NOBODY_THERE) and details.endswith(_CLOSED):
        details = f"{address} closes the connection; it may want TLS, or a certificate of the client"
    elif code == "UNAVAILABLE" and details.startswith(_NOBODY_THERE):
        details = f"no featurelens server answers at {address}; start one with `featurelens serve`"
    elif code == "UNIMPLEMENTED":
        details = f"the server at {address} does not speak featurelens.v1"
    elif code == "DEADLINE_EXCEEDED":  # gRPC has several wordings for it
        return no_answer(address, timeout)
    return FeaturelensError(code, details)


def no_answer(address: str, timeout: float) -> FeaturelensError:
    """Return the error of a call whose answer did not come in time."""
    return FeaturelensError("DEADLINE_EXCEEDED", f"no answer from {address} within {timeout:g} s")
