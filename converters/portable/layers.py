"""The layers of the portable graph, operator by operator."""

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from converters.portable import int16, npu
from converters.portable.builder import Builder
from converters.portable.scales import Scales
from converters.portable.schedule import Groups
from converters.portable.weights import Weights
from converters.tflite import quantize
from converters.tflite.graph import Tensor

# Softmax weights and sigmoid have these in TFLite's specification.
_PROBABILITY = quantize.Quantization(1 / 256, -128)
# Pushes a padding key's score below every int8 score: |q . x| stays under 255 * 127 * D < 2^24 for
# D <= 512; twice that leaves the sum far inside 32 bits.
_MASK = 1 << 25
# TFLM takes a bias whose scale is off by at most 2 % of the output's scale.
_MASK_OFF = 0.019


class Layers:
    """Adds layers to one graph.

    Args:
        builder: Gets the operators.
        scales: Of the activations.
        weights: Constants.
        parts: Those of `int16.PARTS` that compute on int16.
        ids: The graph's input, int32 (1, S).
        padding: For an NPU, the mask of `npu.look_up`; else None.
    """

    def __init__(
        self,
        builder: Builder,
        scales: Scales,
        weights: Weights,
        parts: frozenset[str],
        ids: Tensor,
        padding: Tensor | None = None,
    ) -> None:
        self._b, self._scales, self._weights, self._parts = builder, scales, weights, parts
        self._masks: list[tuple[float, Tensor]] = []
        self._npu = padding is not None
        if padding is not None:
            self._padding = padding
            return
        # 1 at tokens, 0 at padding.
        one = builder.constant("one", np.array([1], np.int32))
        real = builder.add("MINIMUM", [ids, one], Tensor("real", ids.shape, np.int32))
        if "attention" in parts:
            self._padding = int16.ceiling(builder, real)
        else:
            # 0 and -1, from which each layer makes its scores' bias.
            padding = Tensor("padding", ids.shape, np.int32)
            self._padding = builder.add("SUB", [real, one], padding)

    def layer(self, index: int, x: Tensor, groups: Groups) -> Tensor:
        """Adds a whole layer: (S, D) to (S, D)."""
        b, xhat = self._b, self._normalise(index, x)
        mask = self._mask(index)
        values: Tensor | None = None
        finished, start = [], 0
        for group in groups:
            attended, at = [], start
            for rows in group:
                query = self._query(index, self._rows(index, xhat, at, rows), rows)
                weighed = self._shares(index, query, xhat, mask)
                # Not before the first chunk's softmax, so that it is not alive there.
                values = values or self._values(index, xhat)
                attended.append(self._attended(index, weighed, values))
                at += rows
            a = b.join(attended)
            z = self._branch(index, self._window(index, xhat, start, at - start), at - start)
            finished.append(self._sum(index, a, z))
            start = at
        return b.join(finished)

    def last_layer(self, index: int, x: Tensor) -> Tensor:
        """Adds the last layer, of which the head reads row 0 alone: (S, D) to (1, D)."""
        b, scales, d = self._b, self._scales, x.shape[1]
        xhat = self._normalise(index, x)
        mask = self._mask(index)
        if self._npu:
            first = npu.rows(b, xhat, 0, 1, scales.xhat(index))
        else:
            first = b.activation(f"piece{index}", (1, 1, 1, d), scales.xhat(index))
            zero = b.constant("rows", np.zeros((1, 1, 1), np.int32))
            b.add("GATHER", [xhat, zero], first, axis=0)
        weighed = self._shares(index, self._query(index, first, 1), xhat, mask)
        columns = self._columns(index, xhat)
        if "attention" in self._parts:
            a = self._attended(index, weighed, columns)
        else:
            # (A . xhat) . Wv costs less than A . (xhat . Wv) for a single row.
            c = b.dense(f"c{index}", weighed, columns, None, 1, scales.of(f"c{index}"))
            wv = self._weights.layers[index].wv
            a = b.dense(f"a{index}", c, wv, None, 1, scales.of(f"a{index}"))
        return self._sum(index, a, self._branch(index, first, 1))

    def _normalise(self, index: int, x: Tensor) -> Tensor:
        b, scales = self._b, self._scales
        if "norm" in self._parts:
            return int16.normalise(b, scales, index, x, self._weights.mean4)
        length = x.shape[0]
        square = b.activation(f"sq{index}", x.shape, scales.of(f"sq{index}"))
        b.add("MUL", [x, x], square, 2)
        mean = b.dense(
            f"ms{index}", square, self._weights.mean, None, length, scales.of(f"ms{index}")
        )
        inverse = b.activation(f"r{index}", (length, 1), scales.of(f"r{index}"))
        b.add("RSQRT", [mean], inverse, 2)
        xhat = b.activation(f"xhat{index}", x.shape, scales.xhat(index))
        return b.add("MUL", [x, inverse], xhat, 2)

    def _mask(self, index: int) -> Tensor:
        """The scores' bias: 0 at tokens, very negative at padding; else their upper limits.

        As the mask only has to saturate, one mask serves all layers whose scales come close.
        """
        if "attention" in self._parts:
            return self._padding
        if self._npu:
            return npu.limits(self._b, self._padding, self._scales.of(f"scores{index}"))
        product = self._scales.product(index)
        for scale, mask in self._masks:
            if abs(scale - product) / self._scales.of(f"scores{index}").scale < _MASK_OFF:
                return mask
        scale = float(np.float32(product))
        mask = Tensor(f"mask{index}", self._padding.shape, np.int32, scale)
        self._masks.append((scale, mask))
        deep = self._b.constant("mask", np.array([_MASK], np.int32))
        return self._b.add("MUL", [self._padding, deep], mask)

    def _query(self, index: int, x: Tensor, rows: int) -> Tensor:
        weights = self._weights.layers[index]
        q = self._scales.of(f"q{index}")
        return self._b.dense(f"q{index}", x, weights.wq, weights.bq, rows, q)

    def _shares(self, index: int, query: Tensor, xhat: Tensor, mask: Tensor) -> Tensor:
        """Softmax weights (rows, S) of queries (rows, D)."""
        b, scales = self._b, self._scales
        if "attention" in self._parts:
            return int16.shares(b, scales, index, query, xhat, mask)
        rows, q = query.shape[0], scales.of(f"scores{index}")
        scores = b.dense(f"scores{index}", query, xhat, None if self._npu else mask, rows, q)
        if self._npu:
            scores = npu.masked(b, scores, mask, q)
        weights = b.activation(f"p{index}", (rows, xhat.shape[0]), _PROBABILITY)
        return b.add("SOFTMAX", [scores], weights, 2, beta=1.0)

    def _values(self, index: int, xhat: Tensor) -> Tensor:
        """What softmax weights are multiplied with: V^T (D, S), or on int16 xhat^T."""
        if "attention" in self._parts:
            return self._columns(index, xhat)
        q = self._scales.of(f"v{index}", symmetric=True)
        values = self._b.activation(f"v{index}", xhat.shape[::-1], q)
        wv = self._weights.layers[index].wv
        return self._b.add("FULLY_CONNECTED", [wv, xhat, None], values, 4)

    def _attended(self, index: int, weighed: Tensor, values: Tensor) -> Tensor:
        b, scales = self._b, self._scales
        if "attention" in self._parts:
            wv = self._weights.layers[index].wv
            return int16.attended(b, scales, index, weighed, values, wv)
        rows = weighed.shape[0]
        return b.dense(f"a{index}", weighed, values, None, rows, scales.of(f"a{index}"))

    def _columns(self, index: int, xhat: Tensor) -> Tensor:
        columns = self._b.activation(f"xhat{index}", xhat.shape[::-1], self._scales.xhat(index))
        order = self._b.constant("order", np.array([1, 0], np.int32))
        return self._b.add("TRANSPOSE", [xhat, order], columns)

    def _branch(self, index: int, window: Tensor, rows: int) -> Tensor:
        """Depthwise convolution, SiLU and contraction of a (1, 1, rows + taps - 1, D) window."""
        b, scales, weights = self._b, self._scales, self._weights.layers[index]
        channels = weights.conv.shape[-1]
        y = b.activation(f"y{index}", (1, 1, rows, channels), scales.of(f"y{index}"))
        b.add(
            "DEPTHWISE_CONV_2D",
            [window, weights.conv, weights.conv_bias],
            y,
            3,
            padding=schema.Padding.VALID,
            strideW=1,
            strideH=1,
            depthMultiplier=channels // window.shape[-1],
            dilationWFactor=1,
            dilationHFactor=1,
        )
        if "branch" in self._parts:
            return int16.contracted(b, scales, index, y, rows, weights)
        gate = b.add("LOGISTIC", [y], b.activation(f"sig{index}", y.shape, _PROBABILITY), 2)
        s = b.add("MUL", [y, gate], b.activation(f"s{index}", y.shape, scales.of(f"s{index}")), 2)
        return b.dense(f"z{index}", s, weights.wz, weights.bz, rows, scales.of(f"z{index}"))

    def _sum(self, index: int, a: Tensor, z: Tensor) -> Tensor:
        if np.int16 in (a.dtype, z.dtype):
            return int16.total(self._b, self._scales, index, a, z)
        q = self._scales.of(f"x{index + 1}")
        return self._b.add("ADD", [a, z], self._b.activation(f"x{index + 1}", a.shape, q), 2)

    def _rows(self, index: int, xhat: Tensor, start: int, rows: int) -> Tensor:
        if rows == xhat.shape[0]:
            return xhat
        b, d = self._b, xhat.shape[1]
        piece = b.activation(f"piece{index}", (rows, d), self._scales.xhat(index))
        begin = b.constant("begin", np.array([start, 0], np.int32))
        size = b.constant("size", np.array([rows, d], np.int32))
        return b.add("SLICE", [xhat, begin, size], piece)

    def _window(self, index: int, xhat: Tensor, start: int, rows: int) -> Tensor:
        """The rows and the taps - 1 rows before them, zeros before row 0, as (1, 1, ., D)."""
        b, d, taps = self._b, xhat.shape[1], self._weights.layers[index].conv.shape[2]
        q = self._scales.xhat(index)
        low = max(start - taps + 1, 0)
        count = start + rows - low
        if self._npu:
            window = npu.rows(b, xhat, low, count, q)
        else:
            positions = np.arange(low, start + rows, dtype=np.int32)[None, None]
            window = b.activation(f"window{index}", (1, 1, count, d), q)
            b.add("GATHER", [xhat, b.constant("rows", positions)], window, axis=0)
        missing = low - (start - taps + 1)
        if not missing:
            return window
        amounts = np.array([[0, 0], [0, 0], [missing, 0], [0, 0]], np.int32)
        padded = b.activation(f"window{index}", (1, 1, missing + count, d), q)
        return b.add("PAD", [window, b.constant("amounts", amounts)], padded, 2)
