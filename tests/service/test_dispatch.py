"""Admission: how many calls may be in progress, and that each makes room when it ends."""

from __future__ import annotations

from contextlib import nullcontext

import pytest

from service.api.call import Call
from service.api.dispatch import Dispatcher
from service.errors import OverloadedError, ServiceError

METHOD = "/a.B/C"


class SilentCall(Call):
    """A call whose outcome is kept."""

    outcome: bytes | ServiceError | None = None

    def _send(self, outcome: bytes | ServiceError) -> None:
        self.outcome = outcome


@pytest.fixture
def dispatcher() -> Dispatcher:
    """Lets in one call at a time."""
    return Dispatcher({METHOD: hold}, {}, 1, nullcontext, lambda *_: None, lambda _: nullcontext())


def hold(request: bytes, call: Call) -> None:
    """Do nothing: the test ends the call."""


def dispatched(dispatcher: Dispatcher) -> SilentCall:
    call = SilentCall(METHOD, 1e9, "r", dispatcher.observe)
    dispatcher.dispatch(hold, b"", call)
    return call


def test_a_call_makes_room_when_it_ends(dispatcher: Dispatcher) -> None:
    first, refused = dispatched(dispatcher), dispatched(dispatcher)
    first.succeed(b"")
    third = dispatched(dispatcher)

    assert isinstance(refused.outcome, OverloadedError)
    assert third.outcome is None
    assert dispatcher.admitted == {METHOD: 2}


def test_a_call_that_ended_before_it_was_let_in_takes_no_room(dispatcher: Dispatcher) -> None:
    late = SilentCall(METHOD, 1e9, "r", dispatcher.observe)
    late.time_out()
    dispatcher.dispatch(hold, b"", late)

    assert dispatched(dispatcher).outcome is None
    assert dispatcher.admitted == {METHOD: 1}
