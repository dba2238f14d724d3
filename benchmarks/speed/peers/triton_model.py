"""LeNet for Triton's Python backend; Triton gathers the requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence

import numpy as np
import onnxruntime as ort
import triton_python_backend_utils as triton


class TritonPythonModel:
    """Runs ONNX Runtime with one thread."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the file that the model's configuration names."""
        path = json.loads(args["model_config"])["parameters"]["path"]["string_value"]
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(path, options)

    def execute(self, requests: Sequence[triton.InferenceRequest]) -> list[triton.InferenceResponse]:
        """Run all requests as one batch."""
        images = [triton.get_input_tensor_by_name(request, "image").as_numpy() for request in requests]
        (probabilities,) = self._session.run(["probabilities"], {"image": np.concatenate(images)})
        parts = np.split(probabilities, np.cumsum([len(part) for part in images])[:-1])
        return [
            triton.InferenceResponse(output_tensors=[triton.Tensor("probabilities", part)]) for part in parts
        ]
