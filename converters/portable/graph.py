"""EmbBERT as a graph of TFLM's builtin int8 operators, laid out for TFLM's memory planner.

What makes it small, against a plain conversion:

* RMSNorm's gain, 1/sqrt(D) and both lambda factors are folded into weights (`embbert_tf.quantization.folding`).
* Queries go through attention in chunks: no (S, S) tensor exists. Chunks shrink as finished output
  rows pile up, so that every chunk peaks at the same height.
* Both attention products are FULLY_CONNECTED with a computed filter: scores = Q . xhat^T with
  xhat (S, D) as filter, and A . V with V^T (D, S) as filter, where V^T = Wv^T . xhat^T comes out
  transposed from one FULLY_CONNECTED whose *input* is the constant Wv^T. Nothing is transposed, and
  no transposed copy is kept for the life of the interpreter, as BATCH_MATMUL would.
* The padding mask is the bias of the scores' FULLY_CONNECTED: no operator over (S, S) for it.
* mean(x^2) is a FULLY_CONNECTED with a constant row: 32-bit sums, at a seventieth of MEAN's cost.
* Token and position meet in one dense layer over [token, position]; the position table stays
  (S, R). Column scales of both tables move into that layer's rows.
* The last layer computes row 0 alone, as the head reads nothing else.

Parts of a layer may run on int16 (`INT16_PARTS`) around the int8 tensors x, xhat, q, y and SiLU(y),
which the fused kernels have too: then the graph rounds where they round, and nowhere else.
"""

import dataclasses

import numpy as np

from converters.portable import builder as builder_lib
from converters.portable import schedule as schedule_lib
from converters.tflite import graph as graph_lib
from converters.tflite import quantize
from converters.tflite.graph import Graph, Tensor
from converters.tflm import memory_planner
from embbert_tf.quantization.folding import FoldedModel

# Softmax weights and sigmoid have these in TFLite's specification.
_PROBABILITY = quantize.Quantization(1 / 256, -128)
# Pushes a padding key's score below every int8 score: |q . x| stays under 255 * 127 * D < 2^24 for
# D <= 512; twice that leaves the sum far inside 32 bits.
_MASK = 1 << 25

# Parts of a layer that can compute on 16 bits.
# * norm: x^2, its mean and the reciprocal root, which one Newton step takes from 8 to 15 bits.
# * attention: scores, softmax, and (A . xhat) . Wv in place of A . (xhat . Wv), which needs no V.
# * branch: sigmoid, its product with y, and the contraction's result.
INT16_PARTS = ("norm", "attention", "branch")

# int16 results that are rounded to int8 next have this many steps in one of int8's. TFLM rounds
# twice: first to a power of two of parts of an int8 step, here to 64ths and 128ths. Just below
# twice that, the value next to half a step stays apart from it, and fewer values go astray.
# int16 then holds the 255 and the 127 int8 steps either side of zero.
_FINE = 126
_FINE_SYMMETRIC = 254
# Room that int16 tensors have beyond their calibrated range: 14 bits of resolution are plenty.
_HEADROOM = 4.0
_SIGMOID16 = 1 / 32768  # scales that TFLite's int16 LOGISTIC and SOFTMAX write

_TRIES = 100  # orders of placing that are tried for each finalist

# Weights for which the kernels take either, and which get one scale a channel if that lowers the
# noise by so many dB: 3 dB are half of it. Less is not worth 12 bytes a channel.
_EITHER = ("embed", "head")
_CHANNEL_GAIN = 3.0


class PortableGraph:
    """Builds the portable graph of a folded model.

    Args:
      model: Float weights, folded.
      ranges: Activation name -> (low, high), as QAT or calibration has them.
      max_length: Tokens of the graph's input, at most the model's.
      pair: Whether the graph takes segment ids as a second input.
      per_channel: Names of weights that get one scale an output channel: of "embed", "wq", "wz",
        "head" ("conv" always does, as depthwise channels differ by an order of magnitude). None
        measures the error of "embed" and "head" either way and decides.
      int16: Those of `INT16_PARTS` that compute on 16 bits.
      groups: Query rows of each chunk, grouped; None lets the memory model choose.
      offline: Whether the file carries our own placement of tensors, which TFLM follows; else its
        greedy planner decides.

    Attributes:
      graph: The finished `flatbuffer.Graph`.
      schedule: How it is cut.
      weight_snr: Of each weight that was measured: (dB with one scale, dB with one a channel,
        whether it has one a channel).

    Raises:
      RangeError: A range is missing.
      ValueError: `max_length` or `chunks` do not fit the model.
    """

    def __init__(
        self,
        model: FoldedModel,
        ranges: dict[str, tuple[float, float]],
        max_length: int,
        pair: bool = False,
        per_channel: frozenset[str] | None = frozenset(),
        groups: schedule_lib.Groups | None = None,
        offline: bool = True,
        int16: frozenset[str] = frozenset(),
    ):
        if not int16 <= set(INT16_PARTS):
            raise ValueError(f"int16 parts {sorted(int16)}; there are {', '.join(INT16_PARTS)}")
        if not 1 <= max_length <= model.position.shape[0]:
            raise ValueError(
                f"max_length {max_length} is not within 1..{model.position.shape[0]}, "
                "the positions that the model was trained with"
            )
        if groups is not None and sum(map(sum, groups)) != max_length:
            raise ValueError(f"groups {groups} do not sum to max_length {max_length}")
        if groups is not None and max(len(groups), *map(len, groups)) > schedule_lib.MOST_PARTS:
            raise ValueError(f"groups {groups}: TFLM joins at most {schedule_lib.MOST_PARTS} parts")
        self._model, self._ranges, self._length = model, ranges, max_length
        self._pair, self._per_channel, self._offline = pair, per_channel, offline
        self._int16 = int16
        self.weight_snr: dict[str, tuple[float, float, bool]] = {}
        self._quantize_weights()
        self.schedule, self.graph, plan = self._choose(groups)
        if offline:
            self.graph.metadata[memory_planner.OFFLINE_METADATA] = memory_planner.offline_metadata(
                self.graph, plan
            )

    # -- quantization -------------------------------------------------------------------------

    def _q(self, name: str, symmetric: bool = False) -> quantize.Quantization:
        if name not in self._ranges:
            raise quantize.RangeError(
                f"no range for activation '{name}': run calibration or QAT for this model again"
            )
        low, high = self._ranges[name]
        try:
            return quantize.activation(float(low), float(high), symmetric)
        except quantize.RangeError as error:
            raise quantize.RangeError(f"activation '{name}': {error}") from error

    def _weight(self, name: str, values: np.ndarray):
        """Quantizes an (out, in) matrix."""
        if self._per_channel is None:
            channelwise = False
            if name in _EITHER:
                tensor, channel = (quantize.weight_snr(values, axis) for axis in (None, 0))
                channelwise = channel - tensor >= _CHANNEL_GAIN
                self.weight_snr[name] = tensor, channel, channelwise
        else:
            channelwise = name in self._per_channel
        return quantize.weights(values, 0 if channelwise else None)

    def describe_weights(self) -> str:
        """Returns what was measured of the weights, and chosen, as a line for people."""
        return "; ".join(
            f"{name}: {tensor:.1f} dB with one scale, {channel:.1f} dB with one a channel, takes "
            + ("the latter" if channelwise else "the former")
            for name, (tensor, channel, channelwise) in self.weight_snr.items()
        )

    def _quantize_weights(self):
        model, builder = self._model, builder_lib.Builder()
        token, token_scale = quantize.weights(model.token, 1)
        position, position_scale = quantize.weights(model.position, 1)
        rows = [token_scale[:, None] * model.w_token, position_scale[:, None] * model.w_position]
        bias = model.segment[1].copy()
        if self._pair:
            # Segment 2 is one more input column that reads 127 there and 0 elsewhere.
            # Three idle columns keep the width a multiple of four for CMSIS-NN.
            shift = np.zeros((4, model.segment.shape[1]), np.float32)
            shift[0] = (model.segment[2] - model.segment[1]) / 127
            rows.append(shift)
        matrix, scale = self._weight("embed", np.concatenate(rows).T)
        self._token = builder.constant("token", token, 1.0)
        self._position = builder.constant("position", position[None, : self._length], 1.0)
        self._embed_w = builder.constant("embed_w", matrix, scale)
        self._embed_bias = builder.constant(
            "embed_bias", quantize.bias(bias, scale), np.float32(scale)
        )
        self._layers = []
        for index, block in enumerate(model.blocks):
            xhat = self._q(f"xhat{index}", symmetric=True).scale
            s = self._q(f"s{index}").scale
            last = index == len(model.blocks) - 1
            wq, wq_scale = self._weight("wq", block.wq.T)
            # As the input (not the filter) of a FULLY_CONNECTED, Wv^T has one scale.
            wv, wv_scale = quantize.weights(block.wv.T)
            conv, conv_scale = quantize.weights(block.conv[-1:] if last else block.conv, 1)
            wz, wz_scale = self._weight("wz", block.wz.T)
            self._layers.append(
                {
                    "wq": builder.constant(f"wq{index}", wq, wq_scale),
                    "bq": builder.constant(
                        f"bq{index}",
                        quantize.bias(block.bq, xhat * np.float64(wq_scale)),
                        np.float32(xhat * wq_scale),
                    ),
                    "wv": builder.constant(f"wv{index}", wv, wv_scale),
                    "conv": builder.constant(f"conv{index}", conv[None, None], conv_scale, axis=3),
                    "conv_bias": builder.constant(
                        f"conv_bias{index}",
                        quantize.bias(block.conv_bias, xhat * np.float64(conv_scale)),
                        np.float32(xhat * conv_scale),
                    ),
                    "wz": builder.constant(f"wz{index}", wz, wz_scale),
                    "bz": builder.constant(
                        f"bz{index}",
                        # TFLM's and CMSIS-NN's products of int16 have 64-bit biases in common.
                        quantize.bias(block.bz, s * np.float64(wz_scale)).astype(
                            np.int64 if "branch" in self._int16 else np.int32
                        ),
                        np.float32(s * wz_scale),
                    ),
                }
            )
        head, head_scale = self._weight("head", model.head_w.T)
        x = self._q(f"x{len(model.blocks)}").scale
        self._head_w = builder.constant("head_w", head, head_scale)
        self._head_bias = builder.constant(
            "head_bias",
            quantize.bias(model.head_b, x * np.float64(head_scale)),
            np.float32(x * head_scale),
        )
        # One row of 1/D: FULLY_CONNECTED with it is the mean of a row.
        d = model.head_w.shape[0]
        row = np.full((1, d), 127, np.int8)
        self._mean = builder.constant("mean", row, 1 / (127 * d))
        # See `_normalise16`, which wants four times the mean.
        self._mean4 = builder.constant("mean4", row, 4 / (127 * d))

    def _plan(self, graph: Graph) -> memory_planner.Plan:
        if self._offline:
            return memory_planner.plan_offline(graph, _TRIES)
        return memory_planner.plan(graph)

    # -- schedule -----------------------------------------------------------------------------

    def _choose(
        self, groups: schedule_lib.Groups | None
    ) -> tuple[schedule_lib.Schedule, Graph, memory_planner.Plan]:
        """Searches by the bytes alive at the peak, then places the best few cuts for real."""
        floors: dict[schedule_lib.Groups, int] = {}

        def floor(candidate: schedule_lib.Groups) -> int:
            if candidate not in floors:
                graph = self._build(candidate)
                alive = (
                    memory_planner.plan_offline(graph, 0) if self._offline else self._plan(graph)
                )
                floors[candidate] = alive.peak_bytes + memory_planner.tail_bytes(graph)
            return floors[candidate]

        if groups is None:
            for start in self._starts():
                self._improve(start, floor)
            finalists = sorted(floors, key=floors.__getitem__)[: schedule_lib.FINALISTS]
        else:
            finalists = [groups]
        placed = {}
        for candidate in finalists:
            graph = self._build(candidate)
            plan = self._plan(graph)
            placed[candidate] = (plan.head_bytes + memory_planner.tail_bytes(graph), graph, plan)
        best = min(placed, key=lambda c: placed[c][0])
        arena, graph, plan = placed[best]
        by_count: dict[int, int] = {}
        for candidate, size in floors.items():
            count = sum(map(len, candidate))
            by_count[count] = min(by_count.get(count, 1 << 62), size)
        schedule = schedule_lib.Schedule(
            best, plan.head_bytes, arena - plan.head_bytes, tuple(sorted(by_count.items()))
        )
        return schedule, graph, plan

    def _starts(self) -> list[schedule_lib.Groups]:
        """Cuts to begin the search from.

        A chunk of m rows needs scores and probabilities, 2 m S bytes; every finished row stays as
        D bytes of output. Equal peaks make each chunk 1 - D / (2 S) of the one before.
        """
        length, d = self._length, self._model.head_w.shape[0]
        ratio = max(1 - d / (2 * length), 0.2)
        result: list[schedule_lib.Groups] = [((length,),)]
        for count in range(2, 7):
            if length < 8 * count:
                break
            shares = np.array([ratio**i for i in range(count)])
            edges = np.round(np.cumsum(shares) / shares.sum() * length / 4) * 4
            edges = np.concatenate([[0], np.minimum(edges, length)])
            edges[-1] = length
            sizes = [int(n) for n in np.diff(edges)]
            if min(sizes) < 1:
                continue
            for members in range(1, min(count, 3) + 1):
                result.append(
                    tuple(tuple(sizes[i : i + members]) for i in range(0, count, members))
                )
        return result

    @staticmethod
    def _improve(groups: schedule_lib.Groups, floor) -> schedule_lib.Groups:
        """Moves rows between chunks while the bytes at the peak shrink."""
        best, step = groups, 16
        while step >= 4:
            sizes = [rows for group in best for rows in group]
            moves = []
            for i in range(len(sizes)):
                for j in range(len(sizes)):
                    if i != j and sizes[i] > step:
                        moved = list(sizes)
                        moved[i] -= step
                        moved[j] += step
                        rest = iter(moved)
                        moves.append(tuple(tuple(next(rest) for _ in g) for g in best))
            better = min(moves, key=floor, default=best)
            if floor(better) < floor(best):
                best = better
            else:
                step //= 2
        return best

    # -- graph --------------------------------------------------------------------------------

    def _build(self, groups: schedule_lib.Groups) -> Graph:
        model, length, b = self._model, self._length, builder_lib.Builder()
        d = model.head_w.shape[0]
        self._masks: list[tuple[float, Tensor]] = []
        ids = Tensor("ids", (1, length), np.int32)
        inputs = [ids]

        # 0 at padding, 1 at tokens; then -1 and 0, from which each layer makes its scores' bias.
        one = b.constant("one", np.array([1], np.int32))
        real = b.add("MINIMUM", [ids, one], Tensor("real", (1, length), np.int32))
        if "attention" in self._int16:
            padding = self._ceiling(b, real)
        else:
            padding = b.add("SUB", [real, one], Tensor("padding", (1, length), np.int32))

        r = model.token.shape[1]
        parts = [
            b.add(
                "GATHER",
                [self._token, ids],
                b.activation("token", (1, length, r), quantize.Quantization(1.0, 0)),
                axis=0,
            ),
            self._position,
        ]
        if self._pair:
            segments = Tensor("segment_ids", (1, length), np.int32)
            inputs.append(segments)
            table = np.zeros((3, 4), np.int8)
            table[2, 0] = 127
            parts.append(
                b.add(
                    "GATHER",
                    [b.constant("segment", table, 1.0), segments],
                    b.activation("segment", (1, length, 4), quantize.Quantization(1.0, 0)),
                    axis=0,
                )
            )
        width = sum(part.shape[-1] for part in parts)
        embedded = b.activation("embedded", (1, length, width), quantize.Quantization(1.0, 0))
        b.add("CONCATENATION", parts, embedded, axis=2)
        x = b.dense("x0", embedded, self._embed_w, self._embed_bias, length, self._q("x0"))

        for index in range(len(model.blocks) - 1):
            x = self._layer(b, index, x, padding, groups)
        x = self._last_layer(b, len(model.blocks) - 1, x, padding)
        logits = b.dense("logits", x, self._head_w, self._head_bias, 1, self._q("logits"))
        assert x.shape == (1, d)
        return Graph(inputs, [logits], b.ops)

    def _ceiling(self, b: builder_lib.Builder, real: Tensor) -> Tensor:
        """Upper limits of int16 scores: the least int16 at padding, the largest at tokens.

        Products of int16 take their bias in 64 bits, which TFLM has no operator to compute.
        """
        span = b.constant("span", np.array([65535], np.int32))
        # TFLM's SUB of int32 takes no scale, which QUANTIZE needs: the zero point subtracts.
        limits = Tensor("ceiling", real.shape, np.int32, 1.0, 32768)
        b.add("MUL", [real, span], limits)
        return b.add("QUANTIZE", [limits], b.wide("ceiling", real.shape, 1.0), 2)

    def _normalise16(self, b: builder_lib.Builder, index: int, x: Tensor) -> Tensor:
        """RMSNorm on int16, the reciprocal root by one Newton step from RSQRT's int8.

        With m = 4 mean(x^2) and y = RSQRT(m) = r / 2 (1 + e), y (3 - m y^2) = r (1 - 3/2 e^2): the
        factor of four makes up for Newton's 1/2.
        """
        length = x.shape[0]
        wide = b.widen(x)
        # One step for each of x's squared steps, unless the largest square would not fit. Not two:
        # half of every odd square would be rounded up, and the mean be too large.
        reach = max(127 - int(x.zero_point), 128 + int(x.zero_point))
        steps = max(1.0, reach**2 / 32767)
        square = b.wide(f"sq{index}", x.shape, steps * float(x.scale) ** 2)
        b.add("MUL", [wide, wide], square, 2)
        # A mean or a root beyond its range would spoil a whole row, and Newton's step with it.
        top = 1.25 * 4 * self._q_high(f"ms{index}")
        mean = b.dense16(f"ms{index}", square, self._mean4, None, length, top / 32767)
        coarse = b.narrow(mean, quantize.activation(0.0, top))
        high = 1.25 * self._q_high(f"r{index}")
        guess8 = b.activation(f"r{index}", (length, 1), quantize.activation(0.0, high / 2))
        guess = b.widen(b.add("RSQRT", [coarse], guess8, 2))
        # m y is about the root of m, so that it keeps more digits of small rows than y^2 would.
        root = b.wide("root", guess.shape, 1.5 * top**0.5 / 32767)
        b.add("MUL", [mean, guess], root, 2)
        near = b.wide("near", guess.shape, 2.5 / 32767)
        b.add("MUL", [root, guess], near, 2)
        three = b.constant("three", np.array([30000], np.int16), 3 / 30000)
        rest = b.wide("rest", guess.shape, 3 / 32767)
        b.add("SUB", [three, near], rest, 2)
        inverse = b.wide(f"r{index}", guess.shape, high / 32767)
        b.add("MUL", [guess, rest], inverse, 2)
        q = self._xhat(index)
        normal = b.wide(f"xhat{index}", x.shape, q.scale / _FINE_SYMMETRIC)
        return b.narrow(b.add("MUL", [wide, inverse], normal, 2), q)

    def _q_high(self, name: str) -> float:
        self._q(name)
        return max(float(self._ranges[name][1]), 1e-9)

    def _scale16(self, name: str) -> float:
        self._q(name)
        return _HEADROOM * max(*map(abs, map(float, self._ranges[name])), 1e-9) / 32767

    def _normalise(self, b: builder_lib.Builder, index: int, x: Tensor) -> Tensor:
        if "norm" in self._int16:
            return self._normalise16(b, index, x)
        length, d = x.shape
        square = b.add("MUL", [x, x], b.activation(f"sq{index}", x.shape, self._q(f"sq{index}")), 2)
        mean = b.dense(f"ms{index}", square, self._mean, None, length, self._q(f"ms{index}"))
        inverse = b.activation(f"r{index}", (length, 1), self._q(f"r{index}"))
        b.add("RSQRT", [mean], inverse, 2)
        q = self._q(f"xhat{index}", symmetric=True)
        return b.add("MUL", [x, inverse], b.activation(f"xhat{index}", (length, d), q), 2)

    def _product_scale(self, index: int) -> float:
        """Scale of the scores' 32-bit sums, which their bias shares."""
        return self._q(f"q{index}").scale * self._xhat(index).scale

    def _mask(self, b: builder_lib.Builder, index: int, padding: Tensor) -> Tensor:
        """The scores' bias: 0 at tokens, very negative at padding.

        TFLM takes a bias whose scale is off by at most 2 % of the output's scale. As the mask only
        has to saturate, one mask serves all layers that come within that.
        """
        for scale, mask in self._masks:
            off = abs(scale - self._product_scale(index)) / self._q(f"scores{index}").scale
            if off < 0.019:
                return mask
        scale = float(np.float32(self._product_scale(index)))
        mask = Tensor(f"mask{index}", padding.shape, np.int32, scale)
        self._masks.append((scale, mask))
        return b.add("MUL", [padding, b.constant("mask", np.array([_MASK], np.int32))], mask)

    def _branch(self, b: builder_lib.Builder, index: int, window: Tensor, rows: int) -> Tensor:
        """Depthwise convolution, SiLU and contraction of a (1, 1, rows + taps - 1, D) window."""
        weights = self._layers[index]
        channels = weights["conv"].shape[-1]
        y = b.activation(f"y{index}", (1, 1, rows, channels), self._q(f"y{index}"))
        b.add(
            "DEPTHWISE_CONV_2D",
            [window, weights["conv"], weights["conv_bias"]],
            y,
            3,
            padding=graph_lib.schema.Padding.VALID,
            strideW=1,
            strideH=1,
            depthMultiplier=channels // window.shape[-1],
            dilationWFactor=1,
            dilationHFactor=1,
        )
        if "branch" in self._int16:
            wide = b.widen(y)
            gate = b.add("LOGISTIC", [wide], b.wide(f"sig{index}", y.shape, _SIGMOID16), 3)
            q = self._q(f"s{index}")
            s = b.wide(f"s{index}", y.shape, q.scale / _FINE)
            s = b.widen(b.narrow(b.add("MUL", [wide, gate], s, 2), q))
            return b.dense16(
                f"z{index}", s, weights["wz"], weights["bz"], rows, self._scale16(f"z{index}")
            )
        gate = b.add("LOGISTIC", [y], b.activation(f"sig{index}", y.shape, _PROBABILITY), 2)
        s = b.add("MUL", [y, gate], b.activation(f"s{index}", y.shape, self._q(f"s{index}")), 2)
        return b.dense(f"z{index}", s, weights["wz"], weights["bz"], rows, self._q(f"z{index}"))

    def _scores(self, b, index, query, xhat, mask) -> Tensor:
        length = xhat.shape[0]
        if "attention" in self._int16:
            query = b.widen(query)
            scale = self._scale16(f"scores{index}")
            scores = b.dense16(f"scores{index}", query, xhat, None, query.shape[0], scale)
            limited = b.wide(f"scores{index}", scores.shape, scale)
            b.add("MINIMUM", [scores, mask], limited, 2)
            weights = b.wide(f"p{index}", scores.shape, _SIGMOID16)
            return b.add("SOFTMAX", [limited], weights, 3, beta=1.0)
        scores = b.dense(
            f"scores{index}", query, xhat, mask, query.shape[0], self._q(f"scores{index}")
        )
        weights = b.activation(f"p{index}", (query.shape[0], length), _PROBABILITY)
        return b.add("SOFTMAX", [scores], weights, 2, beta=1.0)

    def _context(
        self, b: builder_lib.Builder, index: int, weighed: Tensor, columns: Tensor
    ) -> Tensor:
        """(A . xhat) . Wv on int16."""
        rows, wv = weighed.shape[0], self._layers[index]["wv"]
        # A row's weights sum to 1: no more than 127 steps of xhat, and a little for their rounding.
        c = b.dense16(f"c{index}", weighed, columns, None, rows, self._xhat(index).scale / 256)
        return b.dense16(f"a{index}", c, wv, None, rows, self._scale16(f"a{index}"))

    def _columns(self, b: builder_lib.Builder, index: int, xhat: Tensor) -> Tensor:
        columns = b.activation(f"xhat{index}", xhat.shape[::-1], self._xhat(index))
        order = b.constant("order", np.array([1, 0], np.int32))
        return b.add("TRANSPOSE", [xhat, order], columns)

    def _sum(self, b: builder_lib.Builder, index: int, a: Tensor, z: Tensor) -> Tensor:
        q = self._q(f"x{index + 1}")
        if a.dtype == z.dtype == np.int8:
            return b.add("ADD", [a, z], b.activation(f"x{index + 1}", a.shape, q), 2)
        a, z = (t if t.dtype == np.int16 else b.widen(t) for t in (a, z))
        total = b.wide(f"x{index + 1}", a.shape, q.scale / _FINE)
        return b.narrow(b.add("ADD", [a, z], total, 2), q)

    def _layer(
        self, b: builder_lib.Builder, index: int, x: Tensor, padding: Tensor, groups
    ) -> Tensor:
        weights, (length, d) = self._layers[index], x.shape
        xhat = self._normalise(b, index, x)
        mask = padding if "attention" in self._int16 else self._mask(b, index, padding)
        values, finished, start = None, [], 0
        for group in groups:
            attended, at = [], start
            for rows in group:
                piece = self._rows(b, index, xhat, at, rows)
                query = b.dense(
                    f"q{index}", piece, weights["wq"], weights["bq"], rows, self._q(f"q{index}")
                )
                weighed = self._scores(b, index, query, xhat, mask)
                if "attention" in self._int16:
                    values = values or self._columns(b, index, xhat)
                    attended.append(self._context(b, index, weighed, values))
                    at += rows
                    continue
                if values is None:
                    # Not before the first chunk's softmax, so that it is not alive there.
                    q = self._q(f"v{index}", symmetric=True)
                    values = b.activation(f"v{index}", (d, length), q)
                    b.add("FULLY_CONNECTED", [weights["wv"], xhat, None], values, 4)
                attended.append(
                    b.dense(f"a{index}", weighed, values, None, rows, self._q(f"a{index}"))
                )
                at += rows
            a = self._join(b, attended)
            window = self._window(b, index, xhat, start, at - start)
            z = self._branch(b, index, window, at - start)
            finished.append(self._sum(b, index, a, z))
            start = at
        return self._join(b, finished)

    def _rows(
        self, b: builder_lib.Builder, index: int, xhat: Tensor, start: int, rows: int
    ) -> Tensor:
        if rows == xhat.shape[0]:
            return xhat
        d = xhat.shape[1]
        piece = b.activation(f"piece{index}", (rows, d), self._xhat(index))
        begin = b.constant("begin", np.array([start, 0], np.int32))
        size = b.constant("size", np.array([rows, d], np.int32))
        return b.add("SLICE", [xhat, begin, size], piece)

    def _window(
        self, b: builder_lib.Builder, index: int, xhat: Tensor, start: int, rows: int
    ) -> Tensor:
        """The rows and the taps - 1 rows before them, zeros before row 0, as (1, 1, ., D)."""
        d, taps = xhat.shape[1], self._layers[index]["conv"].shape[2]
        low = max(start - taps + 1, 0)
        positions = np.arange(low, start + rows, dtype=np.int32)[None, None]
        window = b.activation(f"window{index}", (1, 1, positions.size, d), self._xhat(index))
        b.add("GATHER", [xhat, b.constant("rows", positions)], window, axis=0)
        missing = low - (start - taps + 1)
        if not missing:
            return window
        amounts = np.array([[0, 0], [0, 0], [missing, 0], [0, 0]], np.int32)
        padded = b.activation(
            f"window{index}", (1, 1, missing + positions.size, d), self._xhat(index)
        )
        return b.add("PAD", [window, b.constant("amounts", amounts)], padded, 2)

    def _join(self, b: builder_lib.Builder, parts: list[Tensor]) -> Tensor:
        if len(parts) == 1:
            return parts[0]
        rows = sum(part.shape[0] for part in parts)
        first = parts[0]
        whole = dataclasses.replace(first, shape=(rows, first.shape[1]))
        return b.add("CONCATENATION", parts, whole, axis=0)

    def _xhat(self, index: int) -> quantize.Quantization:
        return self._q(f"xhat{index}", symmetric=True)

    def _last_layer(self, b: builder_lib.Builder, index: int, x: Tensor, padding: Tensor) -> Tensor:
        weights, d = self._layers[index], x.shape[1]
        xhat = self._normalise(b, index, x)
        wide = "attention" in self._int16
        mask = padding if wide else self._mask(b, index, padding)
        first = b.activation(f"piece{index}", (1, 1, 1, d), self._xhat(index))
        zero = b.constant("rows", np.zeros((1, 1, 1), np.int32))
        b.add("GATHER", [xhat, zero], first, axis=0)
        query = b.dense(f"q{index}", first, weights["wq"], weights["bq"], 1, self._q(f"q{index}"))
        scores = self._scores(b, index, query, xhat, mask)
        columns = self._columns(b, index, xhat)
        if wide:
            attended = self._context(b, index, scores, columns)
        else:
            context = b.dense(f"c{index}", scores, columns, None, 1, self._q(f"c{index}"))
            attended = b.dense(f"a{index}", context, weights["wv"], None, 1, self._q(f"a{index}"))
        return self._sum(b, index, attended, self._branch(b, index, first, 1))
