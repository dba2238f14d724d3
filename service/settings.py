"""Every knob of the server: its unit, its default and what it is for, once.

A flag wins over an environment variable, which wins over the default. The texts below are the `--help` of the
flags and, by a test, the rows of the README's table.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BeforeValidator, Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt
from pydantic import StringConstraints as Text
from pydantic_settings import BaseSettings, CliApp, NoDecode, SettingsConfigDict

from service.auth import HASH_PATTERN
from service.errors import StartupError
from service.logs import LogFormat, LogLevel

ENV_PREFIX = "FEATURELENS_"
# Read by the command and by the tests; they are no settings of the server.
_FOREIGN_VARIABLES = frozenset({"FEATURELENS_SERVER", "FEATURELENS_TOKEN", "FEATURELENS_CACHE_DIR"})

MiB = 1024 * 1024


def _split(value: object) -> object:
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


TokenHashes = Annotated[
    tuple[Annotated[str, Text(pattern=f"^{HASH_PATTERN}$")], ...], NoDecode, BeforeValidator(_split)
]
"""SHA-256 of tokens in lower-case hexadecimal; in a variable and in a flag with commas between."""


class Settings(BaseSettings):
    """Serve ONNX image classifiers over gRPC, and the feature maps of any of their layers."""

    model_config = SettingsConfigDict(
        env_prefix=ENV_PREFIX,
        frozen=True,
        extra="forbid",
        cli_kebab_case=True,
        cli_implicit_flags=True,
        cli_prog_name="featurelens serve",
        cli_hide_none_type=True,
        use_attribute_docstrings=True,
        # A field called model_repository is no clash with pydantic's own model_* names.
        protected_namespaces=(),
    )

    model_repository: Path | None = None
    """Folder of models, <name>/<version>/model.onnx. Without one, the LeNet that ships is served."""

    watch: bool = True
    """Follow changes of the model repository while serving; the models that ship are never watched."""

    watch_settle_s: PositiveFloat = 1.0
    """How long a file of the repository has to be left alone before it counts as written, in seconds."""

    trial_timeout_s: NonNegativeFloat = 120.0
    """How long a new version may take to load in a process of its own, in seconds. 0: it is not tried."""

    trial_memory_mib: PositiveInt = 4096
    """Memory that it may take there, in MiB, besides 8 times its file."""

    model_control: bool = False
    """Offer RepositoryModelLoad and RepositoryModelUnload."""

    max_model_bytes: PositiveInt = 2 * 1024 * MiB - 1
    """Largest model, all its files together; ONNX allows no more. Loading takes several times its size."""

    grpc_address: str = "127.0.0.1:8001"
    """Address to listen on. Port 0 lets the system choose; the line printed at the start tells which."""

    metrics_address: str = "127.0.0.1:8002"
    """Address of the metrics. Empty: none. If it is in use that is an error, unless it is this default."""

    transport: Literal["auto", "native", "grpcio"] = "auto"
    """What carries the calls. native is several times faster; auto takes it where clients are trusted."""

    trusted_clients: bool = False
    """Clients are trusted, or a proxy bounds what they send. On a loopback address they always are."""

    workers: PositiveInt | Literal["auto"] = 1
    """Processes that share the port. auto: one a CPU. Each has its own models, queues and limits of them."""

    crashes_until_quarantine: NonNegativeInt = 3
    """Crashes of workers in ten minutes after which the version that ran is served no more. 0: never."""

    worker_timeout_s: PositiveFloat = 10.0
    """How long a worker may give no sign of life, in seconds. Then it hangs, and is replaced."""

    tls_cert: Path | None = None
    """PEM file with the server's certificate. With it and its key calls come over TLS alone, grpcio's."""

    tls_key: Path | None = None
    """PEM file with the certificate's private key, not encrypted."""

    tls_client_ca: Path | None = None
    """PEM file with the authorities that vouch for clients: those without a certificate are refused."""

    device: Literal["auto", "cpu", "cuda", "tensorrt"] = "auto"
    """Where models run. cuda and tensorrt fail if it isn't there; auto takes cuda, or the CPU and says so."""

    threads: NonNegativeInt = 0
    """Threads of one run of a model. 0: one if its runs are short, else all CPUs that a worker may use."""

    cuda_memory_limit_mib: NonNegativeInt = 0
    """Most GPU memory that the arena of one model takes, in MiB. 0: no limit."""

    cuda_arena_strategy: Literal["kSameAsRequested", "kNextPowerOfTwo"] = "kSameAsRequested"
    """How the GPU arena grows. kSameAsRequested grows slower and wastes less."""

    cuda_cudnn_search: Literal["DEFAULT", "HEURISTIC", "EXHAUSTIVE"] = "HEURISTIC"
    """How cuDNN picks a convolution's algorithm. EXHAUSTIVE tries all of them, anew for every shape."""

    tensorrt_fp16: bool = False
    """Let TensorRT compute in half precision where that is faster. Answers change in the third digit."""

    tensorrt_cache: Path | None = None
    """Folder for the engines that TensorRT builds, in minutes. Without one it builds anew at every start."""

    cpu_arena: bool = True
    """Keep the CPU memory that a run took for others, of any model. Off: less memory, slower large runs."""

    max_batch_size: PositiveInt = 32
    """Most images of one run. Requests with more are run in slices, which take turns with other requests."""

    max_queue_delay_us: NonNegativeInt = 0
    """How long a request waits for others to share its run, in microseconds. 0: not at all."""

    instances: NonNegativeInt = 0
    """How many batches of one model may run at once. 0: as many as its threads leave CPUs for."""

    max_queue_size: PositiveInt = 512
    """Most requests that wait for one model in a worker. One more is refused with RESOURCE_EXHAUSTED."""

    response_cache_mib: NonNegativeInt = 0
    """Memory of each worker for answers to give again to equal requests, in MiB. 0: every request runs."""
    max_connections: PositiveInt = 1000
    """Most connections of clients. Of more, the idlest are closed within seconds."""

    max_concurrent_calls: PositiveInt = 1024
    """Most requests in a worker at once, decoding included. One more is refused."""

    max_images_per_request: PositiveInt = 1024
    """Most images in one request."""

    max_request_bytes: PositiveInt = 16 * MiB
    """Largest message that is received. 1,024 LeNet inputs are 4 MiB."""

    max_response_bytes: PositiveInt = 64 * MiB
    """Largest message that is sent. Feature maps over it are refused before the model runs."""

    max_unread_bytes: PositiveInt = 512 * MiB
    """Most bytes of answers that clients leave unread. Then the connections with most of it are closed."""

    max_layers_per_request: PositiveInt = 256
    """Most layers in one request, "*" counted as all it stands for."""

    max_image_pixels: PositiveInt = 25_000_000
    """Most pixels of an encoded image, checked before it is decoded."""

    max_image_side: PositiveInt = 16_384
    """Longest side of an encoded image, in pixels, checked before it is decoded."""

    refuse_non_finite: bool = True
    """Refuse NaN and infinities in the tensors for classifiers. A model's config.toml may say otherwise."""

    tap_sessions: PositiveInt = 4
    """Sessions kept per model for sets of layers that were asked for. Each holds the weights once more."""

    tap_memory_mib: PositiveInt = 1024
    """Memory of each worker that the sessions for layers of all models may hold, in MiB, by estimate."""

    default_deadline_s: PositiveFloat = 10.0
    """Deadline of calls that come without one, in seconds."""

    max_deadline_s: PositiveFloat = 60.0
    """Longest deadline that is honoured, in seconds."""

    run_timeout_s: PositiveFloat = 60.0
    """How long one run of a model may take, in seconds. Then it is ended and its requests fail: it hangs."""

    max_streams: PositiveInt = 1024
    """Most streams that are open in a worker at once. One more is refused with RESOURCE_EXHAUSTED."""

    max_stream_in_flight: PositiveInt = 64
    """Requests of one stream that are worked on at once. The next is read when one is answered."""

    drain_s: NonNegativeFloat = 0.0
    """After SIGTERM: seconds to keep serving with health NOT_SERVING, so that load balancers notice."""

    grace_s: NonNegativeFloat = 25.0
    """After the drain: how long calls in flight may take to finish, in seconds."""

    reflection: bool = True
    """Offer gRPC server reflection."""

    tokens: TokenHashes = ()
    """SHA-256 of the tokens of which a call needs one, commas between. `featurelens token` makes them."""

    control_tokens: TokenHashes = ()
    """SHA-256 of the tokens that also open loading and unloading of models, commas between."""

    tokens_file: Path | None = None
    """File with more of both, a line each: hash, name, perhaps the word control. Read when it changes."""

    open_health: bool = True
    """Tell about health without a token."""

    open_reflection: bool = False
    """Offer reflection without a token."""

    log_format: LogFormat = "auto"
    """How log lines look. auto: readable on a terminal, JSON elsewhere."""

    log_level: LogLevel = "info"
    """Least severe log lines that are written. One line a call is info."""

    access_log_rate: NonNegativeInt = 100
    """Most answered calls a second that get a log line of their own. Calls that fail always do."""

    trace_endpoint: Annotated[str, Field(pattern="^(https?://.+)?$")] = ""
    """URL of an OpenTelemetry collector, OTLP over gRPC, such as http://localhost:4317; else no traces."""

    trace_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.01
    """Share of the calls without a caller's span that are traced. Those with one are if the caller's is."""


def refuse_unknown_variables(environment: Mapping[str, str] = os.environ) -> None:
    """Refuse misspelt environment variables, which pydantic-settings ignores.

    Raises:
        StartupError: a variable starts with FEATURELENS_ and names no setting.
    """
    known = {ENV_PREFIX + name.upper() for name in Settings.model_fields} | _FOREIGN_VARIABLES
    if unknown := sorted(name for name in environment if name.startswith(ENV_PREFIX) and name not in known):
        raise StartupError(
            f"no setting is called {', '.join(unknown)}; `featurelens serve --help` lists them"
        )


def parse_settings(argv: Sequence[str]) -> Settings:
    """Read the settings from flags and environment; `--help` and wrong flags exit as argparse does.

    Raises:
        StartupError: an unknown FEATURELENS_ variable.
        pydantic.ValidationError: a value is not what its setting takes.
    """
    refuse_unknown_variables()
    return read_settings(argv)


def read_settings(argv: Sequence[str]) -> Settings:
    """Do the same, with no look at variables that name no setting.

    Raises:
        pydantic.ValidationError: a value is not what its setting takes.
    """
    return CliApp.run(Settings, cli_args=list(argv), cli_exit_on_error=True)
