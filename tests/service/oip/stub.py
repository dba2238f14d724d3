"""A client of the protocol made of our own messages, and short ways to make requests and read answers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import grpc
import numpy as np
import pytest

from protos.inference import messages as pb

Tensor = pb.ModelInferRequest.InferInputTensor
Output = pb.ModelInferRequest.InferRequestedOutputTensor
Code = grpc.StatusCode

WIRE = {
    "BOOL": "?",
    **{
        f"{kind}INT{bits}": f"<{kind.lower() or 'i'}{bits // 8}"
        for kind in ("", "U")
        for bits in (8, 16, 32, 64)
    },
    **{f"FP{bits}": f"<f{bits // 8}" for bits in (16, 32, 64)},
}


class InferenceStub:
    """Calls the methods of inference.GRPCInferenceService by name."""

    def __init__(self, channel: grpc.Channel) -> None:
        for method in pb.SERVICE.methods:
            call = channel.stream_stream if method.server_streaming else channel.unary_unary
            request, response = getattr(pb, method.input_type.name), getattr(pb, method.output_type.name)
            path = f"/{pb.SERVICE.full_name}/{method.name}"
            setattr(self, method.name, call(path, request.SerializeToString, response.FromString))

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - a callable of grpc's, by the method's name
        raise AttributeError(name)


def tensor(name: str, array: np.ndarray, datatype: str) -> Tensor:
    return Tensor(name=name, datatype=datatype, shape=array.shape)


def request(
    model: str,
    inputs: Iterable[tuple[str, str, np.ndarray]],
    outputs: Iterable[str | Output] = (),
    **fields: Any,  # noqa: ANN401 - as the message takes them
) -> pb.ModelInferRequest:
    """Make a request of (name, datatype, array), raw."""
    inputs = list(inputs)
    return pb.ModelInferRequest(
        model_name=model,
        inputs=[tensor(name, array, datatype) for name, datatype, array in inputs],
        raw_input_contents=[raw(array, datatype) for _, datatype, array in inputs],
        outputs=[Output(name=output) if isinstance(output, str) else output for output in outputs],
        **fields,
    )


def raw(array: np.ndarray, datatype: str) -> bytes:
    if datatype == "BYTES":
        return texts(array.ravel().tolist())
    if datatype == "BF16":
        return (array.astype("<f4").view("<u4") >> 16).astype("<u2").tobytes()
    return array.astype(WIRE[datatype]).tobytes()


def texts(elements: Sequence[str | bytes]) -> bytes:
    encoded = [element.encode() if isinstance(element, str) else element for element in elements]
    return b"".join(len(element).to_bytes(4, "little") + element for element in encoded)


def split(data: bytes) -> list[str]:
    elements = []
    while data:
        size = int.from_bytes(data[:4], "little")
        elements.append(data[4 : 4 + size].decode())
        data = data[4 + size :]
    return elements


def arrays(response: pb.ModelInferResponse) -> dict[str, np.ndarray]:
    """Return the outputs of an answer by name."""
    assert len(response.raw_output_contents) == len(response.outputs)
    found = {}
    for output, data in zip(response.outputs, response.raw_output_contents, strict=True):
        assert not output.HasField("contents")
        found[output.name] = elements(data, output.datatype).reshape(tuple(output.shape))
    return found


def elements(data: bytes, datatype: str) -> np.ndarray:
    """Return the elements of a raw output; float32 for BF16, which is its upper half."""
    if datatype == "BYTES":
        return np.array(split(data), object)
    if datatype == "BF16":
        return (np.frombuffer(data, "<u2").astype(np.uint32) << 16).view(np.float32)
    return np.frombuffer(data, WIRE[datatype])


def failure(call: Any, message: Any, **options: Any) -> tuple[Code, str]:  # noqa: ANN401 - any method and request
    """Make a call that has to fail, and return how it did."""
    with pytest.raises(grpc.RpcError) as info:
        call(message, **options)
    assert isinstance(info.value, grpc.Call)
    return info.value.code(), info.value.details() or ""


def integer(value: int) -> pb.InferParameter:
    return pb.InferParameter(int64_param=value)
