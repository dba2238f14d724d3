"""What was replaced is freed: after its last call, and not on that call's thread."""

from __future__ import annotations

import gc
import threading
import weakref
from collections.abc import Iterator
from queue import SimpleQueue

import numpy as np
import pytest

from service.device import Execution
from service.errors import ServiceError
from service.job import Job, Result
from service.model import Model
from service.repository import Entry, Repository, ServedModel
from service.retirement import Retirement
from service.scheduler import Scheduler
from tests.service import onnx_models
from tests.service.live.repositories import wait_until_true

X = np.ones((1, 2), np.float32)


@pytest.fixture
def scheduler() -> Iterator[Scheduler]:
    scheduler = Scheduler()
    yield scheduler
    scheduler.close()


@pytest.fixture
def retirement(scheduler: Scheduler) -> Iterator[Retirement]:
    retirement = Retirement(scheduler.retire)
    yield retirement
    retirement.close()


def served(version: int = 1) -> ServedModel:
    model = Model(onnx_models.classifier().SerializeToString(), Execution())
    return ServedModel("tiny", str(version), model, None, finite=True)


def lanes() -> int:
    return sum(thread.name == "lane" for thread in threading.enumerate())


def run(scheduler: Scheduler, model: Model) -> Result | ServiceError:
    """Run a job as a call does that has the model already."""
    done: SimpleQueue[Result | ServiceError] = SimpleQueue()
    scheduler.submit(Job(model, {"x": X}, ("scores",), 1, done.put, lambda: None))
    return done.get(timeout=30)


def test_a_model_is_freed_after_its_last_call(scheduler: Scheduler, retirement: Retirement) -> None:
    repository = Repository()
    repository.publish([Entry.loading("tiny", "1")])
    repository.publish([Entry.ready(served())])
    before = lanes()
    call = repository.get("tiny")
    model = weakref.ref(call.model)
    freed_on: SimpleQueue[threading.Thread] = SimpleQueue()
    weakref.finalize(call.model, lambda: freed_on.put(threading.current_thread()))
    assert isinstance(run(scheduler, call.model), Result)

    displaced = repository.publish([Entry.ready(served())])
    retirement.retire(displaced)
    del displaced
    gc.collect()
    assert isinstance(run(scheduler, call.model), Result)
    assert model() is not None

    del call
    assert freed_on.get(timeout=30).name == "retirement"
    wait_until_true(lambda: lanes() == before)


def test_the_jobs_of_a_retired_model_are_finished(scheduler: Scheduler) -> None:
    model = served().model
    done: SimpleQueue[Result | ServiceError] = SimpleQueue()
    for _ in range(100):
        scheduler.submit(Job(model, {"x": X}, ("scores",), 1, done.put, lambda: None))
    scheduler.retire(model)
    assert all(isinstance(done.get(timeout=30), Result) for _ in range(100))
