"""What the server and its models say of themselves."""

from __future__ import annotations

import json
from contextlib import ExitStack
from threading import Thread

import grpc
import pytest
from google.protobuf.descriptor_pb2 import FileDescriptorProto
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from protos.inference import messages as pb
from tests.service.oip.models import ELEMENTS
from tests.service.oip.stub import Code, InferenceStub, failure
from tests.service.test_classify import LAYERS
from tests.serving import Serving


def test_the_server_is_live_and_ready(zoo: InferenceStub) -> None:
    assert zoo.ServerLive(pb.ServerLiveRequest()).live
    assert zoo.ServerReady(pb.ServerReadyRequest()).ready


def test_a_server_that_drains_is_live_and_not_ready(serving: Serving) -> None:
    with ExitStack() as running:
        server = running.enter_context(serving(drain_s=1.0))
        with grpc.insecure_channel(server.address) as channel:
            watch = health_pb2_grpc.HealthStub(channel).Watch(health_pb2.HealthCheckRequest())
            assert next(watch).status == health_pb2.HealthCheckResponse.SERVING
            stopping = Thread(target=running.pop_all().close)
            stopping.start()
            assert next(watch).status == health_pb2.HealthCheckResponse.NOT_SERVING
            stub = InferenceStub(channel)
            assert stub.ServerLive(pb.ServerLiveRequest()).live
            assert not stub.ServerReady(pb.ServerReadyRequest()).ready
            assert not stub.ModelReady(pb.ModelReadyRequest(name="lenet")).ready
        stopping.join()


def test_the_server_names_the_extensions_that_work(zoo: InferenceStub) -> None:
    response = zoo.ServerMetadata(pb.ServerMetadataRequest())

    assert response.name == "featurelens"
    assert response.version
    assert list(response.extensions) == [
        *("classification", "model_configuration", "parameters", "schedule_policy", "statistics"),
        "featurelens_layers",
    ]


@pytest.mark.parametrize(
    ("name", "version", "ready"),
    [("sums", "", True), ("sums", "1", True), ("broken", "", False), ("broken", "1", False)],
)
def test_whether_a_model_is_ready(zoo: InferenceStub, name: str, version: str, ready: bool) -> None:
    assert zoo.ModelReady(pb.ModelReadyRequest(name=name, version=version)).ready is ready


@pytest.mark.parametrize(("name", "version"), [("nothing", ""), ("sums", "2")])
def test_a_model_that_is_not_there_is_not_found(zoo: InferenceStub, name: str, version: str) -> None:
    assert failure(zoo.ModelReady, pb.ModelReadyRequest(name=name, version=version))[0] is Code.NOT_FOUND


def test_metadata_of_the_shipped_model(lenet: InferenceStub) -> None:
    response = lenet.ModelMetadata(pb.ModelMetadataRequest(name="lenet"))

    assert (response.name, list(response.versions), response.platform) == (
        "lenet",
        ["1"],
        "onnxruntime_onnx",
    )
    assert tensors(response.inputs) == [("image", "FP32", [-1, 1, 32, 32])]
    assert tensors(response.outputs) == [("probabilities", "FP32", [-1, 10])]


def test_metadata_of_several_tensors_and_versions(zoo: InferenceStub) -> None:
    response = zoo.ModelMetadata(pb.ModelMetadataRequest(name="sums", version="1"))

    assert list(response.versions) == ["1", "3"]
    assert tensors(response.inputs) == [("a", "FP32", [-1, 2]), ("b", "FP32", [-1, 2])]
    assert tensors(response.outputs) == [("sum", "FP32", [-1, 2]), ("less", "BOOL", [-1, 2])]


@pytest.mark.parametrize("datatype", ELEMENTS)
def test_datatypes_are_named_in_metadata_and_configuration(zoo: InferenceStub, datatype: str) -> None:
    name = f"same-{datatype}"
    metadata = zoo.ModelMetadata(pb.ModelMetadataRequest(name=name))
    config = zoo.ModelConfig(pb.ModelConfigRequest(name=name)).config

    kind = pb.DataType.Name(config.input[0].data_type).removeprefix("TYPE_")
    assert metadata.inputs[0].datatype == metadata.outputs[0].datatype == datatype
    assert kind == ("STRING" if datatype == "BYTES" else datatype)
    assert config.output[0].data_type == config.input[0].data_type


def tensors(metadata: list[pb.ModelMetadataResponse.TensorMetadata]) -> list[tuple[str, str, list[int]]]:
    return [(tensor.name, tensor.datatype, list(tensor.shape)) for tensor in metadata]


def test_configuration_of_the_shipped_model(lenet: InferenceStub) -> None:
    config = lenet.ModelConfig(pb.ModelConfigRequest(name="lenet")).config

    assert (config.name, config.platform, config.backend) == ("lenet", "onnxruntime_onnx", "onnxruntime")
    assert (config.max_batch_size, config.WhichOneof("scheduling_choice")) == (1024, "dynamic_batching")
    (image,) = config.input
    assert (image.name, image.format, list(image.dims)) == ("image", pb.ModelInput.FORMAT_NCHW, [1, 32, 32])
    assert [(output.name, list(output.dims)) for output in config.output] == [("probabilities", [10])]
    assert not config.model_transaction_policy.decoupled


def test_layers_are_listed_in_the_configurations_parameters(lenet: InferenceStub) -> None:
    config = lenet.ModelConfig(pb.ModelConfigRequest(name="lenet")).config

    assert json.loads(config.parameters["featurelens_layers"].string_value) == LAYERS


def test_configuration_of_a_model_without_a_batch(zoo: InferenceStub) -> None:
    config = zoo.ModelConfig(pb.ModelConfigRequest(name="product")).config

    assert (config.max_batch_size, config.WhichOneof("scheduling_choice")) == (0, None)
    assert [list(tensor.dims) for tensor in config.input] == [[2, 3], [3, -1]]
    assert config.input[0].format == pb.ModelInput.FORMAT_NONE


def test_the_index_lists_every_version_with_its_state(zoo: InferenceStub) -> None:
    models = zoo.RepositoryIndex(pb.RepositoryIndexRequest()).models

    rows = {(model.name, model.version): model for model in models}
    assert {("sums", "1"), ("sums", "3"), ("broken", "1"), ("scalar", "1")} <= rows.keys()
    assert (rows["sums", "3"].state, rows["sums", "3"].reason) == ("READY", "")
    assert rows["broken", "1"].state == "UNAVAILABLE"
    assert "model.onnx can't be loaded" in rows["broken", "1"].reason


def test_the_index_can_be_limited_to_what_is_ready(zoo: InferenceStub) -> None:
    models = zoo.RepositoryIndex(pb.RepositoryIndexRequest(ready=True)).models

    assert {model.state for model in models} == {"READY"}
    assert "broken" not in {model.name for model in models}


def test_there_is_one_repository(zoo: InferenceStub) -> None:
    code, details = failure(zoo.RepositoryIndex, pb.RepositoryIndexRequest(repository_name="other"))

    assert code is Code.INVALID_ARGUMENT
    assert "leave repository_name empty" in details


def test_health_is_told_under_the_services_name(zoo_address: str) -> None:
    with grpc.insecure_channel(zoo_address) as channel:
        request = health_pb2.HealthCheckRequest(service="inference.GRPCInferenceService")
        answer = health_pb2_grpc.HealthStub(channel).Check(request)

    assert answer.status == health_pb2.HealthCheckResponse.SERVING


@pytest.mark.parametrize(
    ("symbol", "files"),
    [
        (
            "inference.GRPCInferenceService",
            ["protos/inference/grpc_service.proto", "protos/inference/model_config.proto"],
        ),
        ("inference.ModelConfig", ["protos/inference/model_config.proto"]),
        ("featurelens.v1.Classifier", ["protos/featurelens/v1/classifier.proto"]),
        ("grpc.health.v1.Health", ["grpc_health/v1/health.proto"]),
    ],
)
def test_reflection_describes_every_service(zoo_address: str, symbol: str, files: list[str]) -> None:
    answer = reflected(zoo_address, file_containing_symbol=symbol).file_descriptor_response

    described = [FileDescriptorProto.FromString(data) for data in answer.file_descriptor_proto]
    assert sorted(file.name for file in described) == sorted(files)


def test_reflection_lists_every_service(zoo_address: str) -> None:
    answer = reflected(zoo_address, list_services="").list_services_response

    assert [service.name for service in answer.service] == [
        "featurelens.v1.Classifier",
        "grpc.health.v1.Health",
        "grpc.reflection.v1alpha.ServerReflection",
        "inference.GRPCInferenceService",
    ]


def reflected(address: str, **question: str) -> reflection_pb2.ServerReflectionResponse:
    with grpc.insecure_channel(address) as channel:
        stub = reflection_pb2_grpc.ServerReflectionStub(channel)
        request = reflection_pb2.ServerReflectionRequest(**question)
        return next(iter(stub.ServerReflectionInfo(iter([request]))))
