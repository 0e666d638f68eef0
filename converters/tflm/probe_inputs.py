"""Inputs with which any `.tflite` can be tried: random ones, but within range where they index.

A whole number that an operator looks up in a table must be one of its rows, whatever lies between:
`allowed` follows it backwards through the operators that hand values on.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np

from converters.tflite import graph as graph_lib

_DEEPEST = 8
_FREE = (0, 3)  # whole numbers that nothing looks up
_WIDEST = 1 << 30
# Operators whose outputs hold the values of some inputs, by the places of those inputs.
_HANDS_ON: dict[str, slice] = {
    "BROADCAST_TO": slice(0, 1),
    "CAST": slice(0, 1),
    "CONCATENATION": slice(None),
    "EXPAND_DIMS": slice(0, 1),
    "FLOOR": slice(0, 1),
    "GATHER": slice(0, 1),
    "GATHER_ND": slice(0, 1),
    "MAXIMUM": slice(None),
    "MINIMUM": slice(None),
    "PACK": slice(None),
    "PAD": slice(0, 1),
    "RESHAPE": slice(0, 1),
    "REVERSE_V2": slice(0, 1),
    "ROUND": slice(0, 1),
    "SELECT_V2": slice(1, 3),
    "SLICE": slice(0, 1),
    "SPLIT": slice(1, 2),
    "SPLIT_V": slice(0, 1),
    "SQUEEZE": slice(0, 1),
    "STRIDED_SLICE": slice(0, 1),
    "TILE": slice(0, 1),
    "TRANSPOSE": slice(0, 1),
    "UNPACK": slice(0, 1),
}


@dataclasses.dataclass(frozen=True)
class Bounds:
    """Least and greatest value that a tensor's elements may have."""

    low: int
    high: int

    def within(self, other: "Bounds | None") -> "Bounds":
        """The values that both allow."""
        if other is None:
            return self
        return Bounds(max(self.low, other.low), min(self.high, other.high))


class _Ranges:
    """Bounds of the tensors of one subgraph, from its operators, last first."""

    def __init__(self, graphs: Sequence[graph_lib.Graph], number: int, depth: int) -> None:
        self.graphs, self.graph, self.depth = graphs, graphs[number], depth
        self.bounds: dict[int, Bounds] = {}

    def need(self, tensor: graph_lib.Tensor | None, bounds: Bounds | None) -> None:
        if tensor is not None and bounds is not None and tensor.data is None:
            self.bounds[id(tensor)] = bounds.within(self.bounds.get(id(tensor)))

    def find(self) -> list[Bounds | None]:
        for op in reversed(self.graph.ops):
            self.visit(op)
        return [self.bounds.get(id(t)) for t in self.graph.inputs]

    def visit(self, op: graph_lib.Op) -> None:
        after = self.bounds.get(id(op.outputs[0])) if op.outputs else None
        for out in op.outputs[1:]:
            if id(out) in self.bounds:
                after = self.bounds[id(out)].within(after)
        if op.kind in _HANDS_ON:
            for tensor in op.inputs[_HANDS_ON[op.kind]]:
                self.need(tensor, after)
        elif op.kind in ("ADD", "SUB", "MUL") and after is not None:
            self.computed(op, after)
        self.looked_up(op)
        self.called(op)

    def computed(self, op: graph_lib.Op, after: Bounds) -> None:
        """An index that is made of another one and a constant."""
        for place, (tensor, other) in enumerate((op.inputs[:2], op.inputs[1::-1])):
            if tensor is None or other is None or other.data is None or not other.data.size:
                continue
            least, most = int(other.data.min()), int(other.data.max())
            if op.kind == "ADD":
                self.need(tensor, Bounds(after.low - least, after.high - most))
            elif op.kind == "SUB" and place == 0:
                self.need(tensor, Bounds(after.low + most, after.high + least))
            elif op.kind == "SUB":
                self.need(tensor, Bounds(most - after.high, least - after.low))
            elif least > 0:
                low = -(-after.low // (least if after.low > 0 else most))
                self.need(tensor, Bounds(low, after.high // most))

    def looked_up(self, op: graph_lib.Op) -> None:
        """What an operator takes for rows of a table."""
        inputs = op.inputs
        if op.kind == "GATHER" and inputs[0] is not None:
            axis = getattr(op.options, "axis", 0) or 0
            self.need(inputs[1], Bounds(0, inputs[0].shape[axis] - 1))
        elif op.kind == "EMBEDDING_LOOKUP" and inputs[1] is not None:
            self.need(inputs[0], Bounds(0, inputs[1].shape[0] - 1))
        elif op.kind == "GATHER_ND" and inputs[0] is not None and inputs[1] is not None:
            self.need(inputs[1], Bounds(0, min(inputs[0].shape[: inputs[1].shape[-1]]) - 1))
        elif op.kind == "DYNAMIC_UPDATE_SLICE" or op.kind == "SLICE":
            places = inputs[2:] if op.kind == "DYNAMIC_UPDATE_SLICE" else inputs[1:2]
            for tensor in places:
                self.need(tensor, Bounds(0, 0))
        elif op.custom_code == "EMBBERT_EMBED" and inputs[2] is not None:
            self.need(inputs[0], Bounds(1, inputs[2].shape[0] - 1))
            self.need(inputs[1], Bounds(1, 2))

    def called(self, op: graph_lib.Op) -> None:
        """What the subgraphs that an operator calls take for rows of a table."""
        skipped = 1 if op.kind == "IF" else 0
        if op.kind not in ("IF", "WHILE") or self.depth >= _DEEPEST:
            return
        for field, number in vars(op.options).items():
            if field.endswith("SubgraphIndex") and 0 <= number < len(self.graphs):
                inner = _Ranges(self.graphs, number, self.depth + 1).find()
                for tensor, bounds in zip(op.inputs[skipped:], inner, strict=False):
                    self.need(tensor, bounds)


def allowed(graphs: Sequence[graph_lib.Graph]) -> list[Bounds | None]:
    """Returns the bounds of each input of a file; None where nothing looks its values up."""
    return _Ranges(graphs, 0, 0).find()


def _random(
    rng: np.random.Generator, tensor: graph_lib.Tensor, bounds: Bounds | None
) -> np.ndarray:
    kind = tensor.dtype or np.dtype(np.uint8)
    if bounds is not None:
        low, high = min(bounds.low, bounds.high), min(bounds.high, _WIDEST)
        return rng.integers(low, max(low, high) + 1, tensor.shape).astype(kind)
    if kind == np.bool_:
        return rng.integers(0, 2, tensor.shape).astype(kind)
    if kind.kind == "f":
        return rng.normal(size=tensor.shape).astype(kind)
    info = np.iinfo(kind)
    low, high = (info.min, info.max) if kind.itemsize < 4 else _FREE
    return rng.integers(low, high + 1, tensor.shape).astype(kind)


def choose(
    graphs: Sequence[graph_lib.Graph], inferences: int = 3, seed: int = 0
) -> list[list[np.ndarray]]:
    """Returns inputs for some inferences, one array for each input of the file.

    Args:
        graphs: All subgraphs of the file.
        inferences: How many.
        seed: Of the random numbers.
    """
    rng = np.random.default_rng(seed)
    bounds = allowed(graphs)
    return [
        [_random(rng, t, b) for t, b in zip(graphs[0].inputs, bounds, strict=True)]
        for _ in range(inferences)
    ]


def constant(graphs: Sequence[graph_lib.Graph], value: int) -> list[list[np.ndarray]]:
    """Returns inputs for one inference, all of one value."""
    return [[np.full(t.shape, value, t.dtype or np.uint8) for t in graphs[0].inputs]]
