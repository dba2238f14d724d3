"""Which axis of a tensor holds channels, where the graph proves it.

ONNX defines that convolutions, poolings and most normalizations take and give [N, C, ...]. From there it is
followed forwards and backwards, through transpositions and operators that keep the axes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from service.operators import CONVOLUTIONS, ELEMENTWISE, POOLINGS, Operator

# fmt: off
_CHANNELS_FIRST = frozenset((
    *CONVOLUTIONS, *POOLINGS, "BatchNormalization", "DeformConv", "DepthToSpace", "GlobalAveragePool",
    "GlobalLpPool", "GlobalMaxPool", "GridSample", "GroupNormalization", "InstanceNormalization", "LRN",
    "MaxRoiPool", "MaxUnpool", "SpaceToDepth", "QLinearGlobalAveragePool",
))
_KEEPING = ELEMENTWISE - _CHANNELS_FIRST | frozenset((
    "Concat", "CumSum", "Expand", "LayerNormalization", "LogSoftmax", "LpNormalization", "Pad",
    "QLinearAdd", "QLinearConcat", "QLinearLeakyRelu", "QLinearMul", "QLinearSigmoid",
    "RMSNormalization", "ReduceL2", "ReduceMax", "ReduceMean", "ReduceMin", "ReduceSum",
    "Resize", "Slice", "Softmax", "Split", "Tile", "Upsample",
))
# fmt: on
_LEAST_RANK = 4  # [N, C, H, W]; nothing with fewer axes is a stack of pictures


class ChannelAxes:
    """Finds the axes.

    Args:
        ranks: Number of axes of each tensor, where it is known.
    """

    def __init__(self, ranks: Mapping[str, int]) -> None:
        self._ranks = ranks
        self._axes: dict[str, int] = {}

    def find(self, operators: Iterable[Operator]) -> Mapping[str, int]:
        """Return the axis of each tensor for which it is known, counted from the last, which is -1.

        Args:
            operators: The nodes, in the graph's order.
        """
        operators = list(operators)
        for operator in operators:
            self._forwards(operator)
        for operator in reversed(operators):
            self._backwards(operator)
        for operator in operators:
            self._forwards(operator)
        return self._axes

    def _forwards(self, operator: Operator) -> None:
        node = operator.node
        if operator.op_type in _CHANNELS_FIRST:
            self._define(operator, [*node.input[:1], *node.output[:1]])
        elif operator.op_type == "Transpose":
            axis = self._axes.get(node.input[0])
            if axis is not None and (order := self._order(operator)):
                self._note(node.output[0], order.index(axis + len(order)) - len(order))
        elif operator.op_type == "MatMul" and self._ranks.get(node.input[1]) == 2:
            if self._axes.get(node.input[0]) == -1:  # a linear layer of each place's channels
                self._note(node.output[0], -1)
        elif operator.op_type in _KEEPING:
            known = {self._axes[name] for name in node.input if name in self._axes}
            for name in node.output if len(known) == 1 else ():
                self._note(name, *known)

    def _backwards(self, operator: Operator) -> None:
        node = operator.node
        axis = self._axes.get(node.output[0]) if node.output else None
        if axis is None:
            return
        if operator.op_type == "Transpose":
            if order := self._order(operator):
                self._note(node.input[0], order[axis] - len(order))
        elif operator.op_type in _KEEPING:
            for name in node.input:
                if self._ranks.get(name) == self._ranks.get(node.output[0]):
                    self._note(name, axis)

    def _define(self, operator: Operator, names: Iterable[str]) -> None:
        last = operator.attributes.get("channels_last", 0)  # of ONNX Runtime's own operators
        for name in names:
            self._note(name, -1 if last else 1 - self._ranks.get(name, 0))

    def _order(self, operator: Operator) -> tuple[int, ...]:
        rank = self._ranks.get(operator.node.input[0], 0)
        order = operator.integers("perm", range(rank)[::-1])
        return order if sorted(order) == list(range(rank)) else ()

    def _note(self, name: str, axis: int) -> None:
        if self._ranks.get(name, 0) >= _LEAST_RANK:
            self._axes.setdefault(name, axis)
