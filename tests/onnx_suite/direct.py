"""Runs a case in ONNX Runtime itself, by its Python interface alone: what the server is measured against."""

from __future__ import annotations

import ctypes

import numpy as np
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

from tests.onnx_suite.cases import Case, Value, Values
from tests.onnx_suite.comparison import is_foreign, mismatch

_FATAL = 4


def passes(case: Case) -> bool:
    """Tell whether ONNX Runtime computes what the case expects."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = _FATAL
    try:
        session = ort.InferenceSession(case.model.SerializeToString(), options)
        return not mismatch(case, _outputs(session, case))
    except Exception:  # noqa: BLE001 - ONNX Runtime's errors derive from Exception and nothing else
        return False


def _outputs(session: ort.InferenceSession, case: Case) -> Values:
    names = [output.name for output in session.get_outputs()]
    if not any(map(is_foreign, (*case.feeds.values(), *case.expected.values()))):
        return dict(zip(names, session.run(names, case.feeds), strict=True))
    feeds = {name: _given(array) for name, array in case.feeds.items()}
    return dict(zip(names, map(_taken, session.run_with_ort_values(names, feeds)), strict=True))


def _given(array: np.ndarray) -> ort.OrtValue:
    """Make a value of an array; of types with several elements to a byte it wants the packed bytes first."""
    packed = numpy_helper.from_array(array)
    buffer = np.resize(np.frombuffer(packed.raw_data, np.uint8), array.nbytes) if array.size else array
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(
        buffer.view(np.dtype(f"u{array.itemsize}")).reshape(array.shape), packed.data_type
    )


def _taken(value: ort.OrtValue) -> Value:
    """Make an array of a value's bytes: ONNX Runtime's own way has no types that numpy lacks."""
    size = value.tensor_size_in_bytes()
    data = ctypes.string_at(value.data_ptr(), size) if size else b""
    tensor = TensorProto(data_type=value.element_type(), dims=value.shape(), raw_data=data)
    return numpy_helper.to_array(tensor).astype(helper.tensor_dtype_to_np_dtype(tensor.data_type))
