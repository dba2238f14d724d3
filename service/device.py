"""Where and how models run: execution providers, threads, and ONNX Runtime sessions made accordingly."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from threading import Timer
from typing import Any, Literal

import onnxruntime as ort
import structlog
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
from structlog.typing import FilteringBoundLogger

from service.cpus import available_cpus
from service.errors import DeviceUnavailableError, ModelLoadError
from service.tensors import Array, narrowed

log: FilteringBoundLogger = structlog.get_logger()

CPU = "CPUExecutionProvider"
CUDA = "CUDAExecutionProvider"

Device = Literal["auto", "cpu", "cuda"]

# ONNX Runtime's own exceptions derive from Exception and nothing else.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(ort_state).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError,
    ValueError,
)

_OUT_OF_MEMORY = ("Failed to allocate memory", "bad_alloc", "bad allocation")

_FATAL = 4
# What goes wrong arrives as an exception and is logged by us; ONNX Runtime would write it to stderr as well.
ort.set_default_logger_severity(_FATAL)


@dataclass(frozen=True)
class CudaOptions:
    """Options of the CUDA execution provider.

    https://onnxruntime.ai/docs/execution-providers/CUDA-ExecutionProvider.html
    """

    device_id: int = 0
    gpu_mem_limit: int | None = None
    """Bytes that a session's memory arena may take; None: all."""
    arena_extend_strategy: Literal["kSameAsRequested", "kNextPowerOfTwo"] = "kSameAsRequested"
    cudnn_conv_algo_search: Literal["HEURISTIC", "DEFAULT", "EXHAUSTIVE"] = "HEURISTIC"
    """EXHAUSTIVE measures anew for every input shape, which takes seconds when a shape first comes."""

    def as_provider_options(self) -> dict[str, str]:
        """Spell the options as ONNX Runtime wants them."""
        options = {
            "device_id": str(self.device_id),
            "arena_extend_strategy": self.arena_extend_strategy,
            "cudnn_conv_algo_search": self.cudnn_conv_algo_search,
        }
        return (
            options if self.gpu_mem_limit is None else {**options, "gpu_mem_limit": str(self.gpu_mem_limit)}
        )


@dataclass(frozen=True)
class Execution:
    """How sessions run.

    Attributes:
        provider: The execution provider, as ONNX Runtime names it.
        cuda: Its options, if it is CUDA.
        required: Whether falling back to the CPU is an error.
        fallback_reason: Why this is the CPU although a better device was looked for; else empty.
        intra_op_threads: Threads that share the work of one operator.
        spinning: Whether idle threads wait busily: a little faster, for a whole CPU each. Sessions share the
            CPUs with each other and the transport, so it is off.
    """

    provider: str = CPU
    cuda: CudaOptions = CudaOptions()
    required: bool = True
    fallback_reason: str = ""
    intra_op_threads: int = 1
    spinning: bool = False


def resolve(
    device: Device,
    cuda: CudaOptions = CudaOptions(),
    threads: int | None = None,
    available: Collection[str] | None = None,
) -> Execution:
    """Choose how to run on this machine.

    Args:
        device: "auto" takes CUDA if it is there, else the CPU with a warning in the log.
        cuda: Options for CUDA.
        threads: Threads for one operator; None: as many as there are CPUs for this process.
        available: The execution providers to choose from; None: those of the ONNX Runtime that is installed.

    Raises:
        DeviceUnavailableError: "cuda" is wanted and not there.
    """
    providers = ort.get_available_providers() if available is None else available
    count = available_cpus() if threads is None else threads
    if device == "cpu":
        return Execution(intra_op_threads=count)
    if CUDA in providers:
        return Execution(CUDA, cuda, required=device == "cuda", intra_op_threads=count)
    reason = f"this ONNX Runtime has no {CUDA}, only {', '.join(sorted(providers))}"
    if device == "cuda":
        raise DeviceUnavailableError(
            f"device cuda: {reason}; install the extra cuda in place of server: "
            "pip install 'featurelens[cuda]'"
        )
    log.warning("running on the CPU", device=device, reason=reason)
    return Execution(required=False, fallback_reason=reason, intra_op_threads=count)


def create_session(
    model: bytes, execution: Execution, optimized_model: str | None = None
) -> ort.InferenceSession:
    """Build a session for a serialized model.

    Args:
        model: The ONNX file's bytes.
        execution: How it runs.
        optimized_model: Path of a file to write the graph to, as it is after optimization.

    Raises:
        ModelLoadError: ONNX Runtime refuses the model.
        DeviceUnavailableError: The session would not run on the provider that is required.
    """
    try:
        session = _open(model, execution.provider, execution, optimized_model)
    except RUNTIME_ERRORS as error:
        if execution.provider == CPU:
            raise ModelLoadError(
                f"ONNX Runtime {ort.__version__} refuses the model: {reason_of(error)}"
            ) from error
        return _fall_back(model, execution, reason_of(error))
    actual = session.get_providers()[0]
    # ONNX Runtime falls back without an error if the provider's libraries or its device are missing.
    if actual != execution.provider:
        return _fall_back(model, execution, f"ONNX Runtime chose {actual}")
    return session


def _fall_back(model: bytes, execution: Execution, reason: str) -> ort.InferenceSession:
    if execution.required:
        raise DeviceUnavailableError(
            f"{execution.provider} can't be used: {reason}; "
            "check the driver and the CUDA and cuDNN libraries, or choose device auto or cpu"
        )
    log.warning("running on the CPU", device=execution.provider, reason=reason)
    return create_session(
        model, Execution(intra_op_threads=execution.intra_op_threads, spinning=execution.spinning)
    )


def _open(
    model: bytes, provider: str, execution: Execution, optimized_model: str | None = None
) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = execution.intra_op_threads
    options.inter_op_num_threads = 1
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(execution.spinning)))
    if optimized_model:
        options.optimized_model_filepath = optimized_model
    cuda: list[Any] = [(CUDA, execution.cuda.as_provider_options())] if provider == CUDA else []
    return ort.InferenceSession(model, options, providers=[*cuda, CPU], enable_fallback=0)


def value_of(array: Array, element: int) -> ort.OrtValue:
    """Make a value of an ONNX element type that numpy lacks of an array of wider elements."""
    return ort.OrtValue.ortvalue_from_numpy_with_onnx_type(narrowed(array, element), element)


@contextmanager
def ending_within(seconds: float) -> Iterator[ort.RunOptions]:
    """Give options for runs in the block; those that take longer are ended, at the next node, as failures.

    Raises:
        ModelLoadError: The time was up before the block was left.
    """
    options = ort.RunOptions()
    alarm = Timer(seconds, setattr, (options, "terminate", True))
    alarm.start()
    try:
        yield options
    finally:
        alarm.cancel()
    if options.terminate:
        raise ModelLoadError(f"a trial run did not end within {seconds:g} s")


def is_out_of_memory(error: Exception) -> bool:
    """Tell whether an error says that memory could not be had."""
    return isinstance(error, MemoryError) or any(text in str(error) for text in _OUT_OF_MEMORY)


def reason_of(error: Exception) -> str:
    """Take from an error of ONNX Runtime what is meant for people: no status code, no place in its source."""
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", str(error)).strip()
    # "/path/file.cc:12 void f(args) What happened"
    return re.sub(r"^/\S+:\d+ .*?\) (?=[A-Z])", "", text, flags=re.DOTALL)
