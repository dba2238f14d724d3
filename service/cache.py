"""The response cache: what runs gave, kept for later requests that would get the same.

Nothing but the model's file, the wanted outputs and the inputs shapes the answer of a deterministic model.
"""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial
from threading import Lock
from typing import Any

import numpy as np
import structlog
from structlog.typing import FilteringBoundLogger

from service.errors import ServiceError
from service.job import Arrays, Job, Result

_log: FilteringBoundLogger = structlog.get_logger()

Done = Callable[[Result | ServiceError], None]

_ENTRY_BYTES = 600
"""What an entry takes besides its arrays' elements, with one array; each further array takes a part of it."""
_ARRAY_BYTES = 200
_KEY_BYTES = 32  # nobody finds two inputs with the same key


class ResponseCache:
    """Outputs of runs by everything that shapes them, the least recently used dropped first. Thread-safe.

    An entry holds no model: those of one that is gone are never asked for again, and drop out.

    Args:
        capacity: Bytes that all entries together may take.
    """

    def __init__(self, capacity: int) -> None:
        self._capacity = capacity
        self._size = 0
        self._entries: OrderedDict[bytes, tuple[Arrays, tuple[Arrays, ...]]] = OrderedDict()
        self._lock = Lock()

    @property
    def size(self) -> int:
        """Bytes that the entries take."""
        return self._size

    def answers(self, job: Job) -> bool:
        """End a job with what an equal one got, if that is held.

        Else return False, and hold what the job's run will give. Equal jobs that come meanwhile are run, too.
        """
        if not job.model.cacheable:
            return False
        started_ns = time.perf_counter_ns()
        key = _key(job)
        with self._lock:
            if (held := self._entries.get(key)) is not None:
                self._entries.move_to_end(key)
        spent_ns = time.perf_counter_ns() - started_ns
        if held is None:
            job.done = partial(self._end, key, spent_ns, job.done)
            return False
        outputs, items = held
        job.done(Result(outputs, 0, 0, 0, executions=0, cached=True, cache_ns=spent_ns, items=items))
        return True

    def _end(self, key: bytes, spent_ns: int, done: Done, outcome: Result | ServiceError) -> None:
        if isinstance(outcome, Result):
            started_ns = time.perf_counter_ns()
            try:
                self._hold(key, outcome)
            except Exception:  # noqa: BLE001 - the answer is there, held or not
                _log.exception("unexpected error in holding an answer")
            outcome = outcome._replace(cache_ns=spent_ns + time.perf_counter_ns() - started_ns)
        done(outcome)

    def _hold(self, key: bytes, result: Result) -> None:
        size = _size(result.outputs, result.items)
        if size > self._capacity:
            return
        held = _own_all(result.outputs), tuple(map(_own_all, result.items))
        with self._lock:
            if key in self._entries:
                return
            self._entries[key] = held
            self._size += size
            while self._size > self._capacity:
                self._size -= _size(*self._entries.popitem(last=False)[1])


def _key(job: Job) -> bytes:
    feeds = sorted(job.feeds.items())
    each_alone = job.each_alone and job.size > 1  # one item runs alone in any case
    shapes = [(name, feed.dtype.str, feed.shape) for name, feed in feeds]
    described = (job.model.digest, job.outputs, each_alone, shapes)
    digest = hashlib.blake2b(repr(described).encode(), digest_size=_KEY_BYTES)
    for _, feed in feeds:
        if feed.dtype.hasobject:
            for text in map(_encoded, feed.flat):
                digest.update(len(text).to_bytes(8, "little") + text)
        else:
            digest.update(np.ascontiguousarray(feed).data)
    return digest.digest()


def _own_all(outputs: Arrays) -> Arrays:
    return {name: _own(array) for name, array in outputs.items()}


def _own(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Copy an array, which may be a part of a batch's; nobody who gets it later can change it."""
    copy = array.copy()
    copy.flags.writeable = False
    return copy


def _size(outputs: Arrays, items: tuple[Arrays, ...]) -> int:
    arrays = [array for each in (outputs, *items) for array in each.values()]
    elements = sum(array.nbytes + _text_bytes(array) for array in arrays)
    return _ENTRY_BYTES + _ARRAY_BYTES * (len(arrays) - 1) + elements


def _text_bytes(array: np.ndarray[Any, Any]) -> int:
    return sum(len(_encoded(text)) for text in array.flat) if array.dtype.hasobject else 0


def _encoded(text: object) -> bytes:
    return text if isinstance(text, bytes) else str(text).encode()
