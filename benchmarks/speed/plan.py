"""What is measured: servers, workloads, and which rows they make."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from secrets import token_urlsafe

from benchmarks.speed.digits import ROOT
from benchmarks.speed.load import Shape
from benchmarks.speed.processes import PORT
from benchmarks.speed.protocols import (
    BASE64_JSON,
    CLASSIFY,
    CLASSIFY_STREAM,
    ECHO,
    MODEL_INFER,
    RAW_HTTP,
    Protocol,
)
from benchmarks.speed.reference import LAYERS, MODEL
from benchmarks.speed.results import Key

_FEATURELENS = str(Path(sys.executable).with_name("featurelens"))
_ECHO = (sys.executable, "-m", "benchmarks.speed.echo")
LOOP_BATCHES = (1, 8, 32, 64)


@dataclass(frozen=True)
class Subject:
    """A server: the program whose first line ends with its address, and what it is called with."""

    name: str
    command: Sequence[str]
    unary: Sequence[Protocol]
    stream: Protocol | None = None
    """None: it has none, and no feature maps."""


@dataclass(frozen=True)
class Workload:
    """How much is asked of a server at once."""

    name: str
    shape: Shape
    images: int = 1
    layers: Sequence[str] = ()
    floor: Key | None = None
    goal: float | None = None
    """For the default transport of featurelens, as a ratio to the floor."""


@dataclass(frozen=True)
class Case:
    """One row: a workload on a server, in a protocol."""

    subject: Subject
    protocol: Protocol
    workload: Workload
    floor: Key | None = None
    goal: float | None = None

    @property
    def key(self) -> Key:
        """Its row."""
        return (self.workload.name, label(self.subject, self.protocol))


@dataclass(frozen=True)
class LoopCase:
    """One row: ONNX Runtime alone, a batch at a time, in so many processes."""

    processes: int
    batch: int
    floor: Key | None = None
    goal: float | None = None

    @property
    def key(self) -> Key:
        """Its row."""
        return ("ONNX Runtime alone", f"batch {self.batch}, {plural(self.processes)}")


def plural(processes: int) -> str:
    """Say how many processes."""
    return f"{processes} process{'es' if processes > 1 else ''}"


def label(subject: Subject, protocol: Protocol) -> str:
    """Name a server and a protocol."""
    return subject.name if protocol is ECHO else f"{subject.name}, {protocol.name}"


def bare(transport: str, name: str, processes: int) -> Subject:
    """Return a server that only echoes."""
    command = (*_ECHO, transport, f"--processes={processes}")
    return Subject(f"bare {name}, {plural(processes)}", command, [ECHO])


def featurelens(transport: str, *flags: str) -> Subject:
    """Return our server; a log line a call is the one default that is turned off."""
    name = " ".join(["featurelens", transport, *flags])
    command = _serve(transport, "--log-level=warning", "--metrics-address=127.0.0.1:0", *flags)
    return Subject(name, command, [CLASSIFY, MODEL_INFER], CLASSIFY_STREAM)


def _serve(transport: str, *flags: str) -> list[str]:
    command = [_FEATURELENS, "serve", "--grpc-address=127.0.0.1:0", f"--transport={transport}"]
    return [*command, "--device=cpu", *flags]


def peer(name: str, protocol: Protocol) -> Subject:
    """Return another server, from its own environment."""
    python = ROOT / ".venv-peers" / name.lower() / "bin" / "python"
    program = Path(__file__).parent / "peers" / f"serve_{name.lower()}.py"
    return Subject(name, [str(python), str(program), str(MODEL), PORT], [protocol])


BARE = [bare("grpcio", "grpc.aio", 1), bare("grpcio", "grpc.aio", 2)]
BARE += [bare("native", "native", 1), bare("native", "native", 2)]
OURS = [featurelens("native"), featurelens("native", "--workers=2"), featurelens("grpcio")]
PEERS = [
    peer("Triton", MODEL_INFER),
    peer("MLServer", MODEL_INFER),
    peer("TorchServe", RAW_HTTP),
    peer("LitServe", BASE64_JSON),
]
LOOPS = [LoopCase(processes, batch) for batch in LOOP_BATCHES for processes in (1, 2)]

_FLOOR = BARE[1].name
UNARY = [
    Workload("1x1", Shape(1, 1), floor=("1x1", _FLOOR), goal=1.3),
    Workload("8x4", Shape(8, 4), floor=("8x4", _FLOOR), goal=3.0),
    Workload("32x8", Shape(32, 8), floor=("32x8", _FLOOR), goal=3.8),
    Workload("64 images a request, 4x1", Shape(4, 1), images=64, floor=LOOPS[-1].key, goal=0.75),
]
_LAYERS = [
    Workload("8x4, one layer", Shape(8, 4), layers=LAYERS[:1]),
    Workload(f"8x4, all {len(LAYERS)} layers", Shape(8, 4), layers=LAYERS, goal=0.3),
]
_STREAM = Workload(f"streams of {CLASSIFY_STREAM.messages}, 4x1", Shape(4, 1))


def unary_cases(subjects: Sequence[Subject]) -> list[Case]:
    """Return what every server is measured with, workload by workload."""
    return [
        Case(subject, protocol, workload, workload.floor, _goal(subject, workload))
        for workload in UNARY
        for subject in subjects
        for protocol in subject.unary
    ]


def layer_cases(subjects: Sequence[Subject]) -> list[Case]:
    """Return the feature maps, as a ratio to the same calls without."""
    return [
        Case(subject, protocol, workload, _plain(subject, protocol), _goal(subject, workload))
        for workload in _LAYERS
        for subject in subjects
        for protocol in subject.unary
    ]


def stream_cases(subjects: Sequence[Subject]) -> list[Case]:
    """Return the streams, as a ratio to unary calls."""
    return [
        Case(subject, subject.stream, _STREAM, _plain(subject, subject.unary[0]))
        for subject in subjects
        if subject.stream
    ]


def everything() -> list[Case | LoopCase]:
    """Return what `make bench` measures, each row near its floor, so that both see the same machine."""
    unary = unary_cases([*BARE, *OURS])
    until = 1 + max(i for i, case in enumerate(unary) if case.workload.name == "8x4")
    return [*unary[:until], *layer_cases(OURS), *stream_cases(OURS), *unary[until:], *LOOPS]


def with_peers() -> list[Case | LoopCase]:
    """Return what `make bench-peers` measures."""
    return [*unary_cases([BARE[1], OURS[0], *PEERS]), LOOPS[-1]]


def operations() -> list[Case | LoopCase]:
    """Return what metrics, the access log and tokens cost, each switched on alone, as a ratio to none."""
    token = token_urlsafe()
    bearing = replace(MODEL_INFER, metadata=(("authorization", f"Bearer {token}"),))
    quiet = ("--metrics-address=", "--log-level=warning")
    switched_on = {
        "none of them": (quiet, MODEL_INFER),
        "metrics": (("--metrics-address=127.0.0.1:0", "--log-level=warning"), MODEL_INFER),
        "access log": (("--metrics-address=", "--log-level=info"), MODEL_INFER),
        "access log, every call": (
            ("--metrics-address=", "--log-level=info", "--access-log-rate=1000000"),
            MODEL_INFER,
        ),
        "a token": ((*quiet, f"--tokens={sha256(token.encode()).hexdigest()}"), bearing),
    }
    subjects = [
        (Subject(name, _serve("native", *flags), [protocol]), protocol)
        for name, (flags, protocol) in switched_on.items()
    ]
    none = ("8x4", label(*subjects[0]))
    return [Case(subject, protocol, Workload("8x4", Shape(8, 4)), none) for subject, protocol in subjects]


def _plain(subject: Subject, protocol: Protocol) -> Key:
    """Return the row of the same server without layers."""
    return ("8x4", label(subject, protocol))


def _goal(subject: Subject, workload: Workload) -> float | None:
    return workload.goal if subject is OURS[0] else None
