"""Which tensors follow the batch, so that requests may share a run: what a trial at load shows, one by one.

A free first axis promises that, but may be another one: time, say, or heads that were folded into the batch.
So unlike items are run together and by themselves, and only tensors whose rows agree are taken to follow.
What a trial needn't show, the graph tells: of what is found, or chosen by the values of all items, nothing
follows. Whatever wasn't shown to follow doesn't.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from contextlib import closing
from itertools import islice
from typing import NamedTuple

from service.device import RUNTIME_ERRORS
from service.evidence import Evidence, experiment, together
from service.graph import Array, Graph, TensorSpec
from service.unlike import Feeds, Pair, pairs

Run = Callable[[Mapping[str, Array], Sequence[str]], Sequence[Array]]
Portions = Callable[[Sequence[str], Mapping[str, tuple[int, ...]]], Generator[tuple[Sequence[str], Run]]]
"""Gives layers in portions, each with what runs it, for inputs of shapes by name."""

_MOST_SIZES = 2
"""At which free axes other than the batch are tried: what follows at one size only doesn't."""


class Rows(NamedTuple):
    """Whose rows a model's tensors have.

    Attributes:
        following: The outputs and layers of which row i of axis 0 is what item i alone has.
        size: Items of every run; 0: any number; None: there is no batch that could be shown.
    """

    following: frozenset[str]
    size: int | None


NO_BATCH = Rows(frozenset(), None)


def rows_of(graph: Graph, run: Run, portions: Portions) -> Rows:
    """Find out whose rows a model's outputs and layers have, by running it on unlike items.

    Args:
        graph: The model's graph.
        run: Runs the model on feeds and returns the named declared outputs.
        portions: Gives the layers.
    """
    size = _batch_size(graph.inputs)
    if size is None:
        return NO_BATCH
    trial = _Trial(graph, size)
    seen = trial.seen(run, portions)
    if size == 1:  # whatever a run gives is of its one item
        specs = [*(layer.spec for layer in graph.layers.values()), *graph.outputs]
        told = {spec.name for spec in specs if (spec.shape or ())[:1] == (1,)}
        return Rows(frozenset(name for name in told if name in seen and seen[name].agrees), 1)
    following = trial.verdict(seen)
    shown = not size or any(spec.name in following for spec in graph.outputs)
    return Rows(following, size) if shown else NO_BATCH


def _batch_size(inputs: Sequence[TensorSpec]) -> int | None:
    """Return the size of axis 0 that all inputs have; 0: any; None: there is none, or several."""
    firsts = {(spec.shape or (0,))[0] for spec in inputs}
    if len(firsts) != 1 or 0 in firsts:
        return None
    return firsts.pop() or 0


class _Trial:
    """What was seen of a model's tensors so far."""

    def __init__(self, graph: Graph, size: int) -> None:
        self._graph = graph
        self._lineage = graph.lineage()
        self._inputs = frozenset(spec.name for spec in graph.inputs)
        self._is_free = not size
        self._experiment = experiment(size)
        self._taken: list[int] | None = None
        """Which of the pairs of items the model took, by number; None while that isn't known."""

    def seen(self, run: Run, portions: Portions) -> Mapping[str, Evidence]:
        """Try the declared outputs, then the layers that aren't among them."""
        declared = list(dict.fromkeys(spec.name for spec in self._graph.outputs))
        seen = self._tried(declared, run) if declared else {}
        layers = [name for name in self._graph.layers if name not in declared and not self._is_sizes(name)]
        if (shapes := self._shapes()) and (seen or not declared):
            with closing(portions(layers, shapes)) as each:
                for names, portion in each:
                    seen |= self._tried(names, portion)
        return seen

    def _is_sizes(self, name: str) -> bool:
        """Tell whether a layer is arithmetic with sizes, of which older exporters write thousands."""
        dtype = self._graph.layers[name].spec.dtype
        return name in self._lineage.told and dtype is not None and dtype.kind in "iub"

    def _tried(self, names: Sequence[str], run: Run) -> dict[str, Evidence]:
        seen = self._observed(names, run, wide=False)
        if unclear := [name for name in names if name not in seen or self._is_dead(name, seen[name])]:
            return together(seen, self._observed(unclear, run, wide=True))
        return seen

    def _observed(self, names: Sequence[str], run: Run, *, wide: bool) -> dict[str, Evidence]:
        seen: dict[str, Evidence] = {}
        taken = []
        for number, pair in self._pairs(wide=wide):
            try:
                runs = [run(feeds, names) for feeds in self._experiment.feeds(pair)]
            except RUNTIME_ERRORS:  # these sizes or values are not what it takes
                continue
            taken.append(number)
            shown = map(self._experiment.judge, zip(*runs, strict=True))
            seen = together(seen, dict(zip(names, shown, strict=True)))
            if len(taken) == _MOST_SIZES:
                break
        if taken and self._taken is None:
            self._taken = taken
        return seen

    def _pairs(self, *, wide: bool) -> Iterator[tuple[int, Pair]]:
        for number, pair in enumerate(pairs(self._graph.inputs, self._experiment.items, wide=wide)):
            if self._taken is None or number in self._taken:
                yield number, pair

    def _shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shapes of the inputs in the largest runs; nothing if there is no such run."""
        largest: Feeds = {}
        for _, pair in self._pairs(wide=False):
            largest = next(islice(self._experiment.feeds(pair), 1))
        return {name: feed.shape for name, feed in largest.items()}

    def _is_dead(self, name: str, seen: Evidence) -> bool:
        """Tell whether a tensor agreed without showing anything, and its operator doesn't tell more."""
        if not seen.agrees or seen.differs or name in self._lineage.told:
            return False
        return not self._lineage.is_row_wise(name, seen.rank)

    def verdict(self, seen: Mapping[str, Evidence]) -> frozenset[str]:
        """Name what follows the batch, by what was seen."""
        lineage = self._lineage
        mixing = lineage.by_values | self._mixing(seen)
        following = self._following(seen, lineage.descendants(mixing))
        if breaking := self._breaking(seen, following):
            following = self._following(seen, lineage.descendants(mixing | breaking))
        return frozenset(following)

    def _following(self, seen: Mapping[str, Evidence], suspect: Collection[str]) -> set[str]:
        lineage = self._lineage
        following: set[str] = set()
        for name in dict.fromkeys([*self._graph.layers, *seen]):  # what is computed first comes first
            evidence = seen.get(name)
            if evidence is None or not evidence.agrees or name in suspect:
                continue
            if evidence.differs or name in lineage.told or self._inherits(name, evidence, following):
                following.add(name)
        return following

    def _breaking(self, seen: Mapping[str, Evidence], following: Collection[str]) -> set[str]:
        """Name what doesn't follow, computed of what does by an operator that does more than rearrange.

        It puts items together along axis 0, as CumSum may. What is behind it agrees as long as it is quiet.
        """
        lineage = self._lineage
        return {
            name
            for name in seen
            if name not in following
            and name not in lineage.told
            and not lineage.rearranges(name)
            and all(
                parent in following or parent in self._inputs or parent in lineage.told
                for parent in lineage.parents.get(name, (name,))
            )
        }

    def _mixing(self, seen: Mapping[str, Evidence]) -> set[str]:
        """Name what holds values of all items together; of a layer that wasn't tried its shape may tell."""
        mixing = {name for name, evidence in seen.items() if evidence.mixes}
        for name, layer in self._graph.layers.items():
            shape = layer.spec.shape
            if self._is_free and name not in seen and shape is not None and None not in shape:
                mixing.add(name)
        told = self._lineage.told
        return (mixing - told) | {name for name in told if name in seen and seen[name].counts}

    def _inherits(self, name: str, seen: Evidence, following: Collection[str]) -> bool:
        """Tell whether a tensor has its rows from tensors that follow, which no value need show."""
        parents = self._lineage.parents.get(name, ())
        return self._lineage.is_row_wise(name, seen.rank) and all(
            parent in following or parent in self._inputs for parent in parents
        )
