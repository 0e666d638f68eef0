"""The compared models (`embbert_tf.baselines`) as graphs of TFLM's int8 operators.

The description of a model computes in float with `embbert_tf.baselines.ops.TensorOps`; here the
same description adds operators to a graph. Names of activations are those of its ranges.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.kernels import selective_scan
from converters.portable import int16
from converters.portable.builder import Builder
from converters.portable.scales import Scales
from converters.tflite import quantize
from converters.tflite.graph import Graph, Tensor
from converters.tflm import memory_planner
from embbert_tf import errors
from embbert_tf.quantization import folding

# Softmax weights and sigmoid have these in TFLite's specification.
_PROBABILITY = quantize.Quantization(1 / 256, -128)
_SHARE = 1 / 32768  # Of an int16 SOFTMAX.
# Pushes a padding key's score below every int8 score: see `converters.portable.layers`.
_MASK = 1 << 25
_TRIES = 50  # Orders of tensors that the plan of the arena tries.


class GraphOps:
    """Adds a model's operations to a graph; the methods are those of `TensorOps`.

    Activations are `Tensor`s (n, D), n rows or one; weights are arrays.

    Args:
        ranges: Activation name to (low, high).
        length: Tokens of the graph's input, n.
        pair: Whether the graph takes segment ids as a second input.
    """

    def __init__(self, ranges: Mapping[str, tuple[float, float]], length: int, pair: bool):
        self.builder, self._scales, self._length = Builder(), Scales(ranges), length
        b = self.builder
        self.inputs = [Tensor("ids", (1, length), np.int32)]
        self._ids = self._flat(self.inputs[0])
        self._segments: Tensor | None = None
        if pair:
            self.inputs.append(Tensor("segment_ids", (1, length), np.int32))
            self._segments = self._flat(self.inputs[1])
        one = b.constant("one", np.array([1], np.int32))
        self._real = b.add("MINIMUM", [self._ids, one], Tensor("real", (length,), np.int32))
        self._padding: Tensor | None = None

    def _flat(self, x: Tensor) -> Tensor:
        return self._reshaped(x, (self._length,))

    def _reshaped(self, x: Tensor, shape: tuple[int, ...]) -> Tensor:
        size = self.builder.constant("shape", np.array(shape, np.int32))
        y = Tensor(x.name, shape, x.dtype, x.scale, x.zero_point)
        return self.builder.add("RESHAPE", [x, size], y, newShape=list(shape))

    def _scale(self, name: str) -> quantize.Quantization:
        return self._scales.of(name, symmetric=folding.kind(name) in folding.SYMMETRIC)

    def _table(self, name: str, values: np.ndarray) -> Tensor:
        data, scale = quantize.weights(values)
        return self.builder.constant(name, data, scale)

    # ---- As `TensorOps` ------------------------------------------------------------------------

    def read(self, variable: Any) -> np.ndarray:
        """Returns the value of a weight."""
        return variable.numpy()

    def drop(self, x: Tensor) -> Tensor:
        """Returns x: nothing is dropped outside training."""
        return x

    def first(self, x: Tensor) -> Tensor:
        """Returns row 0 alone, (1, D)."""
        zero = self.builder.constant("rows", np.zeros(1, np.int32))
        row = Tensor("row", (1, x.shape[1]), x.dtype, x.scale, x.zero_point)
        return self.builder.add("GATHER", [x, zero], row, axis=0)

    def embed(
        self,
        name: str,
        table: np.ndarray,
        expander: np.ndarray | None,
        places: np.ndarray,
        segments: np.ndarray,
    ) -> Tensor:
        """Returns token, position and segment embedding."""
        x = self._gather("table", table, self._ids)
        if expander is not None:
            x = self.dense("token", x, expander, None)
        places = places[: self._length]
        if self._segments is None:
            return self._binary("ADD", name, x, self._table("place", places + segments[1]))
        rows = np.concatenate([places + segments[1], places + segments[2]])
        return self._binary("ADD", name, x, self._gather("place", rows, self._places()))

    def _places(self) -> Tensor:
        """Returns each position's row in the table of both segments; padding counts as the first.

        Of segment ids 0, 1 and 2 the row is the position, and n more in segment 2.
        """
        b, x = self.builder, self._segments
        steps = (("SUB", 1), ("MAXIMUM", 0), ("MUL", self._length))
        for kind, value in steps:
            number = b.constant("number", np.array([value], np.int32))
            x = b.add(kind, [x, number], Tensor("places", (self._length,), np.int32))
        positions = b.constant("positions", np.arange(self._length, dtype=np.int32))
        return b.add("ADD", [x, positions], Tensor("places", (self._length,), np.int32))

    def _gather(self, name: str, values: np.ndarray, indices: Tensor) -> Tensor:
        table = self._table(name, values)
        rows = Tensor(name, (self._length, values.shape[1]), np.int8, table.scale)
        return self.builder.add("GATHER", [table, indices], rows, axis=0)

    def dense(
        self,
        name: str,
        x: Tensor,
        kernel: np.ndarray,
        bias: np.ndarray | None,
        relu: bool = False,
    ) -> Tensor:
        """Adds FULLY_CONNECTED; what has no negative range has none below 0."""
        del relu
        weight = self._table(name, kernel.T)
        offset = None
        if bias is not None:
            scale = float(np.float32(x.scale * weight.scale))
            offset = self.builder.constant(f"{name}_bias", quantize.bias(bias, scale), scale)
        return self.builder.dense(name, x, weight, offset, x.shape[0], self._scale(name))

    def add(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Adds ADD."""
        return self._binary("ADD", name, x, y)

    def subtract(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Adds SUB."""
        return self._binary("SUB", name, x, y)

    def multiply(self, name: str, x: Tensor, y: Tensor) -> Tensor:
        """Adds MUL."""
        return self._binary("MUL", name, x, y)

    def scale(self, name: str, x: Tensor, gain: np.ndarray) -> Tensor:
        """Adds MUL with a weight for each channel."""
        return self._binary("MUL", name, x, self._table(name, gain[None]))

    def _binary(self, kind: str, name: str, x: Tensor, y: Tensor) -> Tensor:
        result = self.builder.activation(name, x.shape, self._scale(name))
        return self.builder.add(kind, [x, y], result, 2)

    def mean(self, name: str, x: Tensor) -> Tensor:
        """Adds FULLY_CONNECTED with a constant row: a seventieth of MEAN's cost."""
        size = x.shape[1]
        row = self.builder.constant("mean", np.full((1, size), 127, np.int8), 1 / (127 * size))
        return self.builder.dense(name, x, row, None, x.shape[0], self._scale(name))

    def inverse_root(self, name: str, x: Tensor, epsilon: float) -> Tensor:
        """Adds RSQRT; its least input is a step of int8, above any `epsilon`."""
        del epsilon
        result = self.builder.activation(name, x.shape, self._scale(name))
        return self.builder.add("RSQRT", [x], result, 2)

    def shares(self, name: str, queries: Tensor, keys: Tensor) -> Tensor:
        """Adds the scores and their SOFTMAX; the padding mask is the scores' bias."""
        b = self.builder
        if self._padding is None:
            one = b.constant("one", np.array([1], np.int32))
            padding = Tensor("padding", self._real.shape, np.int32)
            self._padding = b.add("SUB", [self._real, one], padding)
        scale = float(np.float32(queries.scale * keys.scale))
        deep = b.constant("mask", np.array([_MASK], np.int32))
        mask = Tensor("mask", self._padding.shape, np.int32, scale)
        b.add("MUL", [self._padding, deep], mask)
        scores = b.dense(name, queries, keys, mask, queries.shape[0], self._scale(name))
        weights = b.activation("shares", scores.shape, _PROBABILITY)
        return b.add("SOFTMAX", [scores], weights, 2, beta=1.0)

    def values(self, name: str, x: Tensor, kernel: np.ndarray) -> Tensor:
        """Returns the values' columns, (D, n): the constant weight is the *input*, x the filter."""
        weight = self._table(name, kernel.T)
        result = self.builder.activation(name, (kernel.shape[1], x.shape[0]), self._scale(name))
        return self.builder.add("FULLY_CONNECTED", [weight, x, None], result, 4)

    def columns(self, x: Tensor) -> Tensor:
        """Adds TRANSPOSE: columns (D, n)."""
        order = self.builder.constant("order", np.array([1, 0], np.int32))
        columns = Tensor(x.name, x.shape[::-1], x.dtype, x.scale, x.zero_point)
        return self.builder.add("TRANSPOSE", [x, order], columns)

    def weigh(self, name: str, shares: Tensor, values: Tensor) -> Tensor:
        """Returns the weighted sums of values."""
        return self.builder.dense(name, shares, values, None, shares.shape[0], self._scale(name))

    def join(self, parts: Sequence[Tensor]) -> Tensor:
        """Adds CONCATENATION of columns."""
        if len(parts) == 1:
            return parts[0]
        first = parts[0]
        shape = (first.shape[0], sum(part.shape[1] for part in parts))
        whole = Tensor(first.name, shape, first.dtype, first.scale, first.zero_point)
        return self.builder.add("CONCATENATION", parts, whole, axis=1)

    def convolution(self, name: str, x: Tensor, kernel: np.ndarray, bias: np.ndarray) -> Tensor:
        """Adds DEPTHWISE_CONV_2D over the rows, zeros before the first."""
        b, (taps, channels), rows = self.builder, kernel.shape, x.shape[0]
        window = self._reshaped(x, (1, 1, rows, channels))
        amounts = b.constant("amounts", np.array([[0, 0], [0, 0], [taps - 1, 0], [0, 0]], np.int32))
        shape = (1, 1, rows + taps - 1, channels)
        padded = Tensor("window", shape, np.int8, x.scale, x.zero_point)
        b.add("PAD", [window, amounts], padded, 2)
        data, found = quantize.weights(kernel, 1)
        scales = np.asarray(found)
        weight = b.constant(name, data[None, None], scales, axis=3)
        sums = np.float32(x.scale) * scales
        offset = b.constant(f"{name}_bias", quantize.bias(bias, sums), sums)
        y = b.activation(name, (1, 1, rows, channels), self._scale(name))
        b.add(
            "DEPTHWISE_CONV_2D",
            [padded, weight, offset],
            y,
            3,
            padding=schema.Padding.VALID,
            strideW=1,
            strideH=1,
            depthMultiplier=1,
            dilationWFactor=1,
            dilationHFactor=1,
        )
        return self._reshaped(y, (rows, channels))

    def silu(self, name: str, x: Tensor) -> Tensor:
        """Adds LOGISTIC and MUL."""
        gate = self.builder.activation("gate", x.shape, _PROBABILITY)
        self.builder.add("LOGISTIC", [x], gate, 2)
        return self._binary("MUL", name, x, gate)

    def scan(
        self,
        name: str,
        u: Tensor,
        steps: Tensor,
        state_in: Tensor,
        state_out: Tensor,
        log_decay: np.ndarray,
        skip: np.ndarray,
    ) -> Tensor:
        """Adds EMBBERT_SELECTIVE_SCAN, the one operator that is not TFLM's own."""
        if u.shape[0] > selective_scan.MAX_LENGTH:
            most = selective_scan.MAX_LENGTH
            raise errors.OptionError(f"max_length {u.shape[0]}: the scan takes {most} at most")
        y = self.builder.activation(name, u.shape, self._scale(name))
        inputs = (u, steps, state_in, state_out)
        return self.builder.selective_scan(inputs, y, log_decay, skip)

    def pool(self, x: Tensor) -> Tensor:
        """Returns the root mean square of each channel over the tokens, (1, D).

        SOFTMAX of an int16 mask is one over the number of tokens at each of them.
        """
        b, rows = self.builder, x.shape[0]
        limits = self._reshaped(int16.ceiling(b, self._real), (1, rows))
        counted = b.wide("counted", (1, rows), _SHARE)
        b.add("SOFTMAX", [limits], counted, 3, beta=1.0)
        square = self._binary("MUL", "square", x, x)
        squares = self.columns(square)
        wide = b.dense16("pooled", counted, squares, None, 1, self._scales.wide("pooled"))
        mean = b.narrow(wide, self._scale("pooled"))
        return self.multiply("rms", mean, self.inverse_root("root", mean, 0.0))


class BaselineGraph:
    """Builds the graph of a `BaselineClassifier`.

    Args:
        classifier: The trained model.
        ranges: Activation name to (low, high), as QAT or calibration has them.
        max_length: Tokens of the graph's input, at most the model's.
        pair: Whether the graph takes segment ids as a second input.
        offline: Whether the file carries our own placement of tensors.

    Attributes:
        graph: The finished graph.

    Raises:
        RangeError: A range is missing or infinite.
    """

    def __init__(
        self,
        classifier: Any,
        ranges: Mapping[str, tuple[float, float]],
        max_length: int,
        pair: bool = False,
        offline: bool = True,
    ) -> None:
        ops = GraphOps(ranges, max_length, pair)
        logits = classifier.logits(ops)
        self.graph = Graph(ops.inputs, [logits], ops.builder.ops)
        if offline:
            plan = memory_planner.plan_offline(self.graph, _TRIES)
            self.graph.metadata[memory_planner.OFFLINE_METADATA] = memory_planner.offline_metadata(
                self.graph, plan
            )

    def describe_schedule(self) -> str:
        """Returns how the graph is cut, as a line for people."""
        return f"{len(self.graph.ops)} operators, not cut"

    def describe_weights(self) -> str:
        """Returns nothing: no weight's scales were chosen."""
        return ""
