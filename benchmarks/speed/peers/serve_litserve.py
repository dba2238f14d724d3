"""Serve LeNet with LitServe: `serve_litserve.py MODEL PORT`.

Its requests are JSON; the pixels are float32 in base64, which costs less than a list of numbers.
"""

from __future__ import annotations

import base64
import sys

import litserve
import numpy as np
import onnxruntime as ort


class LeNet(litserve.LitAPI):
    """Runs waiting requests together, in ONNX Runtime with one thread."""

    def __init__(self, model: str) -> None:
        super().__init__(max_batch_size=64, batch_timeout=0.0)
        self._model = model

    def setup(self, device: str) -> None:
        """Load the model in a worker process."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(self._model, options)

    def decode_request(self, request: dict[str, str]) -> np.ndarray:
        """Return the images, float32 [N, 1, 32, 32]."""
        return np.frombuffer(base64.b64decode(request["image"]), np.float32).reshape(-1, 1, 32, 32)

    def batch(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Leave it to predict, because requests have different sizes."""
        return inputs

    def predict(self, inputs: list[np.ndarray]) -> list[np.ndarray]:
        """Return the probabilities of each request."""
        (probabilities,) = self._session.run(["probabilities"], {"image": np.concatenate(inputs)})
        return np.split(probabilities, np.cumsum([len(images) for images in inputs])[:-1])

    def unbatch(self, output: list[np.ndarray]) -> list[np.ndarray]:
        """See batch."""
        return output

    def encode_response(self, output: np.ndarray) -> dict[str, list[list[float]]]:
        """Return the probabilities as JSON."""
        return {"probabilities": output.tolist()}


if __name__ == "__main__":
    server = litserve.LitServer(LeNet(sys.argv[1]), accelerator="cpu", workers_per_device=2)
    server.run(host="127.0.0.1", port=int(sys.argv[2]), generate_client_file=False, log_level="warning")
