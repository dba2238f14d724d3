"""New versions come under load: no call fails, each answer is its version's own, memory comes back."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from threading import Barrier, Event

import grpc
import pytest

from protos.featurelens.v1.classifier_pb2_grpc import ClassifierStub
from tests.e2e.footprint import Footprint
from tests.e2e.processes import server_process
from tests.service.live.repositories import (
    TIMEOUT_S,
    ask,
    ask_inference,
    configure,
    put,
    version,
    wait_for,
    wait_until_true,
)
from tests.service.oip.stub import InferenceStub

CLIENTS = 8
PAUSE_S = 0.02
"""Between two calls of a client: the processes of the trials share the CPUs with all of them."""
VERSIONS = 10
BROKEN = 4
HALF_WRITTEN = 7
MOST_GROWTH_MIB = 40


@dataclass
class Load:
    """Clients that call again and again."""

    answers: Counter[str] = field(default_factory=Counter)
    """How many each version gave."""
    wrong: list[object] = field(default_factory=list)
    """Errors, answers that aren't the version's, and older versions after newer ones."""

    def call(self, address: str, stop: Event, ask: Callable[[grpc.Channel], tuple[str, float]]) -> None:
        with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            newest = 0
            while not stop.wait(PAUSE_S):
                try:
                    number, value = ask(channel)
                except grpc.RpcError as error:
                    self.wrong.append(error)
                    return
                self.answers[number] += 1
                if value != float(number) or int(number) < newest:
                    self.wrong.append((number, value, newest))
                newest = int(number)


def over_inference(channel: grpc.Channel) -> tuple[str, float]:
    return ask_inference(InferenceStub(channel))


@contextmanager
def under_load(address: str) -> Iterator[Load]:
    """Call from many clients until the block is left; each of them has to have got there."""
    load, stop = Load(), Event()
    with ThreadPoolExecutor(CLIENTS) as clients:
        asking = cycle((lambda channel: ask(ClassifierStub(channel)), over_inference))
        futures = [clients.submit(load.call, address, stop, next(asking)) for _ in range(CLIENTS)]
        try:
            yield load
        finally:
            stop.set()
        for future in futures:
            future.result()


@pytest.mark.parametrize("workers", ["1", "2"])
@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_versions_come_under_load(tmp_path: Path, transport: str, workers: str) -> None:
    put(tmp_path, "tiny", 1)
    configure(tmp_path, "tiny", "")
    arguments = ["--model-repository", str(tmp_path), "--transport", transport, "--watch-settle-s", "0.2"]
    arguments += ["--workers", workers]
    with server_process(*arguments) as server, grpc.insecure_channel(server.address) as channel:
        stub = ClassifierStub(channel)
        with under_load(server.address):
            ask(stub)
        before = Footprint.of(server.process.pid)
        with under_load(server.address) as load:
            for number in range(2, 2 + VERSIONS):
                come(tmp_path, stub, number)
            wait_until_true(lambda: load.answers[str(1 + VERSIONS)] > 0)
        wait_for(stub, lambda found: list(found)[-1] == f"tiny/{1 + VERSIONS}")
        # The clients' connections may end a moment after the clients.
        wait_until_true(lambda: Footprint.of(server.process.pid).descriptors <= before.descriptors)
        after = Footprint.of(server.process.pid)

    assert load.wrong == []
    assert set(load.answers) == {str(n) for n in range(1, 2 + VERSIONS)} - {str(BROKEN)}
    assert after.rss_mib - before.rss_mib < MOST_GROWTH_MIB * int(workers)


@pytest.mark.parametrize("transport", ["grpcio", "native"])
def test_a_model_is_removed_under_load(tmp_path: Path, transport: str) -> None:
    """Its clients are answered until they are told that it is gone; those of another model notice nothing."""
    for name in ("tiny", "other"):
        put(tmp_path, name, 1)
        configure(tmp_path, name, "")
    arguments = ["--model-repository", str(tmp_path), "--transport", transport, "--watch-settle-s", "0.2"]
    called, stop, load = Barrier(CLIENTS + 1, timeout=TIMEOUT_S), Event(), Load()
    with server_process(*arguments) as server, ThreadPoolExecutor(CLIENTS + 1) as clients:
        staying = clients.submit(
            load.call, server.address, stop, lambda channel: ask(ClassifierStub(channel), name="tiny")
        )
        leaving = [clients.submit(until_refused, server.address, "other", called) for _ in range(CLIENTS)]
        called.wait()
        shutil.rmtree(tmp_path / "other")
        refusals = [client.result(timeout=TIMEOUT_S) for client in leaving]
        stop.set()
        staying.result()

    assert refusals == [grpc.StatusCode.NOT_FOUND] * CLIENTS
    assert load.wrong == []
    assert load.answers["1"] > 0


def until_refused(address: str, model: str, called: Barrier) -> grpc.StatusCode:
    """Call a model until it doesn't answer; tell how that call ended."""
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        stub = ClassifierStub(channel)
        assert ask(stub, name=model) == ("1", 1.0)
        called.wait()
        answers = iter(lambda: ask(stub, name=model), None)
        with pytest.raises(grpc.RpcError) as info:
            assert all(answer == ("1", 1.0) for answer in answers)
        assert isinstance(info.value, grpc.Call)
        return info.value.code()


def come(folder: Path, stub: ClassifierStub, number: int) -> None:
    """Put a version live; one of them is broken, another is written in two goes."""
    serving = f"tiny/{number}"
    if number == BROKEN:
        put(folder, "tiny", number, b"no model")
        wait_for(stub, lambda found: found.get(serving, ("",))[0] == "UNAVAILABLE")
    elif number == HALF_WRITTEN:
        data = version(number).SerializeToString()
        file = put(folder, "tiny", number, data[: len(data) // 2])
        wait_for(stub, lambda found: found.get(serving, ("",))[0] == "UNAVAILABLE")
        with file.open("ab") as rest:
            rest.write(data[len(data) // 2 :])
        wait_for(stub, lambda found: found[serving][0] == "READY")
    else:
        put(folder, "tiny", number)
        wait_for(stub, lambda found: found.get(serving, ("",))[0] == "READY")
