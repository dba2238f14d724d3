"""Four times as many calls as the engine can answer: some are accepted, and answered in time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import grpc
import numpy as np
import pytest

from tests.e2e.processes import ServerProcess, server_process
from tests.service.conftest import add_model
from tests.service.oip.stub import InferenceStub, request
from tests.service.onnx_models import endless

ROOM = 8  # calls that may wait
TURNS = 10_000  # of a loop: some 15 ms a run on one CPU of 2024
MB = 1_000_000

LIMITS = {"a queue": f"--max-queue-size={ROOM}", "all calls": f"--max-concurrent-calls={ROOM + 1}"}


@pytest.fixture(params=["grpcio", "native"])
def transport(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(params=LIMITS)
def server(transport: str, request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ServerProcess]:
    """A server that runs one item at a time, and lets ROOM others wait."""
    add_model(tmp_path, "slow", endless(turns=TURNS))
    settings = ("--transport", transport, "--threads=1", "--max-batch-size=1", LIMITS[request.param])
    with server_process("--model-repository", str(tmp_path), *settings) as server:
        yield server


class Ended(NamedTuple):
    """A call, at its end."""

    code: grpc.StatusCode
    seconds: float
    queue_s: float
    run_s: float


class Load:
    """Offers four calls for each that is answered: four times what the engine does, however fast that is."""

    def __init__(self, channel: grpc.aio.Channel, calls: int) -> None:
        self._infer = InferenceStub(channel).ModelInfer  # type: ignore[arg-type] # aio has the same methods
        self._left = calls
        self.ended: list[Ended] = []

    async def run(self) -> None:
        async with asyncio.TaskGroup() as group:
            self._offer(group, 4 * ROOM)

    def _offer(self, group: asyncio.TaskGroup, calls: int) -> None:
        for _ in range(min(calls, self._left)):
            self._left -= 1
            group.create_task(self._call(group))

    async def _call(self, group: asyncio.TaskGroup) -> None:
        ended = await call(self._infer)
        self.ended.append(ended)
        if ended.code is grpc.StatusCode.OK:
            self._offer(group, 4)

    def of(self, code: grpc.StatusCode) -> list[Ended]:
        return [ended for ended in self.ended if ended.code is code]


async def call(infer: Any) -> Ended:  # noqa: ANN401 - a multi-callable of grpc.aio
    started_s = time.perf_counter()
    try:
        answer = await infer(REQUEST)
    except grpc.aio.AioRpcError as error:
        return Ended(error.code(), time.perf_counter() - started_s, 0, 0)
    seconds = time.perf_counter() - started_s
    spent = [answer.parameters[name].int64_param / 1e9 for name in ("queue_ns", "compute_ns")]
    return Ended(grpc.StatusCode.OK, seconds, *spent)


REQUEST = request("slow", [("x", "FP32", np.ones((1, 2), np.float32))])


def p99(values: list[float]) -> float:
    return float(np.percentile(values, 99))


def figures(accepted: list[Ended], refused: list[Ended], grown: int, after: Ended) -> str:
    run, next_call = 1000 * median([call.run_s for call in accepted]), 1000 * after.seconds
    slow, slow_refusal = (1000 * p99([call.seconds for call in calls]) for calls in (accepted, refused))
    return (
        f"{len(accepted)} accepted, p99 {slow:.1f} ms with runs of {run:.1f} ms; {len(refused)} refused,"
        f" p99 {slow_refusal:.1f} ms; memory {grown / MB:+.1f} MB; the next call took {next_call:.1f} ms"
    )


async def test_four_times_the_load(
    server: ServerProcess,
    request: pytest.FixtureRequest,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    async with grpc.aio.insecure_channel(server.address) as channel:
        await Load(channel, 300).run()  # after which pools and arenas have their size
        before = server.resident_bytes
        load = Load(channel, 600)
        await load.run()
        after = await call(InferenceStub(channel).ModelInfer)  # type: ignore[arg-type] # as above
        grown = server.resident_bytes - before

    accepted, refused = load.of(grpc.StatusCode.OK), load.of(grpc.StatusCode.RESOURCE_EXHAUSTED)
    record_testsuite_property(
        f"{request.node.callspec.id}, of 600 calls", figures(accepted, refused, grown, after)
    )
    assert len(accepted) + len(refused) == 600
    assert len(refused) > 2 * len(accepted)
    # ROOM runs at most come before a call's own, and one is under way; twice that on a busy machine.
    waits, refusals = [call.seconds for call in accepted], [call.seconds for call in refused]
    assert p99(waits) < 2 * (ROOM + 2) * max(call.run_s for call in accepted)
    # A refusal waits for no run.
    assert median(refusals) < median(waits) / 2
    assert p99(refusals) < p99(waits)
    assert grown < 16 * MB
    # The next call finds nothing before it.
    assert after.code is grpc.StatusCode.OK
    assert after.queue_s < min(call.run_s for call in accepted)
    assert after.seconds < 1
    assert server.terminate() == 0
