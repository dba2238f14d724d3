"""Hostile connections over both transports, judged by what another client sees meanwhile, and by memory."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from threading import Condition, Thread

import grpc
import numpy as np
import pytest
from hpack import Encoder
from hyperframe.frame import ContinuationFrame, SettingsFrame

from protos.featurelens.v1 import classifier_pb2 as pb
from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from protos.tensors import pack
from tests.e2e.attacker import CLASSIFY, PREFACE, STREAM, Attacker, connect, message, read_until
from tests.e2e.processes import TIMEOUT_S, lines_of, server_process

MiB = 2**20
MOST_UNREAD = 48 * MiB
MOST_CONNECTIONS = 150
# A server of LeNet has about 120 MiB. Python's and Rust's allocators keep some of what was freed.
MOST_GROWTH = 2 * MOST_UNREAD + 64 * MiB
CALLS_AFTER = 20

REQUEST = pb.ClassifyRequest(tensor=pack(np.zeros((1, 1, 32, 32), np.float32)))
ENCODED = message(REQUEST.SerializeToString())
# Its answer has 0.9 MiB.
LARGE = message(
    pb.ClassifyRequest(tensor=pack(np.zeros((16, 1, 32, 32), np.float32)), layers=["*"]).SerializeToString()
)


@dataclass(frozen=True)
class Target:
    """A server process that is attacked."""

    address: str
    process: int
    log: Path

    def memory(self) -> int:
        """Return the bytes of main memory that it takes."""
        pages = int(Path(f"/proc/{self.process}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


@pytest.fixture(scope="module", params=["native", "grpcio"])
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    log = tmp_path_factory.mktemp("attacks") / "log"
    settings = {
        "--transport": request.param,
        "--max-unread-bytes": MOST_UNREAD,
        "--max-connections": MOST_CONNECTIONS,
        "--log-level": "warning",
        "--log-format": "json",
    }
    arguments = [str(word) for setting in settings.items() for word in setting]
    with server_process(*arguments, log=log) as server:
        with grpc.insecure_channel(server.address) as channel:
            for _ in range(CALLS_AFTER):
                ClassifierStub(channel).Classify(REQUEST)
        yield Target(server.address, server.process.pid, log)
        assert server.terminate() == 0


class Bystander:
    """Another client, which calls all the time."""

    def __init__(self, address: str) -> None:
        self.failures: list[str] = []
        self._address = address
        self._answered = 0
        self._changed = Condition()
        self._stopped = False
        self._thread = Thread(target=self._call)
        self._thread.start()

    def stop(self) -> None:
        self._stopped = True
        self._thread.join()

    def wait_for_calls(self, count: int) -> None:
        """Wait until so many calls more have ended."""
        with self._changed:
            wanted = self._answered + count
            assert self._changed.wait_for(lambda: self._answered >= wanted, TIMEOUT_S)

    def _call(self) -> None:
        with grpc.insecure_channel(self._address) as channel:
            stub = ClassifierStub(channel)
            while not self._stopped:
                try:
                    stub.Classify(REQUEST, timeout=TIMEOUT_S)
                except grpc.RpcError as error:
                    self.failures.append(str(error))
                with self._changed:
                    self._answered += 1
                    self._changed.notify_all()


@contextmanager
def others_are_served(target: Target) -> Iterator[Bystander]:
    """Check that another client's calls are answered in the block and after it, and memory is bounded."""
    before = target.memory()
    bystander = Bystander(target.address)
    try:
        bystander.wait_for_calls(1)
        yield bystander
        bystander.wait_for_calls(CALLS_AFTER)
    finally:
        bystander.stop()
    assert bystander.failures == []
    assert target.memory() - before < MOST_GROWTH
    with grpc.insecure_channel(target.address, [("grpc.use_local_subchannel_pool", 1)]) as channel:
        assert ClassifierStub(channel).Classify(REQUEST, timeout=TIMEOUT_S, wait_for_ready=True).results


def silence(target: Target, stack: ExitStack) -> None:
    for _ in range(100):
        stack.enter_context(connect(target.address))


def half_a_preface(target: Target, stack: ExitStack) -> None:
    for _ in range(100):
        stack.enter_context(connect(target.address)).sendall(PREFACE[:11])


def no_http2(target: Target, stack: ExitStack) -> None:
    for _ in range(50):
        connection = stack.enter_context(connect(target.address))
        with suppress(OSError):  # it may be closed at once
            connection.sendall(b"GET / HTTP/1.1\r\n" + b"x: y\r\n" * 10_000)


def a_flood_of_headers(target: Target, stack: ExitStack) -> None:
    attacker = attacking(target, stack)
    for call in range(300):
        attacker.headers(extra=[(f"x-{call}-{i}", "v" * 4000) for i in range(3)])


def headers_that_are_too_large(target: Target, stack: ExitStack) -> None:
    attacker = attacking(target, stack)
    for call in range(20):
        stream = attacker.headers(extra=[(f"x-{call}", "v" * 12_000)], flags=())
        for i in range(8):
            part = ContinuationFrame(stream, Encoder().encode([(f"y-{i}", "v" * 12_000)]))
            part.flags.add("END_HEADERS") if i == 7 else None
            attacker.send(part.serialize())


def endless_continuation(target: Target, stack: ExitStack) -> None:
    attacker = attacking(target, stack)
    stream = attacker.headers(flags=())
    for i in range(300):
        attacker.send(ContinuationFrame(stream, Encoder().encode([(f"x-{i}", "v" * 8000)])).serialize())


def rapid_reset(target: Target, stack: ExitStack) -> None:
    attacker = attacking(target, stack)
    for _ in range(3000):
        attacker.cancel(attacker.headers())


def rapid_reset_of_whole_requests(target: Target, stack: ExitStack) -> None:
    attacker = attacking(target, stack)
    for _ in range(1000):
        stream = attacker.headers()
        attacker.data(stream, ENCODED, end=True)
        attacker.cancel(stream)
        attacker.read(0)


def pings_and_settings(target: Target, stack: ExitStack) -> None:
    attacker = attacking(target, stack)
    for _ in range(3000):
        attacker.ping()
        attacker.send(SettingsFrame(0).serialize())


def a_message_announced_as_2_gib(target: Target, stack: ExitStack) -> None:
    attacker = attacking(target, stack)
    for path in (CLASSIFY, STREAM):
        for _ in range(50):
            attacker.data(attacker.headers(path), message(b"x" * 100, announced=2**31))


def bodies_that_come_slowly(target: Target, stack: ExitStack) -> None:
    attackers = [attacking(target, stack) for _ in range(10)]
    bodies = [(each, each.headers()) for each in attackers for _ in range(20)]
    for offset in range(10):
        for attacker, stream in bodies:
            attacker.data(stream, ENCODED[offset : offset + 1])


def attacking(target: Target, stack: ExitStack, **settings: int) -> Attacker:
    attacker = Attacker(target.address, **settings)
    stack.callback(attacker.close)
    return attacker


@pytest.mark.parametrize(
    "attack",
    [
        *(silence, half_a_preface, no_http2),
        *(a_flood_of_headers, headers_that_are_too_large, endless_continuation),
        *(rapid_reset, rapid_reset_of_whole_requests, pings_and_settings),
        *(a_message_announced_as_2_gib, bodies_that_come_slowly),
    ],
)
def test_others_are_served_on(target: Target, attack: Callable[[Target, ExitStack], None]) -> None:
    with others_are_served(target) as bystander, ExitStack() as stack:
        attack(target, stack)
        bystander.wait_for_calls(CALLS_AFTER)


def test_who_leaves_answers_unread_is_disconnected(target: Target) -> None:
    """Tiny windows: nothing of an answer may be sent before credit comes, and none does."""
    with others_are_served(target), ExitStack() as stack:
        attackers = [attacking(target, stack, window=1) for _ in range(4)]
        for _ in range(60):
            for attacker in attackers:
                if not attacker.closed:
                    attacker.data(attacker.headers(), LARGE, end=True)
                    attacker.read(0)
        assert read_until(attackers, closed=1)
    assert lines_of(target.log, "connection closed: it leaves answers unread")


def test_streams_that_leave_answers_unread_are_ended(target: Target) -> None:
    with others_are_served(target), ExitStack() as stack:
        for _ in range(3):
            attacker = attacking(target, stack, window=1)
            for _ in range(2):
                attacker.data(attacker.headers(STREAM), LARGE * 40)
                attacker.read(0)
        # what is still being worked on would count against what follows
        with grpc.insecure_channel(target.address) as channel:
            assert len(list(ClassifierStub(channel).ClassifyStream(iter([REQUEST] * 5)))) == 5


def test_of_too_many_connections_the_idlest_are_closed(target: Target) -> None:
    with others_are_served(target), ExitStack() as stack:
        attackers = [attacking(target, stack) for _ in range(MOST_CONNECTIONS + 50)]
        assert read_until(attackers, closed=50)
    assert lines_of(target.log, "connections closed: there were too many")
