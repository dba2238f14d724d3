"""Runs cases through the server: each is a model of its repository, called over gRPC."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import grpc
import numpy as np

from protos.inference import messages as pb
from tests.onnx_suite.cases import Case, Values
from tests.onnx_suite.comparison import is_foreign, mismatch, wider_type
from tests.service.conftest import add_model
from tests.service.oip.stub import WIRE, InferenceStub, arrays, texts
from tests.serving import serving

MODELS_PER_SERVER = 400

_BFLOAT16 = "bfloat16"
_DATATYPES = {np.dtype(numpy_type): name for name, numpy_type in WIRE.items()}


@dataclass(frozen=True)
class Outcome:
    """What became of a case: "", or what was wrong."""

    case: Case
    problem: str


def run(cases: Sequence[Case], transport: str = "auto") -> Iterator[Outcome]:
    """Run cases, some hundred models to a server so that memory stays bounded."""
    for start in range(0, len(cases), MODELS_PER_SERVER):
        with TemporaryDirectory() as folder:
            some = cases[start : start + MODELS_PER_SERVER]
            yield from _run_on_one_server(Path(folder), some, transport)


def _run_on_one_server(folder: Path, cases: Iterable[Case], transport: str) -> Iterator[Outcome]:
    named = {f"case-{i}": case for i, case in enumerate(cases)}
    for name, case in named.items():
        add_model(folder, name, case.model)
    settings = {"threads": 1, "refuse_non_finite": False, "transport": transport, "log_level": "error"}
    with (
        serving(model_repository=folder, **settings) as server,
        grpc.insecure_channel(server.address) as channel,
    ):
        stub = InferenceStub(channel)
        index = stub.RepositoryIndex(pb.RepositoryIndexRequest()).models
        reasons = {entry.name: entry.reason for entry in index if entry.state != "READY"}
        for name, case in named.items():
            yield Outcome(case, reasons.get(name) or _problem(stub, name, case))


def _problem(stub: InferenceStub, name: str, case: Case) -> str:
    """Call a model, once for its outputs and once for them and all its layers."""
    try:
        metadata = stub.ModelMetadata(pb.ModelMetadataRequest(name=name))
        config = stub.ModelConfig(pb.ModelConfigRequest(name=name)).config
        layers = json.loads(config.parameters["featurelens_layers"].string_value)
        names = dict.fromkeys([*(output.name for output in metadata.outputs), *layers])
        plain = stub.ModelInfer(_request(name, case.feeds))
        tapped = stub.ModelInfer(_request(name, case.feeds, names))
    except grpc.RpcError as error:
        return _status(error)
    return (
        mismatch(case, arrays(plain))
        or _misdescribed(metadata, plain)
        # A layer of float16 is rounded on its way out, where ONNX Runtime would have gone on in float32.
        or mismatch(case, arrays(tapped), rounded=("bfloat16", "float16"))
    )


def _status(error: grpc.RpcError) -> str:
    assert isinstance(error, grpc.Call)
    return f"{error.code().name}: {error.details()}"


def _misdescribed(metadata: pb.ModelMetadataResponse, response: pb.ModelInferResponse) -> str:
    """Tell which output is not what the metadata says; "" if all are."""
    for told, given in zip(metadata.outputs, response.outputs, strict=True):
        sizes = zip(told.shape, given.shape, strict=False)
        fits = list(told.shape) == [-1] or len(told.shape) == len(given.shape)
        if not fits or any(-1 != one != other for one, other in sizes):
            return f'output "{told.name}": shape {list(given.shape)}, described as {list(told.shape)}'
        if (told.name, told.datatype) != (given.name, given.datatype):
            return f'output "{given.name}": {given.datatype}, described as {told.name} {told.datatype}'
    return ""


def _request(name: str, inputs: Values, outputs: Iterable[str] = ()) -> pb.ModelInferRequest:
    request = pb.ModelInferRequest(model_name=name)
    for key, array in inputs.items():
        datatype, data = _encoded(array)
        request.inputs.add(name=key, datatype=datatype, shape=array.shape)
        request.raw_input_contents.append(data)
    for output in outputs:
        request.outputs.add(name=output)
    return request


def _encoded(array: np.ndarray) -> tuple[str, bytes]:
    if array.dtype.kind in "OSU":
        return "BYTES", texts(array.ravel().tolist())
    if array.dtype.name == _BFLOAT16:
        return "BF16", array.tobytes()
    wide = array.astype(wider_type(array.dtype)) if is_foreign(array) else array
    return _DATATYPES[wide.dtype], wide.tobytes()
