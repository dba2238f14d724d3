"""LeNet for TorchServe, which gathers the requests."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnxruntime as ort
from ts.context import Context


class LeNet:
    """Runs ONNX Runtime with one thread."""

    def initialize(self, context: Context) -> None:
        """Load the file that the archive carries."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        folder = context.system_properties["model_dir"]
        self._session = ort.InferenceSession(Path(folder, "model.onnx"), options)

    def handle(self, data: Sequence[Mapping[str, bytes]], context: Context) -> list[str]:
        """Run all requests, each the bytes of float32 [N, 1, 32, 32], as one batch."""
        images = [np.frombuffer(request["body"], np.float32).reshape(-1, 1, 32, 32) for request in data]
        (probabilities,) = self._session.run(["probabilities"], {"image": np.concatenate(images)})
        parts = np.split(probabilities, np.cumsum([len(part) for part in images])[:-1])
        return [json.dumps({"probabilities": part.tolist()}) for part in parts]
