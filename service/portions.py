"""Runs layers for the trial of their rows, in portions, so that what is held at once stays small."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import nullcontext, suppress
from functools import partial
from threading import Lock

import structlog
from structlog.typing import FilteringBoundLogger

from service.binding import Feeds, runner_of
from service.cutting import cut_to
from service.device import Execution, create_session, ending_within
from service.errors import ModelLoadError, StartupError
from service.graph import Graph
from service.tensors import Array

Run = Callable[[Mapping[str, Array], Sequence[str]], Sequence[Array]]
Shapes = Mapping[str, tuple[int, ...]]
Values = Callable[[Mapping[str, Array]], Feeds]

_PORTION_BYTES = 64 * 2**20
"""Of the layers of a portion in one run together."""
_LARGEST_BYTES = 256 * 2**20
"""Of a layer in one run; what is larger isn't tried."""
_MOST_FAILURES = 8
"""After so many sessions that couldn't be made no further one is tried."""

_large = Lock()
"""Held by the trial of a model of several portions: what models loaded side by side hold doesn't add up."""

_log: FilteringBoundLogger = structlog.get_logger()


class Portions:
    """Gives layers of a model in portions, each with what runs it: a session that keeps no memory.

    Args:
        graph: The model's graph.
        execution: How the model runs.
        sizes: Tells the bytes of each layer, as far as they are known, for inputs of shapes by name.
        values: Makes what a session takes of arrays.
    """

    def __init__(
        self,
        graph: Graph,
        execution: Execution,
        sizes: Callable[[Shapes], Mapping[str, int | None]],
        values: Values,
    ) -> None:
        self._graph = graph
        self._execution = execution.for_a_trial()
        self._sizes = sizes
        self._values = values

    def __call__(self, names: Sequence[str], shapes: Shapes) -> Generator[tuple[Sequence[str], Run]]:
        """Give one portion after the other, while there is time; layers that no session gives are left out.

        Args:
            names: The layers.
            shapes: Of the inputs in the largest runs.
        """
        groups = list(_groups(names, self._sizes(shapes)))
        with _large if len(groups) > 1 else nullcontext():
            yield from self._each(groups)

    def _each(self, groups: Sequence[list[str]]) -> Generator[tuple[Sequence[str], Run]]:
        seconds = self._execution.trial_timeout_s
        failures = 0
        waiting = [*groups][::-1]
        with suppress(ModelLoadError), ending_within(seconds) as options:
            while waiting and failures < _MOST_FAILURES and not options.terminate:
                group = waiting.pop()
                try:
                    session = runner_of(
                        create_session(self._model(group, part=len(groups) > 1), self._execution)
                    )
                except StartupError:  # one of them can't be an output: which?
                    failures += 1
                    middle = len(group) // 2
                    waiting += [half for half in (group[middle:], group[:middle]) if half and middle]
                else:
                    yield group, partial(self._run, partial(session.run, run_options=options))
            if options.terminate:
                _log.warning("layers not tried", seconds=seconds, layers=sum(map(len, waiting)))

    def _model(self, names: Sequence[str], *, part: bool) -> bytes:
        whole = self._graph.with_outputs(names)
        # The first layers are the largest: most portions need little of the model.
        return cut_to(whole, {self._graph.fetch_name(name) for name in names}) if part else whole

    def _run(
        self,
        run: Callable[[Sequence[str], Feeds], Sequence[Array]],
        feeds: Mapping[str, Array],
        names: Sequence[str],
    ) -> Sequence[Array]:
        return run([self._graph.fetch_name(name) for name in names], self._values(feeds))


def _groups(names: Sequence[str], sizes: Mapping[str, int | None]) -> Iterator[list[str]]:
    largest = max((size for size in sizes.values() if size is not None), default=0)
    group: list[str] = []
    held = 0
    for name in names:
        size = largest if (known := sizes.get(name)) is None else known
        if size > _LARGEST_BYTES:
            continue
        if group and held + size > _PORTION_BYTES:
            yield group
            group, held = [], 0
        group.append(name)
        held += size
    if group:
        yield group
