"""Where and how models run: execution providers, threads, and ONNX Runtime sessions made accordingly."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from threading import Timer
from typing import Literal

import onnxruntime as ort
import structlog
from onnxruntime.capi import onnxruntime_pybind11_state as ort_state
from structlog.typing import FilteringBoundLogger

from service.cgroups import available_memory
from service.cpus import available_cpus
from service.errors import DeviceUnavailableError, ModelLoadError
from service.providers import CPU, Cuda, Provider, Tensorrt
from service.tensors import Array, narrowed

log: FilteringBoundLogger = structlog.get_logger()

Device = Literal["auto", "cpu", "cuda", "tensorrt"]

# ONNX Runtime's own exceptions derive from Exception and nothing else.
RUNTIME_ERRORS: tuple[type[Exception], ...] = (
    *(e for e in vars(ort_state).values() if isinstance(e, type) and issubclass(e, Exception)),
    RuntimeError,
    ValueError,
)

_OUT_OF_MEMORY = ("Failed to allocate memory", "Available memory of", "bad_alloc", "bad allocation")

_BUILD_TIMEOUT_S = 900.0  # TensorRT builds an engine, in minutes, when it first sees a shape
_CUDA, _TENSORRT = Cuda(), Tensorrt()  # with the options that nobody chose
_FATAL = 4
# What goes wrong arrives as an exception and is logged by us; ONNX Runtime would write it to stderr as well.
ort.set_default_logger_severity(_FATAL)
_ARENA_SHARE = 0.5
"""Of the memory that this process may take: what its runs may take together."""
# One arena for the CPU memory that runs take, since few of them go on at once. Arenas never give memory back:
# with one for each session, every model would hold what its largest batch took. A run that wants more than
# there is fails alone; without a bound it would end the process.
ort.create_and_register_allocator(
    ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT),
    ort.OrtArenaCfg({"max_mem": int(_ARENA_SHARE * available_memory())}),
)


@dataclass(frozen=True)
class Execution:
    """How sessions run.

    Attributes:
        providers: Where, the most wanted first; none: on the CPU, which takes whatever no provider does.
        required: Whether running on another provider than the first is an error.
        fallback_reason: Why this is the CPU although a better device was looked for; else empty.
        intra_op_threads: Threads that share the work of one operator.
        spinning: Whether idle threads wait busily: a little faster, for a whole CPU each. Sessions share the
            CPUs with each other and the transport, so it is off.
        cpu_arena: Whether the CPU memory that a run took is kept for other runs, of any model.
        trial_timeout_s: Most that a model's first runs may take, before it serves.
        optimized: Whether graphs are optimized: what runs a few times only is sooner done without.
    """

    providers: tuple[Provider, ...] = ()
    required: bool = True
    fallback_reason: str = ""
    intra_op_threads: int = 1
    spinning: bool = False
    cpu_arena: bool = True
    trial_timeout_s: float = 30.0
    optimized: bool = True

    @property
    def provider(self) -> str:
        """The provider that is wanted most, as ONNX Runtime names it."""
        return self.providers[0].name if self.providers else CPU

    def on_cpu(self) -> Execution:
        """Return the same without its providers."""
        return replace(self, providers=())

    def for_a_trial(self) -> Execution:
        """Return the same for sessions of few runs: made soon, on the CPU, keeping no memory."""
        return replace(self, providers=(), cpu_arena=False, optimized=False)


def resolve(
    device: Device,
    cuda: Cuda = _CUDA,
    tensorrt: Tensorrt = _TENSORRT,
    threads: int | None = None,
    available: Collection[str] | None = None,
) -> Execution:
    """Choose how to run on this machine.

    Args:
        device: "auto" takes CUDA if it is there, else the CPU with a warning in the log. "tensorrt" takes
            CUDA, then the CPU, for the nodes that TensorRT can't run.
        cuda: Options for CUDA.
        tensorrt: Options for TensorRT.
        threads: Threads for one operator; None: as many as there are CPUs for this process.
        available: The execution providers to choose from; None: those of the ONNX Runtime that is installed.

    Raises:
        DeviceUnavailableError: The device that is wanted is not there.
    """
    installed = installed_providers() if available is None else available
    execution = Execution(intra_op_threads=available_cpus() if threads is None else threads)
    wanted: Mapping[Device, tuple[Provider, ...]] = {"cpu": (), "tensorrt": (tensorrt, cuda)}
    providers = wanted.get(device, (cuda,))
    missing = [provider.name for provider in providers if provider.name not in installed]
    if not missing:
        return replace(
            execution,
            providers=providers,
            required=device != "auto",
            trial_timeout_s=_BUILD_TIMEOUT_S if tensorrt in providers else execution.trial_timeout_s,
        )
    reason = f"this ONNX Runtime has no {' and no '.join(missing)}, only {', '.join(sorted(installed))}"
    if device != "auto":
        raise DeviceUnavailableError(
            f"device {device}: {reason}; install the extra cuda in place of server: "
            "pip install 'featurelens[cuda]'"
        )
    log.warning("running on the CPU", device=device, reason=reason)
    return replace(execution, required=False, fallback_reason=reason)


def installed_providers() -> list[str]:
    """Name the execution providers of the ONNX Runtime that is installed; whether they run is not said."""
    return list(ort.get_available_providers())


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
        session = _open(model, execution, optimized_model)
    except RUNTIME_ERRORS as error:
        if not execution.providers:
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
            "check the driver and NVIDIA's libraries, or choose device auto or cpu"
        )
    log.warning("running on the CPU", device=execution.provider, reason=reason)
    return create_session(model, execution.on_cpu())


def _open(model: bytes, execution: Execution, optimized_model: str | None) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
    options.execution_mode = ort.ExecutionMode.ORT_SEQUENTIAL
    options.intra_op_num_threads = execution.intra_op_threads
    options.inter_op_num_threads = 1
    options.enable_cpu_mem_arena = execution.cpu_arena
    if execution.cpu_arena and not execution.providers:
        options.add_session_config_entry("session.use_env_allocators", "1")
    if not execution.optimized:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.enable_mem_pattern = False
        options.add_session_config_entry("session.disable_prepacking", "1")
    options.log_severity_level = _FATAL
    options.add_session_config_entry("session.intra_op.allow_spinning", str(int(execution.spinning)))
    if optimized_model:
        options.optimized_model_filepath = optimized_model
    providers = [(provider.name, provider.options_for(model)) for provider in execution.providers]
    session = ort.InferenceSession(model, options, providers=[*providers, CPU], enable_fallback=0)
    # Python's side keeps the file for providers to be changed later: as much as all weights, for nothing.
    session._model_bytes = None
    return session


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
