from __future__ import annotations

from collections.abc import Iterator

import pytest

from featurelens import FeaturelensError, Outcome, Prediction
from featurelens.stream import Window
from protos.featurelens.v1.classifier_pb2 import ClassifyStreamResponse, StreamError
from tests.featurelens.servers import SEVEN


def answer(request_id: str) -> ClassifyStreamResponse:
    return ClassifyStreamResponse(id=request_id, response=SEVEN)


def kinds(outcomes: list[Outcome]) -> list[str]:
    return [each.label if isinstance(each, Prediction) else each.code for each in outcomes]


def test_outcomes_come_in_the_images_order_whatever_the_answers_order() -> None:
    window = Window([b"a", b"b", b"c"], {}, size=3)
    first, second, third = window.refill()

    window.settle(answer(third.id))
    window.settle(ClassifyStreamResponse(id=second.id, error=StreamError(code=3, message="no image")))
    assert window.settled() == []
    window.settle(answer(first.id))
    assert kinds(window.settled()) == ["7", "INVALID_ARGUMENT", "7"]
    assert not window


def test_no_more_images_than_the_window_holds_are_taken_in() -> None:
    taken = []

    def images() -> Iterator[bytes]:
        for number in range(100):
            taken.append(number)
            yield b"image"

    window = Window(images(), {}, size=4)
    requests = window.refill()
    assert (len(requests), len(taken)) == (4, 4)

    window.settle(answer(requests[1].id))  # waits for the first, so there is no room yet
    assert (window.settled(), window.refill(), len(taken)) == ([], [], 4)
    window.settle(answer(requests[0].id))
    assert len(window.settled()) == 2
    assert (len(window.refill()), len(taken)) == (2, 6)


def test_an_image_that_cannot_be_read_is_an_outcome_and_no_request() -> None:
    window = Window(["/no/such/file.png"], {}, size=1)

    assert window.refill() == []
    assert kinds(window.settled()) == ["INVALID_ARGUMENT"]
    assert not window


def test_an_answer_to_nothing_is_an_error() -> None:
    window = Window([b"a"], {}, size=1)
    (request,) = window.refill()
    window.settle(answer(request.id))

    for stray in (request.id, "made up"):
        with pytest.raises(FeaturelensError, match=r"INTERNAL: .* request .*, which is not open"):
            window.settle(answer(stray))


def test_two_streams_share_no_request_id() -> None:
    ids = {request.id for _ in range(2) for request in Window([b"a"], {}, size=1).refill()}

    assert len(ids) == 2


def test_a_window_without_room_is_refused() -> None:
    with pytest.raises(ValueError, match="in_flight is 0, expected 1 or more"):
        Window([], {}, size=0)
