from __future__ import annotations

import hashlib
import os
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
from onnx import TensorProto
from structlog.testing import capture_logs

from service.cpus import available_cpus
from service.device import Execution, create_session, reason_of, resolve
from service.errors import DeviceUnavailableError, ModelLoadError
from service.model import Model
from service.providers import CPU, CUDA, TENSORRT, Cuda, Provider, Tensorrt
from tests.service.onnx_models import lenet, model, node, value

ONLY_CPU = ["AzureExecutionProvider", CPU]
WITH_CUDA = [CUDA, CPU]
WITH_TENSORRT = [TENSORRT, CUDA, CPU]


@pytest.mark.parametrize(
    ("device", "available", "providers", "required"),
    [
        ("cpu", ONLY_CPU, [], True),
        ("cpu", WITH_CUDA, [], True),
        ("auto", ONLY_CPU, [], False),
        ("auto", WITH_CUDA, [CUDA], False),
        ("auto", WITH_TENSORRT, [CUDA], False),
        ("cuda", WITH_CUDA, [CUDA], True),
        ("tensorrt", WITH_TENSORRT, [TENSORRT, CUDA], True),
    ],
)
def test_resolves_devices(device: str, available: list[str], providers: list[str], required: bool) -> None:
    execution = resolve(device, threads=3, available=available)  # type: ignore[arg-type]  # from a table
    assert [provider.name for provider in execution.providers] == providers
    assert execution.provider == [*providers, CPU][0]
    assert (execution.required, execution.intra_op_threads) == (required, 3)


@pytest.mark.parametrize(
    ("device", "available", "missing"),
    [
        ("cuda", ONLY_CPU, "no CUDAExecutionProvider"),
        ("tensorrt", ONLY_CPU, "no TensorrtExecutionProvider and no CUDAExecutionProvider"),
    ],
)
def test_a_wanted_device_that_is_missing_is_an_error_that_says_what_to_install(
    device: str, available: list[str], missing: str
) -> None:
    with pytest.raises(DeviceUnavailableError) as error:
        resolve(device, available=available)  # type: ignore[arg-type]  # from a table
    assert str(error.value) == (
        f"device {device}: this ONNX Runtime has {missing}, only AzureExecutionProvider, "
        "CPUExecutionProvider; install the extra cuda in place of server: pip install 'featurelens[cuda]'"
    )


def test_building_engines_is_given_more_time_than_trial_runs_elsewhere() -> None:
    others = resolve("cuda", available=WITH_TENSORRT), resolve("cpu")
    assert [execution.trial_timeout_s for execution in others] == [30.0, 30.0]
    assert resolve("tensorrt", available=WITH_TENSORRT).trial_timeout_s == 900.0


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
    options = Cuda(gpu_mem_limit=2**30, cudnn_conv_algo_search="EXHAUSTIVE").options_for(b"")
    assert options == {
        "gpu_mem_limit": "1073741824",
        "arena_extend_strategy": "kSameAsRequested",
        "cudnn_conv_algo_search": "EXHAUSTIVE",
    }
    assert "gpu_mem_limit" not in Cuda().options_for(b"")


def test_tensorrt_options_as_onnx_runtime_spells_them(tmp_path: Path) -> None:
    folder = tmp_path / "engines" / hashlib.sha256(b"model").hexdigest()
    assert Tensorrt().options_for(b"model") == {"trt_fp16_enable": "0"}
    assert Tensorrt(fp16=True, engine_cache=tmp_path / "engines").options_for(b"model") == {
        "trt_fp16_enable": "1",
        "trt_engine_cache_enable": "1",
        "trt_engine_cache_path": str(folder),
        "trt_timing_cache_enable": "1",
        "trt_timing_cache_path": str(folder),
    }
    assert folder.is_dir()


def test_engines_of_models_with_the_same_graph_and_other_weights_are_kept_apart(tmp_path: Path) -> None:
    tensorrt = Tensorrt(engine_cache=tmp_path)
    options = [tensorrt.options_for(lenet(seed).SerializeToString()) for seed in (0, 1, 0)]
    first, second, again = [option["trt_engine_cache_path"] for option in options]
    assert first != second
    assert first == again


def test_an_engine_cache_that_is_no_folder_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(
        DeviceUnavailableError,
        match=r"^the setting tensorrt_cache names a folder that can't be written to: Not a directory$",
    ):
        Tensorrt(engine_cache=tmp_path / "file").options_for(b"")


def test_sessions_have_explicit_threads_and_do_not_spin() -> None:
    options = create_session(lenet().SerializeToString(), Execution(intra_op_threads=2)).get_session_options()
    assert (options.intra_op_num_threads, options.inter_op_num_threads) == (2, 1)
    assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"


@pytest.mark.parametrize("arena", [True, False])
def test_the_arena_of_the_cpu_is_a_choice(arena: bool) -> None:
    session = create_session(lenet().SerializeToString(), Execution(cpu_arena=arena))
    assert session.get_session_options().enable_cpu_mem_arena is arena


def test_sessions_share_the_memory_of_their_runs() -> None:
    """A run takes 64 MiB or twice that, besides what it is given and returns."""
    size = 64 * 2**20
    chain = model(
        [node("Neg", "x", "m"), node("Sigmoid", "m", "s"), node("ReduceMax", "s", "y", keepdims=0)],
        [value("x", ["n"])],
        [value("y", [])],
    ).SerializeToString()
    sessions = [create_session(chain, Execution()) for _ in range(10)]
    feeds = {"x": np.zeros(size // 4, np.float32)}
    sessions[0].run(None, feeds)
    before = resident_bytes()
    for session in sessions:
        session.run(None, feeds)
    assert resident_bytes() - before < 2 * size


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


needs_cpu_wheel = pytest.mark.filterwarnings("ignore:Specified provider:UserWarning")


@needs_cpu_wheel
@pytest.mark.parametrize("providers", [(Cuda(),), (Tensorrt(), Cuda())], ids=["cuda", "tensorrt"])
def test_a_session_that_fell_back_is_refused_where_the_device_is_required(
    providers: tuple[Provider, ...],
) -> None:
    assert CUDA not in ort.get_available_providers()
    with pytest.raises(DeviceUnavailableError) as error:
        create_session(lenet().SerializeToString(), Execution(providers, required=True))
    assert str(error.value) == (
        f"{providers[0].name} can't be used: ONNX Runtime chose CPUExecutionProvider; "
        "check the driver and NVIDIA's libraries, or choose device auto or cpu"
    )


@needs_cpu_wheel
def test_a_session_that_fell_back_is_logged_where_the_device_is_not_required() -> None:
    execution = Execution((Cuda(),), required=False, intra_op_threads=2)
    with capture_logs() as logs:
        session = create_session(lenet().SerializeToString(), execution)
    assert session.get_providers() == [CPU]
    assert session.get_session_options().intra_op_num_threads == 2
    assert [(entry["event"], entry["log_level"], entry["device"]) for entry in logs] == [
        ("running on the CPU", "warning", CUDA)
    ]


@needs_cpu_wheel
def test_a_model_tells_why_it_runs_on_the_cpu() -> None:
    data = lenet().SerializeToString()
    with capture_logs():
        fallen = Model(data, Execution((Cuda(),), required=False))
        resolved = Model(data, resolve("auto", available=[CPU]))
    chosen = Model(data, resolve("cpu"))
    assert (fallen.provider, fallen.fallback_reason) == (
        CPU,
        "CUDAExecutionProvider can't be used; the server's log says why",
    )
    assert resolved.fallback_reason == (
        "this ONNX Runtime has no CUDAExecutionProvider, only CPUExecutionProvider"
    )
    assert chosen.fallback_reason == ""


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
