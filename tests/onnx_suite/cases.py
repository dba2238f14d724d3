"""The test cases that the onnx package brings: a model, what it is fed and what has to come out."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper
from onnx.backend.test.case.test_case import TestCase
from onnx.backend.test.loader import load_model_tests

KINDS = ("node", "simple", "pytorch-converted", "pytorch-operator")

# An array; a list for a sequence, a dict for a map, None for an optional that holds nothing.
Value = Any
Values = dict[str, Value]


@dataclass(frozen=True)
class Case:
    """One case: inputs and expected outputs by name, and how far these may be off."""

    kind: str
    name: str
    model: onnx.ModelProto
    feeds: Values
    expected: Values
    rtol: float
    atol: float

    @property
    def id(self) -> str:
        return f"{self.kind}/{self.name}"


def load(kinds: Sequence[str] = KINDS) -> list[Case]:
    """Load all cases of these kinds, in the package's own order."""
    with warnings.catch_warnings():
        # Cases compute what they expect when they are loaded; some divide by zero on purpose.
        warnings.simplefilter("ignore", RuntimeWarning)
        return [case for kind in kinds for test in load_model_tests(kind=kind) for case in _cases(kind, test)]


def _cases(kind: str, test: TestCase) -> Iterator[Case]:
    if test.model is None:
        folder = Path(test.model_dir or "")
        model = onnx.load(folder / "model.onnx")
        data_sets = [_read_data_set(data_set, model) for data_set in sorted(folder.glob("test_data_set_*"))]
    else:
        model, data_sets = test.model, [(list(ins), list(outs)) for ins, outs in test.data_sets or ()]
    for i, (inputs, outputs) in enumerate(data_sets):
        yield Case(
            kind=kind,
            name=test.name if len(data_sets) == 1 else f"{test.name}.{i}",
            model=model,
            feeds=_named(model.graph.input, inputs),
            expected=_named(model.graph.output, outputs),
            rtol=test.rtol,
            atol=test.atol,
        )


def _named(declared: Sequence[onnx.ValueInfoProto], values: Sequence[Value]) -> Values:
    # The data may end before the declared inputs do: the others have initializers.
    return {info.name: _value(value) for info, value in zip(declared, values, strict=False)}


def _value(value: Value) -> Value:
    if isinstance(value, onnx.TensorProto):
        return numpy_helper.to_array(value)
    return np.asarray(value) if isinstance(value, np.generic) else value


def _read_data_set(folder: Path, model: onnx.ModelProto) -> tuple[list[Value], list[Value]]:
    return _read_all(folder, "input", model.graph.input), _read_all(folder, "output", model.graph.output)


def _read_all(folder: Path, prefix: str, declared: Sequence[onnx.ValueInfoProto]) -> list[Value]:
    files = (folder / f"{prefix}_{i}.pb" for i in range(len(declared)))
    return [_read(file, info) for file, info in zip(files, declared, strict=True) if file.exists()]


def _read(file: Path, declared: onnx.ValueInfoProto) -> Value:
    data = file.read_bytes()
    if declared.type.HasField("sequence_type"):
        return numpy_helper.to_list(onnx.SequenceProto.FromString(data))
    return numpy_helper.to_array(onnx.TensorProto.FromString(data))
