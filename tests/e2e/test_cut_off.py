"""Bursts of calls whose client is gone before the answers: nothing of them stays in the server."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import grpc
import numpy as np
import pytest

from tests.e2e.processes import ServerProcess, server_process
from tests.service.conftest import add_model
from tests.service.oip.stub import InferenceStub, request
from tests.service.onnx_models import classifier, endless

Code = grpc.StatusCode

BURSTS = 40
CALLS = 256  # in flight, which is all that this server takes
REFUSED = 8  # more, to show that CALLS are in flight
MB = 1_000_000
TURNS = 10_000  # of a loop: a run takes milliseconds, a burst seconds

SLOW = request("slow", [("x", "FP32", np.ones((1, 2), np.float32))])
FAST = request("fast", [("x", "FP32", np.ones((1, 2), np.float32))])


@pytest.fixture(params=[1, 2])
def instances(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(params=["grpcio", "native"])
def server(instances: int, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that runs one item at a time per instance."""
    add_model(tmp_path, "slow", endless(turns=TURNS))
    add_model(tmp_path, "fast", classifier())
    settings = (f"--transport={request.param}", "--threads=1", "--max-batch-size=1")
    limits = (f"--instances={instances}", f"--max-concurrent-calls={CALLS}", "--log-level=warning")
    log = tmp_path / "log"
    with server_process("--model-repository", str(tmp_path), *settings, *limits, log=log) as server:
        yield server
    assert "Traceback" not in log.read_text()


class Wire:
    """A port that leads to a server, over connections that can be torn."""

    def __init__(self, to: str) -> None:
        self._host, _, port = to.rpartition(":")
        self._port = int(port)
        self._connections: list[asyncio.StreamWriter] = []
        self._joined: set[asyncio.Task[None]] = set()
        self.address = ""

    async def __aenter__(self) -> Wire:
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", 0)
        self.address = "{}:{}".format(*self._server.sockets[0].getsockname())
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.tear()
        await asyncio.gather(*self._joined)

    def tear(self) -> None:
        """Reset every connection: the server finds no end of the stream, but an error."""
        for writer in self._connections:
            if not writer.is_closing():
                to_client_or_server = writer.get_extra_info("socket")
                to_client_or_server.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                writer.transport.abort()
        self._connections.clear()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._joined.add(asyncio.create_task(self._join(reader, writer)))

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        to_server = await asyncio.open_connection(self._host, self._port)
        self._connections += [writer, to_server[1]]
        await asyncio.gather(_pump(reader, to_server[1]), _pump(to_server[0], writer))


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass
    finally:
        writer.close()


@asynccontextmanager
async def calling(address: str) -> AsyncIterator[Any]:
    """Open a connection of its own and give the method to call over it."""
    options = [("grpc.use_local_subchannel_pool", 1)]
    async with grpc.aio.insecure_channel(address, options) as channel:
        yield InferenceStub(channel).ModelInfer  # type: ignore[arg-type] # aio has the same methods


async def burst(wire: Wire, *, torn: bool) -> None:
    """Keep up more calls than the server takes, over two connections; once one is refused cut all off."""
    full = asyncio.Event()

    async def call(infer: Any) -> None:  # noqa: ANN401 - a multi-callable of grpc.aio
        try:
            while True:
                await infer(SLOW)
        except grpc.aio.AioRpcError as error:
            if error.code() is Code.RESOURCE_EXHAUSTED:
                full.set()

    async with calling(wire.address) as first, calling(wire.address) as second:
        calls = [asyncio.create_task(call(first)) for _ in range(CALLS // 2)]
        calls += [asyncio.create_task(call(second)) for _ in range(CALLS // 2 + REFUSED)]
        await full.wait()
        if torn:
            wire.tear()
    await asyncio.wait(calls)  # leaving the block closed the channels, which ends them


async def codes_at_once(infer: Any) -> Counter[Code]:  # noqa: ANN401 - as above
    """Make CALLS calls, which fit into the server if nothing else is in it, and count how they end."""

    async def code() -> Code:
        try:
            await infer(FAST)
        except grpc.aio.AioRpcError as error:
            return error.code()
        return Code.OK

    return Counter(await asyncio.gather(*(code() for _ in range(CALLS))))


async def test_bursts_that_are_cut_off(server: ServerProcess) -> None:
    before = 0
    async with Wire(server.address) as wire, calling(server.address) as infer:
        for number in range(BURSTS):
            await burst(wire, torn=number % 2 == 0)
            # The server hears of it after a while; a slot that was lost would stay so.
            while await codes_at_once(infer) != {Code.OK: CALLS}:
                pass
            if number == BURSTS // 4:  # after which pools and arenas have their size
                before = server.resident_bytes
        answer = await infer(SLOW)
    assert server.resident_bytes - before < 24 * MB
    # It found the queue empty.
    assert answer.parameters["queue_ns"].int64_param < answer.parameters["compute_ns"].int64_param
    assert server.terminate() == 0
