"""A walk through a `.tflite` graph in which every operator must have a part to play."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import NoReturn

import numpy as np

from converters.tflite.graph import Graph, Op, Tensor
from embbert_tf import errors


class NotEmbBertError(errors.EmbBertError):
    """The graph is not the portable EmbBERT graph; the message says where recognition stopped."""


@dataclasses.dataclass(frozen=True)
class Part:
    """A tensor of the graph that holds rows of a named activation.

    Attributes:
        tensor: The tensor; its last two axes are (rows, columns), or the other way round.
        row: First row that it holds.
        transposed: Whether its last axis is the rows.
        factor: The tensor holds this many times the activation.
    """

    tensor: Tensor
    row: int
    transposed: bool = False
    factor: float = 1.0


class Walk:
    """Finds operators by what they read and what they make, and notes which ones it has met.

    Every method raises NotEmbBertError where the graph is not as its caller expects.

    Attributes:
        graph: The graph.
        known: `id` of every operator that has been recognised.
        parts: Name of an activation -> the tensors that hold it.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.made_by = {id(t): op for op in graph.ops for t in op.outputs}
        self.users: dict[int, list[Op]] = {}
        for op in graph.ops:
            for tensor in {id(t): t for t in op.inputs if t is not None}.values():
                self.users.setdefault(id(tensor), []).append(op)
        self.index = {id(op): i for i, op in enumerate(graph.ops)}
        self.known: set[int] = set()
        self.parts: dict[str, list[Part]] = {}

    def found(
        self,
        name: str,
        tensor: Tensor,
        row: int = 0,
        transposed: bool = False,
        factor: float = 1.0,
    ) -> None:
        """Notes where a named activation lies."""
        self.parts.setdefault(name, []).append(Part(tensor, row, transposed, factor))

    def fail(self, what: str, op: Op | None = None) -> NoReturn:
        """Ends recognition."""
        where = "" if op is None else f" at operator {self.index[id(op)]} ({op.kind})"
        raise NotEmbBertError(f"not the portable EmbBERT graph: {what}{where}")

    def take(self, op: Op) -> Tensor:
        """Notes an operator as recognised; returns its output."""
        self.known.add(id(op))
        return op.outputs[0]

    def next(
        self, tensor: Tensor, kind: str, what: str, test: Callable[[Op], bool] = lambda op: True
    ) -> Op:
        """Takes the one user of `tensor` of a kind that passes `test`."""
        found = [op for op in self.users.get(id(tensor), []) if op.kind == kind and test(op)]
        if len(found) != 1:
            self.fail(f"{what}: {len(found)} {kind} where one is expected after '{tensor.name}'")
        self.take(found[0])
        return found[0]

    def maker(self, tensor: Tensor, kind: str, what: str) -> Op:
        """Takes the operator of a kind that makes `tensor`."""
        op = self.made_by.get(id(tensor))
        if op is None or op.kind != kind:
            self.fail(f"{what}: {kind} is expected to make '{tensor.name}'", op)
        self.take(op)
        return op

    def input(self, op: Op, index: int) -> Tensor:
        """Returns an input that must not be left out."""
        tensor = op.inputs[index] if index < len(op.inputs) else None
        if tensor is None:
            self.fail(f"input {index} is missing", op)
        return tensor

    def constant(self, op: Op, index: int, what: str) -> Tensor:
        """Returns an input that must be a constant."""
        tensor = op.inputs[index] if index < len(op.inputs) else None
        if tensor is None or tensor.data is None:
            self.fail(f"{what} is not a constant", op)
        return tensor

    def array(self, op: Op, index: int, what: str) -> np.ndarray:
        """Returns the value of an input that must be a constant."""
        data = self.constant(op, index, what).data
        assert data is not None
        return data

    def shape(self, tensor: Tensor, rank: int, what: str) -> tuple[int, ...]:
        """Returns the shape of a tensor that must have `rank` axes."""
        if len(tensor.shape) != rank:
            self.fail(f"{what}: '{tensor.name}' has {len(tensor.shape)} axes, not {rank}")
        return tensor.shape

    def scale(self, tensor: Tensor) -> float:
        """Returns the scale of an activation."""
        if tensor.scale is None or np.size(tensor.scale) != 1:
            self.fail(f"'{tensor.name}' is not quantized with one scale")
        return float(np.reshape(tensor.scale, ()))

    def dense(self, op: Op, what: str) -> tuple[np.ndarray, float | np.ndarray, np.ndarray | None]:
        """Returns weights, weight scale and bias (or None) of a FULLY_CONNECTED."""
        weight = self.constant(op, 1, f"{what}: weights")
        data, scale = weight.data, weight.scale
        if data is None or data.dtype != np.int8 or np.any(np.asarray(weight.zero_point)):
            self.fail(f"{what}: weights are not symmetric int8", op)
        if scale is None:
            self.fail(f"{what}: weights have no scale", op)
        bias = None
        if len(op.inputs) > 2 and op.inputs[2] is not None:
            # 64 bits beside int16; the values are those of 32.
            bias = self.array(op, 2, f"{what}: bias").astype(np.int32)
        return data, scale, bias

    def dense_with_bias(
        self, op: Op, what: str
    ) -> tuple[np.ndarray, float | np.ndarray, np.ndarray]:
        """As `dense`, of one that must have a bias."""
        weight, scale, bias = self.dense(op, what)
        if bias is None:
            self.fail(f"{what} has no bias", op)
        return weight, scale, bias

    def used_by(self, tensor: Tensor, kind: str) -> bool:
        """Whether an operator of a kind reads `tensor`."""
        return any(op.kind == kind for op in self.users.get(id(tensor), []))

    def requantized(self, tensor: Tensor, what: str) -> Tensor:
        """Returns `tensor`, or what one QUANTIZE makes of it."""
        if self.used_by(tensor, "QUANTIZE"):
            return self.take(self.next(tensor, "QUANTIZE", what))
        return tensor

    def origin(self, tensor: Tensor) -> Tensor:
        """Returns `tensor`, or what one QUANTIZE made it of."""
        op = self.made_by.get(id(tensor))
        if op is not None and op.kind == "QUANTIZE":
            self.take(op)
            return self.input(op, 0)
        return tensor

    def rows_of(self, tensor: Tensor, source: Tensor, what: str) -> tuple[int, int]:
        """Returns (first row, rows) of `source` that `tensor` holds."""
        rows = self.rows_if_of(tensor, source, what)
        if rows is None:
            op = self.made_by.get(id(tensor))
            self.fail(f"{what}: '{tensor.name}' is no run of '{source.name}'", op)
        return rows

    def rows_if_of(self, tensor: Tensor, source: Tensor, what: str) -> tuple[int, int] | None:
        """As `rows_of`; None where `tensor` is made of something else."""
        if tensor is source:
            return 0, source.shape[0]
        op = self.made_by.get(id(tensor))
        if op is not None and op.kind == "RESHAPE":
            self.take(op)
            return self.rows_if_of(self.input(op, 0), source, what)
        if op is None or op.kind not in ("SLICE", "GATHER") or op.inputs[0] is not source:
            return None
        self.take(op)
        if op.kind == "SLICE":
            begin, size = self.array(op, 1, what), self.array(op, 2, what)
            if begin[1] or size[1] != source.shape[1]:
                self.fail(f"{what}: a slice of columns", op)
            return int(begin[0]), int(size[0])
        rows = self.array(op, 1, what).reshape(-1)
        if np.any(np.diff(rows) != 1):
            self.fail(f"{what}: rows out of order", op)
        return int(rows[0]), len(rows)

    def span(self, tensor: Tensor, known: dict[int, tuple[int, int]], what: str) -> tuple[int, int]:
        """Returns (first row, rows) of a tensor in `known` or of a CONCATENATION of such."""
        if id(tensor) in known:
            return known[id(tensor)]
        op = self.maker(tensor, "CONCATENATION", what)
        parts = [self.span(self.input(op, i), known, what) for i in range(len(op.inputs))]
        for (start, rows), (following, _) in itertools.pairwise(parts):
            if start + rows != following:
                self.fail(f"{what}: rows out of order", op)
        return parts[0][0], sum(rows for _, rows in parts)
