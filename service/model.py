"""One loaded model: numpy arrays in, numpy arrays out, declared outputs and feature maps alike.

Synchronous and thread-safe; knows nothing of requests, images or the wire.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import lru_cache

import onnxruntime as ort
import structlog
from structlog.typing import FilteringBoundLogger

from service.batching import Rows, rows_of
from service.batching_limits import DEFAULT_LIMITS, BatchingLimits
from service.binding import Runner, runner_of
from service.device import RUNTIME_ERRORS, Execution, create_session, ending_within, value_of
from service.errors import (
    ExecutionError,
    InvalidRequestError,
    StartupError,
    UnknownLayerError,
)
from service.feeds import check_feed, filled_up, listed
from service.graph import Array, Graph, Shape, TensorSpec
from service.layer_names import LayerNames
from service.portions import Portions
from service.run_watch import RunWatch
from service.suspects import Suspects
from service.tap_memory import TapMemory
from service.taps import TapCounts, TapSessions

log: FilteringBoundLogger = structlog.get_logger()

InputShapes = tuple[tuple[str, tuple[int, ...]], ...]

RUN_ERRORS: tuple[type[Exception], ...] = (
    *RUNTIME_ERRORS,
    StartupError,
)  # a tap session's build can fail too
_FAILED = "the model's run failed; the server's log says why"


class Model:
    """A model that is ready to run.

    A run that asks for declared outputs alone uses the base session, built from the file as it is; layers
    come from tap sessions, built when first asked for. Elements of types that numpy lacks (bfloat16, float8,
    int4) come and go as wider ones, which the inputs and outputs tell.

    Attributes:
        graph: What the file says of itself.
        names: What its layers can be asked for by.
        digest: SHA-256 of the file, or of its files as ModelData tells, in lower-case hexadecimal.
        provider: The execution provider that runs it, as ONNX Runtime names it.
        threads: How many share the work of one operator.
        fallback_reason: Why that is the CPU although a better one was looked for; else empty.
        trial_timeout_s: Most that its first runs may take, before it serves.
        batching: How much its requests may queue and share runs.
        cacheable: Whether a response cache may hold its outputs.
        rows: Whose rows its outputs and layers have, as runs of unlike items showed.

    Args:
        data: The file's bytes.
        execution: Where and how it runs.
        tap_capacity: How many tap sessions are held at most.
        tap_memory: Bounds what those of all models hold; None: those of this one alone are bounded.
        batching: See above.
        cache: Whether its answers may be given again, if it is deterministic.
        watch: Ends runs that take too long; None: they may take for ever.
        suspects: Where runs are noted, as each may crash the process; None: nowhere.
        rows: See above, if it is known already.
        digest: Of the files that the data was read of; "": it was one file.

    Raises:
        ModelLoadError: It isn't a model that ONNX Runtime can run.
        DeviceUnavailableError: It can't run on the device that is required.
    """

    def __init__(
        self,
        data: bytes,
        execution: Execution,
        tap_capacity: int = 4,
        batching: BatchingLimits = DEFAULT_LIMITS,
        *,
        tap_memory: TapMemory | None = None,
        cache: bool = True,
        watch: RunWatch | None = None,
        suspects: Suspects | None = None,
        rows: Rows | None = None,
        digest: str = "",
    ) -> None:
        self._watch = watch or nullcontext()
        self.graph = graph = Graph.parse(data)
        self.names = LayerNames(graph)
        self.cacheable = cache and graph.deterministic
        self.digest = digest or hashlib.sha256(data).hexdigest()
        self._noted = (suspects or Suspects()).running(self.digest)
        base = create_session(graph.with_outputs(()), execution)
        self._base = runner_of(base)
        self.provider: str = base.get_providers()[0]
        self.fallback_reason = execution.fallback_reason or _fallback(execution.provider, self.provider)
        self.threads = execution.intra_op_threads
        self.trial_timeout_s = execution.trial_timeout_s

        def tap(layers: frozenset[str]) -> Runner:
            return runner_of(create_session(graph.with_outputs(sorted(layers)), execution))

        self._declared = frozenset(spec.name for spec in graph.outputs)
        self._taps = TapSessions(tap, graph.footprint, tap_capacity, tap_memory)
        self._required = dict.fromkeys(spec.name for spec in graph.inputs).keys()
        self._known_inputs = {spec.name: spec for spec in (*graph.inputs, *graph.optional_inputs)}
        self._sizes = _size_table(graph)
        layers = Portions(graph, execution, lambda shapes: self._sizes(_shape_key(shapes)), self._values)
        self.rows = rows_of(graph, self._in_trial, layers) if rows is None else rows
        size = self.fixed_batch
        self.batching = replace(batching, max_batch_size=size) if size else batching

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that a run has to be given."""
        return self.graph.inputs

    @property
    def optional_inputs(self) -> tuple[TensorSpec, ...]:
        """The inputs that a run may be given: constants of the file otherwise."""
        return self.graph.optional_inputs

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """The declared outputs."""
        return self.graph.outputs

    @property
    def metadata(self) -> Mapping[str, str]:
        """The file's own key-value pairs."""
        return self.graph.metadata

    @property
    def tap_counts(self) -> TapCounts:
        """How often tap sessions were found, built and dropped."""
        return self._taps.counts()

    @property
    def fixed_batch(self) -> int:
        """Items of every run, if the model takes no other number and shows each its rows; else 0."""
        return self.rows.size or 0

    @property
    def runs_single_items(self) -> bool:
        """Whether a run may be of one item alone."""
        return self.rows.size in (0, 1)

    def resolve_layers(self, names: Sequence[str]) -> tuple[str, ...]:
        """Turn what layers are called into distinct names of tensors; see `LayerNames`.

        Raises:
            UnknownLayerError: The graph has no such layer.
            LimitExceededError: There are too many patterns.
        """
        return self.names.resolve(names).layers

    def batches(self, outputs: Iterable[str], feeds: Collection[str] | None = None) -> bool:
        """Tell whether requests for these outputs can share a run: they follow the batch.

        With `feeds`, the inputs that are given: a request that overrides a constant runs alone.
        """
        overrides = feeds is not None and len(feeds) > len(self._required)
        return not overrides and self.rows.following.issuperset(outputs)

    def check_inputs(
        self, feeds: Mapping[str, Array], *, finite: bool = False, any_number: bool = False
    ) -> None:
        """Check arrays against the declared inputs; with `finite`, refuse NaN and infinities too.

        With `any_number`, a model of a fixed batch may be given any number of items: they run in slices.

        Raises:
            InvalidRequestError: A name, type, rank or size is not what the model takes.
        """
        known = self._known_inputs
        if not self._required <= feeds.keys() <= known.keys():
            raise InvalidRequestError(f"got the inputs {listed(feeds)}; expected {self._expected()}")
        any_number = any_number and self.fixed_batch > 0
        for name, array in feeds.items():
            foreign = self.graph.foreign.get(name)
            check_feed(array, known[name], foreign, finite=finite, any_number=any_number)
        if any_number and len(counts := {len(array) for array in feeds.values()}) > 1:
            raise InvalidRequestError(
                f"the inputs hold {' and '.join(map(str, sorted(counts)))} items; expected as many in each"
            )

    def estimate_bytes(self, names: Iterable[str], input_shapes: Mapping[str, Sequence[int]]) -> int:
        """Estimate how many bytes these outputs or layers take for inputs of these shapes.

        A tensor whose size can't be inferred is taken to be as large as the largest whose size can.
        """
        items, batch = 1, self.fixed_batch or 1
        if batch > 1 and (first := next(iter(input_shapes.values()), ())):
            items = first[0]
            input_shapes = {name: (batch, *shape[1:]) for name, shape in input_shapes.items()}
        sizes = self._sizes(_shape_key(input_shapes))
        largest = max((size for size in sizes.values() if size is not None), default=0)
        size = sum(largest if sizes[name] is None else sizes[name] or 0 for name in names)
        return size if batch == 1 else math.ceil(size * items / batch)

    def run(self, feeds: Mapping[str, Array], outputs: Sequence[str]) -> dict[str, Array]:
        """Run the model and return the named declared outputs and layers.

        Args:
            feeds: Arrays by the names of the inputs, as `check_inputs` wants them. A fixed batch may be less
                than full, if the outputs follow it.
            outputs: What to return; at least one name.

        Raises:
            UnknownLayerError: The graph computes no such tensor.
            ExecutionError: ONNX Runtime failed; the log says why.
        """
        names = tuple(dict.fromkeys(outputs))
        if not names:
            offered = dict.fromkeys([*(spec.name for spec in self.outputs), *self.graph.layers])
            raise InvalidRequestError(f"no output was asked for; expected at least one of {listed(offered)}")
        wanted = frozenset(names)
        for name in wanted - self.graph.fetchable:
            raise UnknownLayerError(self.names.unknown(name))
        try:
            with self._watch as options, self._noted:
                return dict(zip(names, self._compute_filled(feeds, names, options), strict=True))
        except TimeoutError as error:
            log.exception("run ended", digest=self.digest, outputs=names)
            raise ExecutionError(f"the model failed: {error}") from error
        except RUN_ERRORS as error:
            log.exception("run failed", digest=self.digest, outputs=names)
            raise ExecutionError(_FAILED) from error

    def compute(
        self, feeds: Mapping[str, Array], names: Sequence[str], options: ort.RunOptions | None = None
    ) -> Sequence[Array]:
        """Run the model as it is: no checks, no log, one of RUN_ERRORS as ONNX Runtime raises it.

        Setting `terminate` of the options ends the run at the next node, as a failure.
        """
        layers = frozenset(names) - self._declared
        session = self._taps.get(layers) if layers else self._base
        arrays: Sequence[Array] = session.run(
            [self.graph.fetch_name(name) for name in names], self._values(feeds), options
        )
        return arrays

    def _in_trial(self, feeds: Mapping[str, Array], names: Sequence[str]) -> Sequence[Array]:
        with ending_within(self.trial_timeout_s) as options:
            try:
                return self.compute(feeds, names, options)
            except RUNTIME_ERRORS as error:
                failure = error
        raise failure  # it wasn't ended, but failed

    def _compute_filled(
        self, feeds: Mapping[str, Array], names: Sequence[str], options: ort.RunOptions | None
    ) -> Sequence[Array]:
        """Fill a fixed batch up for the run, and leave out what that gave, where outputs follow it."""
        if self.fixed_batch < 2 or not self.batches(names, feeds):
            return self.compute(feeds, names, options)
        items = len(next(iter(feeds.values())))
        full = {name: filled_up(array, self.fixed_batch) for name, array in feeds.items()}
        return [array[:items] for array in self.compute(full, names, options)]

    def _values(self, feeds: Mapping[str, Array]) -> dict[str, Array | ort.OrtValue]:
        foreign = self.graph.foreign
        return {
            name: value_of(array, foreign[name]) if name in foreign else array
            for name, array in feeds.items()
        }

    def preload(self, names: Sequence[str]) -> None:
        """Build the tap session for these layers now, rather than when they are first asked for.

        Raises:
            UnknownLayerError: The graph has no such layer.
            ModelLoadError: ONNX Runtime can't give them.
        """
        if layers := frozenset(self.resolve_layers(names)) - self._declared:
            self._taps.get(layers, preload=True)

    def _expected(self) -> str:
        optional = [spec.name for spec in self.graph.optional_inputs]
        return listed(self._required) + (f" and perhaps {listed(optional)}" if optional else "")


def _fallback(wanted: str, actual: str) -> str:
    return "" if actual == wanted else f"{wanted} can't be used; the server's log says why"


def _shape_key(input_shapes: Mapping[str, Sequence[int]]) -> InputShapes:
    return tuple((name, tuple(shape)) for name, shape in sorted(input_shapes.items()))


def _size_table(graph: Graph) -> Callable[[InputShapes], Mapping[str, int | None]]:
    """Make a function that tells the bytes of every output and layer for given input shapes."""
    specs = {
        **{spec.name: spec for spec in graph.outputs},
        **{n: layer.spec for n, layer in graph.layers.items()},
    }

    @lru_cache(maxsize=64)
    def sizes(input_shapes: InputShapes) -> Mapping[str, int | None]:
        shapes = graph.shapes(dict(input_shapes))
        return {name: _byte_count(spec, shapes.get(name)) for name, spec in specs.items()}

    return sizes


def _byte_count(spec: TensorSpec, shape: Shape | None) -> int | None:
    if shape is None or spec.dtype is None:
        return None
    sizes = [size for size in shape if size is not None]
    return math.prod(sizes) * spec.dtype.itemsize if len(sizes) == len(shape) else None
