"""What people call layers: tensors, modules, nodes, patterns and operators, turned into tensors."""

from __future__ import annotations

import fnmatch
import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache

from service.errors import LimitExceededError, UnknownLayerError
from service.feeds import listed
from service.graph import Graph
from service.suggestions import containing, similar

ALL_LAYERS = "*"
OPERATOR = "op:"
_GLOB = re.compile(r"[*?[]")
_LONGEST_NAME = 200  # of a caller's, in an error and in the search for similar ones
_MOST_PATTERNS = 16
"""Of a request: each is compared with every name."""
_SHOWN = 3


@dataclass(frozen=True, slots=True)
class Resolution:
    """What the names of a request stand for.

    Attributes:
        layers: Tensors, each once; in graph order if all were asked for, else in the order asked.
        meant: Tensors that each name stands for, of those names that are no tensor's and not "*".
    """

    layers: tuple[str, ...]
    meant: Mapping[str, tuple[str, ...]]


class LayerNames:
    """The names that the layers of a graph can be asked for by.

    A name is, in this order: a tensor; a module, which stands for the tensor that it hands to the rest of the
    network; a node, which stands for its first output; `op:Conv`, all tensors that this operator computes; a
    pattern of names and modules as in a shell. Like "*", a pattern leaves out auxiliary layers, unless
    nothing else matches.
    """

    def __init__(self, graph: Graph) -> None:
        self._inputs = frozenset(spec.name for spec in graph.inputs)
        self._declared = tuple(spec.name for spec in graph.outputs)
        self._layers = graph.layers
        self._modules = graph.modules
        self._nodes = graph.nodes
        self._expand = lru_cache(maxsize=256)(self._stands_for)

    @cached_property
    def all(self) -> tuple[str, ...]:
        """Every layer but the auxiliary ones, in graph order."""
        return tuple(name for name, layer in self._layers.items() if not layer.auxiliary)

    @cached_property
    def paths(self) -> Mapping[str, tuple[str, ...]]:
        """The module paths that stand for each tensor, the outermost first."""
        paths: dict[str, tuple[str, ...]] = {}
        for path in sorted(self._modules.outputs, key=len):
            outputs = self._modules.outputs[path]
            if len(outputs) == 1 and path not in self._layers and path not in self._modules.altered:
                paths[outputs[0]] = (*paths.get(outputs[0], ()), path)
        return paths

    @cached_property
    def _operators(self) -> Mapping[str, tuple[str, ...]]:
        tensors: dict[str, list[str]] = {}
        for name, layer in self._layers.items():
            tensors.setdefault(layer.op_type.casefold(), []).append(name)
        return {op_type: tuple(names) for op_type, names in tensors.items()}

    def resolve(self, names: Sequence[str]) -> Resolution:
        """Turn the names of a request into tensors.

        Raises:
            UnknownLayerError: One stands for nothing, or for a module with several outputs.
            LimitExceededError: There are too many patterns.
        """
        others = [name for name in names if name not in self._layers and name != ALL_LAYERS]
        if sum(map(_is_pattern, others)) > _MOST_PATTERNS:
            raise LimitExceededError(f"the request has more than {_MOST_PATTERNS} patterns; ask for fewer")
        meant = {name: self._expand(name) for name in others}
        for name, found in meant.items():
            if not found:
                raise UnknownLayerError(self.unknown(name))
        wanted = dict.fromkeys(tensor for name in names for tensor in meant.get(name, (name,)))
        if ALL_LAYERS not in wanted:
            return Resolution(tuple(wanted), meant)
        everything = wanted.keys() | set(self.all)
        return Resolution(tuple(name for name in self._layers if name in everything), meant)

    def one(self, name: str) -> str:
        """Return the tensor that the name of an output stands for.

        Raises:
            UnknownLayerError: It stands for none, or may stand for several.
        """
        if name in self._layers or name in self._declared:
            return name
        if name == ALL_LAYERS or _is_pattern(name) or name.startswith(OPERATOR):
            raise UnknownLayerError(
                f"no output or layer {_shown(name)}; it is a pattern, which only Classify takes"
            )
        found = self._expand(name)
        if not found:
            raise UnknownLayerError(self.unknown(name, "output or layer"))
        return found[0]

    def unknown(self, name: str, what: str = "layer") -> str:
        """Say that there is no such layer, and what may have been meant."""
        if name in self._inputs:
            return f"no {what} {_shown(name)}: it is an input of the model"
        if merged := self._modules.merged.get(name):
            return f'no {what} {_shown(name)}: the file has it merged into "{merged}"; ask for that'
        return f"no {what} {_shown(name)}; {self._hint(name)}"

    def _stands_for(self, name: str) -> tuple[str, ...]:
        if (tensor := self._modules.altered.get(name)) is not None:
            raise UnknownLayerError(
                f'the exporter gave "{name}" other weights, as where it merges a BatchNormalization into it;'
                f' what the file computes with them is "{tensor}"'
            )
        if (outputs := self._modules.outputs.get(name)) is not None:
            if len(outputs) > 1:
                raise UnknownLayerError(
                    f'the module "{name}" has {len(outputs)} outputs: {listed(outputs)}; ask for these'
                )
            return outputs
        if (output := self._nodes.get(name)) is not None:
            return (output,)
        if name.startswith(OPERATOR):
            return self._by_operator(name.removeprefix(OPERATOR))
        return self._matching(name) if _is_pattern(name) else ()

    def _by_operator(self, wanted: str) -> tuple[str, ...]:
        if (found := self._operators.get(wanted.casefold())) is None:
            operators = sorted({layer.op_type for layer in self._layers.values()})
            raise UnknownLayerError(
                f"no operator {_shown(wanted)}; the model has {listed(operators, most=100)}"
            )
        return found

    def _matching(self, pattern: str) -> tuple[str, ...]:
        if len(pattern) > _LONGEST_NAME:
            return ()
        matches = re.compile(fnmatch.translate(pattern)).match
        of_modules = {
            output for path, outputs in self._modules.outputs.items() if matches(path) for output in outputs
        }
        found = [
            layer
            for name, layer in self._layers.items()
            if name in of_modules or matches(name) or (layer.module and matches(layer.module))
        ]
        shown = [layer for layer in found if not layer.auxiliary] or found
        return tuple(layer.name for layer in shown)

    def _hint(self, name: str) -> str:
        names = list(dict.fromkeys([*self._modules.outputs, *self._layers]))
        part = name.strip("*?") if _is_pattern(name) else name
        if found := containing(part, names):
            more = f" (or one of {len(found) - _SHOWN} more)" if len(found) > _SHOWN else ""
            return f"did you mean {listed(found[:_SHOWN])}{more}?"
        if close := similar(part, names):
            return f"did you mean {listed(close)}?"
        return f"the model has {listed(self._overview())}"

    def _overview(self) -> Collection[str]:
        """Name the outermost modules where there are some, else all layers."""
        outermost = [path for path in self._modules.outputs if "." not in path and "/" not in path]
        return outermost if len(outermost) > 1 else self._layers


def _is_pattern(name: str) -> bool:
    return _GLOB.search(name) is not None


def _shown(name: str) -> str:
    return json.dumps(name[:_LONGEST_NAME], ensure_ascii=False)
