"""Serve LeNet with MLServer: `serve_mlserver.py MODEL PORT`."""

from __future__ import annotations

import asyncio
import sys

import onnxruntime as ort
from mlserver import MLModel, MLServer, ModelSettings, Settings
from mlserver.codecs import NumpyCodec
from mlserver.settings import ModelParameters
from mlserver.types import InferenceRequest, InferenceResponse


class LeNet(MLModel):
    """Runs ONNX Runtime with one thread."""

    async def load(self) -> bool:
        """Read the file that the settings name."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = 1
        self._session = ort.InferenceSession(self.settings.parameters.uri, options)
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        """Return the probabilities."""
        image = NumpyCodec.decode_input(payload.inputs[0])
        (probabilities,) = self._session.run(["probabilities"], {"image": image})
        output = NumpyCodec.encode_output("probabilities", probabilities)
        return InferenceResponse(model_name=self.name, outputs=[output])


async def main(model: str, port: int) -> None:
    """Serve until a signal comes; the two other ports that it insists on are those after `port`."""
    settings = Settings(
        debug=False,
        host="127.0.0.1",
        grpc_port=port,
        http_port=port + 1,
        metrics_endpoint=None,
        parallel_workers=0,
        grpc_max_message_length=64 * 1024 * 1024,
    )
    lenet = ModelSettings(
        name="lenet", implementation="serve_mlserver.LeNet", parameters=ModelParameters(uri=model)
    )
    await MLServer(settings).start([lenet])


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
