"""Recognises requests that differ from an earlier one in their tensors' bytes alone.

A client sends the same question over and over: model, inputs, shapes, outputs. Such a request need not be
parsed and checked anew: if it is as long as an earlier one, and equal to it outside of the tensors' bytes, it
says the same, and its tensors are where they were in that one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple
from weakref import ref

import numpy as np

from protos.inference import messages as pb
from service.api.oip.datatypes import WIRE
from service.api.oip.query import Feeds, Query
from service.api.wire import read_varint
from service.repository import Repository, ServedModel

_MOST = 512
"""Requests that are remembered at once."""
_MOST_ALIKE = 8
"""Of those of one length."""
_MOST_FIXED_BYTES = 4096
"""What is remembered of one."""
_RAW = pb.ModelInferRequest.RAW_INPUT_CONTENTS_FIELD_NUMBER


class _Tensor(NamedTuple):
    """Where an input is in the bytes of a request."""

    name: str
    dtype: np.dtype[np.generic]
    shape: tuple[int, ...]
    offset: int


class Known(NamedTuple):
    """A request that was checked, to compare others with."""

    query: Query
    model: ref[ServedModel]
    head: bytes
    """What comes before the first tensor's bytes."""
    rest: tuple[tuple[int, bytes], ...]
    """What comes after that, between the tensors' bytes: each part and its offset."""
    tensors: tuple[_Tensor, ...]

    def describes(self, data: bytes) -> bool:
        """Tell whether a request of the same length differs from this one in its tensors' bytes alone."""
        return data.startswith(self.head) and all(data.startswith(part, at) for at, part in self.rest)

    def feeds(self, data: bytes) -> Feeds:
        """Return the tensors of such a request, read-only, sharing its bytes."""
        return {t.name: np.ndarray(t.shape, t.dtype, data, t.offset) for t in self.tensors}


class KnownRequests:
    """The requests that were checked lately. Forgotten when models change."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._generation = repository.generation
        self._by_length: dict[int, tuple[Known, ...]] = {}

    def find(self, data: bytes) -> Known | None:
        """Return the request that this one is like."""
        if self._generation != (generation := self._repository.generation):
            self._by_length = {}
            self._generation = generation
        for known in self._by_length.get(len(data), ()):
            if known.describes(data):
                return known
        return None

    def remember(
        self,
        generation: int,
        data: bytes,
        request: pb.ModelInferRequest,
        served: ServedModel,
        query: Query,
    ) -> None:
        """Keep a request to compare others with, if it is of a kind that can be.

        Args:
            generation: the repository's, when the model was looked up there.
            data: the encoded request.
            request: the same.
            served: the model that it is for.
            query: what it asks.
        """
        by_length = self._by_length
        if generation != self._repository.generation or request.id or not _is_simple(request, served):
            return
        spans = list(_raw_spans(data))
        if len(spans) != len(request.inputs):
            return
        head, *rest = _parts_between(data, spans)
        if len(head[1]) + sum(len(part) for _, part in rest) > _MOST_FIXED_BYTES:
            return
        tensors = tuple(
            _Tensor(tensor.name, WIRE[tensor.datatype], tuple(tensor.shape), start)
            for tensor, (start, _) in zip(request.inputs, spans, strict=True)
        )
        if len(by_length) >= _MOST // _MOST_ALIKE:
            by_length.clear()
        alike = by_length.get(len(data), ())[: _MOST_ALIKE - 1]
        by_length[len(data)] = (Known(query, ref(served), head[1], tuple(rest), tensors), *alike)


def _is_simple(request: pb.ModelInferRequest, served: ServedModel) -> bool:
    """Tell whether the tensors are raw numbers of which every pattern of bits is one."""
    inputs, foreign = request.inputs, served.model.graph.foreign
    return len(request.raw_input_contents) == len(inputs) > 0 and all(
        tensor.datatype in WIRE and tensor.datatype != "BOOL" and tensor.name not in foreign
        for tensor in inputs
    )


def _parts_between(data: bytes, spans: Sequence[tuple[int, int]]) -> Iterator[tuple[int, bytes]]:
    at = 0
    for start, stop in spans:
        yield at, data[at:start]
        at = stop
    if at < len(data):
        yield at, data[at:]


def _raw_spans(data: bytes) -> Iterator[tuple[int, int]]:
    """Find the bytes of each entry of raw_input_contents in an encoded request, which is known to be right.

    Those behind an unknown group, which protobuf skips, are not found.

    https://protobuf.dev/programming-guides/encoding/#structure
    """
    at = 0
    while at < len(data):
        tag, at = read_varint(data, at)
        kind = tag & 7
        if kind == 2:
            size, at = read_varint(data, at)
            if tag >> 3 == _RAW:
                yield at, at + size
            at += size
        elif kind == 0:
            _, at = read_varint(data, at)
        elif kind in (1, 5):
            at += 8 if kind == 1 else 4
        else:  # the beginning of a group
            return
