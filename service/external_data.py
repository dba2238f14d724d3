"""Weights that a model keeps in files beside its own: found, checked, and put into the model.

What the model says of them is checked before anything is read. Nothing is opened here: the names come from a
file. https://github.com/onnx/onnx/blob/main/docs/ExternalData.md
"""

from __future__ import annotations

import re
from collections.abc import Mapping, MutableSequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import onnx

from service.errors import ModelLoadError
from service.file_kinds import stand_in
from service.onnx_file import element_count, parsed, tensors_of
from service.tensors import byte_count

# The key of every such tensor, as protobuf writes it: field 1, eight bytes. Parsing tells the rest.
_MARK = b"\n\x08location"
_MOST_BYTES = 2**31 - 1  # of a message: https://protobuf.dev/programming-guides/proto-limits/#total
_NAME = re.compile(r"[^./\\][^/\\]{0,254}")
_NUMBER = re.compile(r"[0-9]{1,19}")
_SAVE_AGAIN = 'save it again (onnx.save with save_as_external_data=True, location="model.onnx.data")'


@dataclass(frozen=True, slots=True)
class _Part:
    """Where the bytes of one tensor are."""

    tensor: onnx.TensorProto
    file: str
    start: int
    end: int
    inside: bool
    """Whether it is in an attribute, a subgraph or a function: it can't leave the model then."""


class ExternalData:
    """A model some of whose weights are in other files.

    Attributes:
        files: The names of these files, sorted.
    """

    def __init__(self, model: onnx.ModelProto, parts: Mapping[str, list[_Part]]) -> None:
        self.files = tuple(parts)
        self._model = model
        self._parts = parts
        self._weights: list[bytes] = []

    @classmethod
    def of(cls, data: bytes, most_bytes: int) -> ExternalData | None:
        """Find out what a model file says of other files; None if it doesn't need any.

        Raises:
            ModelLoadError: It isn't a model, says what can't be, or has over `most_bytes` with its weights.
        """
        if not may_be_external(data):
            return None
        model = parsed(data)
        parts = [_part(tensor, inside=False) for tensor in _taken_out(model.graph.initializer)]
        parts += [_part(tensor, inside=True) for tensor in tensors_of(model) if is_external(tensor)]
        if not parts:
            return None
        # Parts may overlap, so this isn't bounded by the sizes of the files.
        total = len(data) + sum(part.end - part.start for part in parts)
        if total > most_bytes or total > _MOST_BYTES:
            why = f"the limit is {most_bytes}" if total > most_bytes else "ONNX Runtime takes less than 2 GiB"
            raise ModelLoadError(f"with its weights it has {total} bytes; {why}")
        names = sorted({part.file for part in parts})
        return cls(model, {name: [part for part in parts if part.file == name] for name in names})

    def fill(self, file: str, content: bytes | None) -> None:
        """Put the weights of one file into the model; None: there is no such file.

        Raises:
            ModelLoadError: They aren't in it.
        """
        for part in self._parts[file]:
            weight = f'the weight "{part.tensor.name}"'
            if content is None:
                raise ModelLoadError(
                    f"{weight} is in {file}, which is missing; put it beside the model's file"
                )
            if kind := stand_in(content):
                raise ModelLoadError(f"{weight} is in {file}, which is {kind}")
            if part.end > len(content):
                raise ModelLoadError(
                    f"{weight} is said to be at the bytes {part.start} to {part.end} of {file}, which has "
                    f"{len(content)}; it is incomplete, or not this model's: copy both files again"
                )
            part.tensor.ClearField("external_data")
            part.tensor.ClearField("data_location")
            data = content[part.start : part.end]
            if part.inside:
                part.tensor.raw_data = data
            else:
                self._weights.append(_serialized(part.tensor, data))

    def whole(self) -> bytes:
        """Serialize the model, with all its weights, as one file."""
        # Messages that follow each other merge (see Graph.with_outputs); one message takes twice the memory.
        return b"".join((self._model.SerializeToString(), *self._weights))


def may_be_external(data: bytes) -> bool:
    """Tell, without parsing it, whether a model file may name others."""
    return _MARK in data


def is_external(tensor: onnx.TensorProto) -> bool:
    """Tell whether a tensor's data is in another file."""
    return tensor.data_location == onnx.TensorProto.EXTERNAL


def _taken_out(initializers: MutableSequence[onnx.TensorProto]) -> list[onnx.TensorProto]:
    """Remove those whose data is elsewhere from a graph; return copies of them."""
    elsewhere = [index for index, tensor in enumerate(initializers) if is_external(tensor)]
    taken = [_copy(initializers[index]) for index in elsewhere]
    for index in reversed(elsewhere):
        del initializers[index]
    return taken


def _serialized(initializer: onnx.TensorProto, data: bytes) -> bytes:
    """Serialize a model of nothing but this initializer with this data."""
    filled = _copy(initializer)  # a message keeps the memory of all that it has ever held
    filled.raw_data = data
    return onnx.ModelProto(graph=onnx.GraphProto(initializer=[filled])).SerializeToString()


def _copy(tensor: onnx.TensorProto) -> onnx.TensorProto:
    copy = onnx.TensorProto()
    copy.CopyFrom(tensor)
    return copy


def _part(tensor: onnx.TensorProto, *, inside: bool) -> _Part:
    told = {entry.key: entry.value for entry in tensor.external_data}
    file = _file(tensor, told.get("location", ""))
    size = _size(tensor)
    start, length = (
        _number(tensor, key, told.get(key, str(usual))) for key, usual in (("offset", 0), ("length", size))
    )
    if length != size:
        raise ModelLoadError(
            f'the weight "{tensor.name}" takes {size} bytes, and {length} are said to be in {file}; '
            f"{_SAVE_AGAIN}"
        )
    return _Part(tensor, file, start, start + size, inside)


def _file(tensor: onnx.TensorProto, location: str) -> str:
    """Return the name of a file in the model's own folder; not a hidden one, which may be half written."""
    steps = PurePosixPath(location).parts
    if len(steps) != 1 or not _NAME.fullmatch(steps[0]) or not steps[0].isprintable():
        raise ModelLoadError(
            f'the weight "{tensor.name}" is said to be in {location[:100]!r}, which is not the name of '
            f"a file beside the model's; {_SAVE_AGAIN}"
        )
    return steps[0]


def _number(tensor: onnx.TensorProto, key: str, text: str) -> int:
    if not _NUMBER.fullmatch(text):
        raise ModelLoadError(
            f'the weight "{tensor.name}" is said to have the {key} {text[:100]!r}, which is not a number of '
            f"bytes; {_SAVE_AGAIN}"
        )
    return int(text)


def _size(tensor: onnx.TensorProto) -> int:
    """Return how many bytes a tensor takes as raw data."""
    size = None if min(tensor.dims, default=0) < 0 else byte_count(tensor.data_type, element_count(tensor))
    if size is None:
        raise ModelLoadError(
            f'the weight "{tensor.name}" is said to be in another file, which is for numbers of a known size'
        )
    return size
