"""What ONNX Runtime computes itself: any tensor of the graph, without optimizations."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from tests.foreign.model import Array, Feeds

_ERROR = 3


class Direct:
    """A session that returns all the tensors that are asked for.

    Args:
        file: The model; weights outside of it lie beside it.
        names: What it returns besides the declared outputs.
    """

    def __init__(self, file: Path, names: Collection[str]) -> None:
        model = onnx.load(file, load_external_data=True)
        declared = {value.name for value in model.graph.output}
        model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in declared)
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.log_severity_level = _ERROR
        self._session = ort.InferenceSession(model.SerializeToString(), options, ["CPUExecutionProvider"])

    def __call__(self, feeds: Feeds) -> dict[str, Array]:
        """Run it and return the tensors; sequences and maps are left out."""
        names = [output.name for output in self._session.get_outputs()]
        values = self._session.run(names, dict(feeds))
        return {
            name: value for name, value in zip(names, values, strict=True) if isinstance(value, np.ndarray)
        }
