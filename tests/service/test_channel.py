"""Two processes ask each other by name; when one is gone nobody waits for its answers."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Event, Thread

import pytest

from service.channel import JSON, Answer, Channel, ChannelClosedError, NoAnswerError

TIMEOUT_S = 10


@pytest.fixture
def ends() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


@pytest.fixture
def answerers() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor() as executor:
        yield executor


def listening(end: socket.socket, answer: Answer, answerers: ThreadPoolExecutor) -> tuple[Channel, Thread]:
    channel = Channel(end, answer, answerers)
    thread = Thread(target=channel.listen)
    thread.start()
    return channel, thread


def repeat(question: str, argument: JSON) -> JSON:
    return [question, argument]


@pytest.mark.parametrize("argument", [None, 7, "a\nline", {"a": [1, 2.5, True]}, "x" * 1_000_000])
def test_either_end_asks_the_other(
    argument: JSON, ends: tuple[socket.socket, socket.socket], answerers: ThreadPoolExecutor
) -> None:
    channels, threads = zip(*(listening(end, repeat, answerers) for end in ends), strict=True)

    assert [channel.ask("say", argument).result(TIMEOUT_S) for channel in channels] == [["say", argument]] * 2
    channels[0].close()
    for thread in threads:
        thread.join(TIMEOUT_S)
        assert not thread.is_alive()


def test_an_answer_that_fails_does_not_keep_the_other_end_waiting(
    ends: tuple[socket.socket, socket.socket], answerers: ThreadPoolExecutor
) -> None:
    def fail(question: str, argument: JSON) -> JSON:
        raise ValueError(question)

    asking, first = listening(ends[0], repeat, answerers)
    _, second = listening(ends[1], fail, answerers)

    with pytest.raises(NoAnswerError):
        asking.ask("say").result(TIMEOUT_S)
    asking.close()
    first.join()
    second.join()


def test_questions_fail_when_the_other_end_goes(
    ends: tuple[socket.socket, socket.socket], answerers: ThreadPoolExecutor
) -> None:
    asking, thread = listening(ends[0], repeat, answerers)
    waiting = asking.ask("say")
    ends[1].close()

    with pytest.raises(ChannelClosedError):
        waiting.result(TIMEOUT_S)
    thread.join()
    with pytest.raises(ChannelClosedError):
        asking.ask("say").result(TIMEOUT_S)


def test_a_slow_answer_does_not_hold_up_another(
    ends: tuple[socket.socket, socket.socket], answerers: ThreadPoolExecutor
) -> None:
    released = Event()

    def answer(question: str, argument: JSON) -> JSON:
        return released.wait(TIMEOUT_S) if question == "slow" else argument

    asking, first = listening(ends[0], repeat, answerers)
    _, second = listening(ends[1], answer, answerers)
    slow = asking.ask("slow")

    assert asking.ask("fast", 1).result(TIMEOUT_S) == 1
    released.set()
    assert slow.result(TIMEOUT_S) is True
    asking.close()
    first.join()
    second.join()
