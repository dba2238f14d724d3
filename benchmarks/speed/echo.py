"""A bare gRPC server, to see what the transport alone can do: `python -m benchmarks.speed.echo grpcio`.

It parses nothing and answers with the first part of the request. With `--processes 2`, two share the port.
"""

from __future__ import annotations

import argparse
import asyncio
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack

import grpc
from pygrpc_native import NativeGrpcFront

PATH = "/echo.Echo/Echo"
# The answer is this part of the request: about the size of a real one.
PART = 16

_CALLS_PER_TRIP = 64
_OPTIONS = [("grpc.so_reuseport", 1), ("grpc.max_receive_message_length", -1)]

Ready = Callable[[int], None]
"""Is called with the port."""


async def _answer(request: bytes, _: grpc.aio.ServicerContext[bytes, bytes]) -> bytes:
    return request[: len(request) // PART]


async def serve_grpcio(port: int, ready: Ready) -> None:
    """Serve with grpc.aio."""
    server = grpc.aio.server(options=_OPTIONS)
    service, _, method = PATH.lstrip("/").partition("/")
    handler: grpc.RpcMethodHandler[bytes, bytes] = grpc.unary_unary_rpc_method_handler(_answer)
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(service, {method: handler})])
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    ready(bound)
    await server.wait_for_termination()


def serve_native(port: int, ready: Ready) -> None:
    """Serve with pygrpc-native."""
    front = NativeGrpcFront(f"127.0.0.1:{port}", [(PATH, False)], io_threads=1, reuse_port=True)
    front.start()
    ready(front.bound_port)
    while (events := front.recv_batch(_CALLS_PER_TRIP)) is not None:
        for _, call_id, _, request, _ in events:
            if request is not None:
                front.respond(call_id, request[: len(request) // PART])


def main() -> None:
    """Serve until killed; the other processes are this program again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("transport", choices=["grpcio", "native"])
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--port", type=int, default=0)
    arguments = parser.parse_args()

    with ExitStack() as stack:

        def ready(port: int) -> None:
            command = [sys.executable, "-m", "benchmarks.speed.echo", arguments.transport, f"--port={port}"]
            for _ in range(arguments.processes - 1):
                other = stack.enter_context(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
                assert other.stdout is not None
                other.stdout.readline()
            print(f"echo is serving on 127.0.0.1:{port}", flush=True)

        if arguments.transport == "native":
            serve_native(arguments.port, ready)
        else:
            asyncio.run(serve_grpcio(arguments.port, ready))


if __name__ == "__main__":
    main()
