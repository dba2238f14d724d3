from __future__ import annotations

import os

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto
from structlog.testing import capture_logs

from service.cpus import available_cpus
from service.device import CPU, CUDA, CudaOptions, Execution, create_session, reason_of, resolve
from service.errors import DeviceUnavailableError, ModelLoadError
from tests.service.onnx_models import lenet, model, node, value

ONLY_CPU = ["AzureExecutionProvider", CPU]
WITH_CUDA = [CUDA, CPU]


@pytest.mark.parametrize(
    ("device", "available", "provider", "required"),
    [
        ("cpu", ONLY_CPU, CPU, True),
        ("cpu", WITH_CUDA, CPU, True),
        ("auto", ONLY_CPU, CPU, False),
        ("auto", WITH_CUDA, CUDA, False),
        ("cuda", WITH_CUDA, CUDA, True),
    ],
)
def test_resolves_devices(device: str, available: list[str], provider: str, required: bool) -> None:
    execution = resolve(device, threads=3, available=available)  # type: ignore[arg-type]  # from a table
    assert (execution.provider, execution.required, execution.intra_op_threads) == (provider, required, 3)


def test_a_wanted_device_that_is_missing_is_an_error_that_says_what_to_install() -> None:
    with pytest.raises(DeviceUnavailableError) as error:
        resolve("cuda", available=ONLY_CPU)
    assert str(error.value) == (
        "device cuda: this ONNX Runtime has no CUDAExecutionProvider, only AzureExecutionProvider, "
        "CPUExecutionProvider; install the extra cuda in place of server: pip install 'featurelens[cuda]'"
    )


def test_auto_without_cuda_warns_and_keeps_the_reason() -> None:
    with capture_logs() as logs:
        execution = resolve("auto", available=[CPU])
    assert (
        execution.fallback_reason
        == "this ONNX Runtime has no CUDAExecutionProvider, only CPUExecutionProvider"
    )
    assert logs == [
        {
            "event": "running on the CPU",
            "log_level": "warning",
            "device": "auto",
            "reason": execution.fallback_reason,
        }
    ]


def test_takes_as_many_threads_as_there_are_cpus() -> None:
    assert resolve("cpu").intra_op_threads == available_cpus()


def test_cuda_options_as_onnx_runtime_spells_them() -> None:
    options = CudaOptions(device_id=1, gpu_mem_limit=2**30, cudnn_conv_algo_search="EXHAUSTIVE")
    assert options.as_provider_options() == {
        "device_id": "1",
        "gpu_mem_limit": "1073741824",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }
    assert "gpu_mem_limit" not in CudaOptions().as_provider_options()


def test_sessions_have_explicit_threads_and_do_not_spin() -> None:
    options = create_session(lenet().SerializeToString(), Execution(intra_op_threads=2)).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


needs_cpu_wheel = pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")


@needs_cpu_wheel
def test_a_session_that_fell_back_is_refused_where_the_device_is_required() -> None:
    assert CUDA not in ort.get_available_providers()
    with pytest.raises(DeviceUnavailableError) as error:
        create_session(lenet().SerializeToString(), Execution(CUDA, required=True))
    assert str(error.value) == (
        "CUDAExecutionProvider can't be used: ONNX Runtime chose CPUExecutionProvider; "
        "check the driver and the CUDA and cuDNN libraries, or choose device auto or cpu"
    )


@needs_cpu_wheel
def test_a_session_that_fell_back_is_logged_where_the_device_is_not_required() -> None:
    with capture_logs() as logs:
        session = create_session(lenet().SerializeToString(), Execution(CUDA, required=False))
    assert session.get_providers() == [CPU]
    assert [(entry["event"], entry["log_level"], entry["device"]) for entry in logs] == [
        ("running on the CPU", "warning", CUDA)
    ]


def test_what_onnx_runtime_refuses_is_a_load_error_with_its_reason() -> None:
    graph = model([node("Nope", "x", "y")], [value("x", [1])], [value("y", [1])])
    with pytest.raises(ModelLoadError, match=r"refuses the model: .*No Op registered for Nope"):
        create_session(graph.SerializeToString(), Execution())


def test_reasons_name_no_source_file_of_onnx_runtime() -> None:
    error = RuntimeError(
        "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/core/model.cc:256 onnxruntime::Model::Model("
        "onnx::ModelProto&&, const logging::Logger&) Unsupported model IR version: 99, max supported: 13\n"
    )
    assert reason_of(error) == "Unsupported model IR version: 99, max supported: 13"


def test_onnx_runtime_writes_nothing_to_the_terminal(capfd: pytest.CaptureFixture[str]) -> None:
    failing = model(
        [node("Reshape", "x shape", "y")],
        [value("x", ["n"]), value("shape", [2], TensorProto.INT64)],
        [value("y", [None, None])],
    )
    session = create_session(failing.SerializeToString(), Execution())
    feeds = {"x": np.zeros(3, np.float32), "shape": np.array([2, 2], np.int64)}
    with pytest.raises(Exception, match="reshape"):
        session.run(None, feeds)
    with pytest.raises(ModelLoadError):
        create_session(os.urandom(100), Execution())
    assert capfd.readouterr() == ("", "")
