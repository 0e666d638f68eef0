"""EmbBERT as a graph of TFLM's builtin int8 operators, laid out for TFLM's memory planner.

What makes it small, against a plain conversion:

* RMSNorm's gain, 1/sqrt(D) and both lambda factors are folded into weights
  (`embbert_tf.quantization.folding`).
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

Parts of a layer may run on int16 (`converters.portable.int16`) around the int8 tensors x, xhat, q,
y and SiLU(y), which the fused kernels have too: then the graph rounds where they round, and nowhere
else.
"""

from collections.abc import Mapping

import numpy as np

from converters.portable import int16 as int16_lib
from converters.portable import npu as npu_lib
from converters.portable import schedule as schedule_lib
from converters.portable.builder import Builder
from converters.portable.layers import Layers
from converters.portable.scales import Scales
from converters.portable.weights import Weights
from converters.tflite import quantize
from converters.tflite.graph import Graph, Tensor
from converters.tflm import memory_planner
from embbert_tf.quantization.folding import FoldedModel

INT16_PARTS = int16_lib.PARTS

_TABLE = quantize.Quantization(1.0, 0)  # tables are gathered as they are


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
        npu: One of `npu.TARGETS` for a graph that its compiler takes whole; "" for none.

    Attributes:
        graph: The finished `converters.tflite.graph.Graph`.
        schedule: How it is cut.
        weight_snr: Of each weight that was measured: (dB with one scale, dB with one a channel,
            whether it has one a channel).

    Raises:
        RangeError: A range is missing or infinite.
        ValueError: `max_length`, `groups`, `int16` or `npu` do not fit the model.
    """

    def __init__(
        self,
        model: FoldedModel,
        ranges: Mapping[str, tuple[float, float]],
        max_length: int,
        pair: bool = False,
        per_channel: frozenset[str] | None = frozenset(),
        groups: schedule_lib.Groups | None = None,
        offline: bool = True,
        int16: frozenset[str] = frozenset(),
        npu: str = "",
    ) -> None:
        if not int16 <= set(INT16_PARTS):
            raise ValueError(f"int16 parts {sorted(int16)}; there are {', '.join(INT16_PARTS)}")
        if npu and int16:
            raise ValueError(f"npu '{npu}' with int16 parts {sorted(int16)}")
        if not 1 <= max_length <= model.position.shape[0]:
            raise ValueError(
                f"max_length {max_length} is not within 1..{model.position.shape[0]}, "
                "the positions that the model was trained with"
            )
        if groups is not None and sum(map(sum, groups)) != max_length:
            raise ValueError(f"groups {groups} do not sum to max_length {max_length}")
        if groups is not None and max(len(groups), *map(len, groups)) > schedule_lib.MOST_PARTS:
            raise ValueError(f"groups {groups}: TFLM joins at most {schedule_lib.MOST_PARTS} parts")
        self._length, self._pair, self._int16 = max_length, pair, int16
        self._npu = npu
        self._scales = Scales(ranges)
        self._weights = Weights(
            model, self._scales, max_length, pair, per_channel, wide_branch="branch" in int16
        )
        self.weight_snr = self._weights.snr
        self.schedule, self.graph, plan = schedule_lib.choose(
            self._build, max_length, model.head_w.shape[0], offline, groups
        )
        if offline:
            self.graph.metadata[memory_planner.OFFLINE_METADATA] = memory_planner.offline_metadata(
                self.graph, plan
            )

    def describe_schedule(self) -> str:
        """Returns how the graph is cut, as a line for people."""
        return self.schedule.describe()

    def describe_weights(self) -> str:
        """Returns what was measured of the weights, and chosen, as a line for people."""
        return self._weights.describe()

    def _build(self, groups: schedule_lib.Groups) -> Graph:
        """Returns the graph of one cut."""
        b, weights, length = Builder(), self._weights, self._length
        ids = Tensor("ids", (1, length), np.int32)
        inputs = [ids]
        padding: Tensor | None = None
        if self._npu:
            token, padding = npu_lib.look_up(b, weights.token, ids, _TABLE)
        else:
            token = self._gather(b, "token", weights.token, ids)
        layers = Layers(b, self._scales, weights, self._int16, ids, padding)
        parts = [token, weights.position]
        if self._pair:
            segments = Tensor("segment_ids", (1, length), np.int32)
            inputs.append(segments)
            table = np.zeros((3, 4), np.int8)
            table[2] = weights.segment
            parts.append(self._gather(b, "segment", b.constant("segment", table, 1.0), segments))
        width = sum(part.shape[-1] for part in parts)
        embedded = b.activation("embedded", (1, length, width), _TABLE)
        b.add("CONCATENATION", parts, embedded, axis=2)
        q = self._scales.of("x0")
        x = b.dense("x0", embedded, weights.embed, weights.embed_bias, length, q)
        last = len(weights.layers) - 1
        for index in range(last):
            x = layers.layer(index, x, groups)
        x = layers.last_layer(last, x)
        q = self._scales.of("logits")
        logits = b.dense("logits", x, weights.head, weights.head_bias, 1, q)
        return Graph(inputs, [logits], b.ops)

    def _gather(self, b: Builder, name: str, table: Tensor, indices: Tensor) -> Tensor:
        """Adds GATHER of a table's rows: (1, S, columns)."""
        rows = b.activation(name, (1, self._length, table.shape[1]), _TABLE)
        return b.add("GATHER", [table, indices], rows, axis=0)
