"""Compares what came out with what a case expects, as the onnx package's own runner does."""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from tests.onnx_suite.cases import Case, Value

_TWO_UNITS_IN_THE_LAST_PLACE = {"bfloat16": 2**-6, "float16": 2**-9}
# What the server hands over in place of a type that numpy lacks; float32 for those that aren't here.
_WIDER = {"int4": "int8", "int2": "int8", "uint4": "uint8", "uint2": "uint8"}


def is_foreign(value: Value) -> bool:
    """Tell whether these are elements of a type that is not numpy's own."""
    return isinstance(value, np.ndarray) and value.dtype.isbuiltin != 1


def wider_type(dtype: np.dtype[np.generic]) -> np.dtype[np.generic]:
    return np.dtype(_WIDER.get(dtype.name, "float32"))


def mismatch(case: Case, outputs: Mapping[str, Value], *, rounded: Collection[str] = ("bfloat16",)) -> str:
    """Tell what is wrong with the outputs of a case; "" if nothing is.

    Outputs of the types that `rounded` names may be off by two units in the last place.
    """
    rtols = {name: max(case.rtol, _TWO_UNITS_IN_THE_LAST_PLACE[name]) for name in rounded}
    for name, expected in case.expected.items():
        if name not in outputs:
            return f'output "{name}" is missing'
        try:
            _check(outputs[name], expected, case, rtols)
        except AssertionError as error:
            return f'output "{name}": {" ".join(str(error).split())[:200]}'
    return ""


def _check(actual: Value, expected: Value, case: Case, rtols: Mapping[str, float]) -> None:
    if isinstance(expected, list):
        assert len(actual) == len(expected), f"{len(actual)} elements, expected {len(expected)}"
        for one, other in zip(actual, expected, strict=True):
            _check(one, other, case, rtols)
    elif isinstance(expected, np.ndarray):
        rtol = rtols.get(expected.dtype.name, case.rtol)
        _check_array(np.asarray(actual), expected, rtol, case.atol)
    else:
        assert actual == expected


def _check_array(actual: np.ndarray, expected: np.ndarray, rtol: float, atol: float) -> None:
    assert actual.shape == expected.shape, f"shape {actual.shape}, expected {expected.shape}"
    if expected.dtype.kind in "OSU":
        np.testing.assert_array_equal(actual, expected)
        return
    wanted = {expected.dtype, wider_type(expected.dtype)} if is_foreign(expected) else {expected.dtype}
    assert actual.dtype in wanted, f"{actual.dtype}, expected one of {wanted}"
    if is_foreign(expected):
        actual, expected = actual.astype(np.float32), expected.astype(np.float32)
    np.testing.assert_allclose(actual, expected, rtol=rtol, atol=atol)
