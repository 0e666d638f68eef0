"""How much an inference computes, and whether it depends on how long the text is."""

import dataclasses
import math
import struct

from converters.kernels import selective_scan
from converters.report import application
from converters.tflite import graph as graph_lib
from converters.tflm import probe_inputs


@dataclasses.dataclass(frozen=True)
class Work:
    """Multiply-accumulates of an inference.

    Attributes:
        length: Tokens of the longest input whose numbers are looked up in a table; 0 where there is
            none.
        whole: Of an inference that fills every input; loops and branches counted once.
        by_length: Number of tokens -> theirs, where the work follows the text; else empty.
    """

    length: int
    whole: int
    by_length: dict[int, int]

    def lines(self) -> list[str]:
        """The report's sentences."""
        if self.by_length:
            parts = ", ".join(f"{_amount(count)} for {n}" for n, count in self.by_length.items())
            return [
                f"work: it follows the text, up to {self.length} tokens; multiply-accumulates: "
                f"{parts}; the arena is that of {self.length} tokens in any case"
            ]
        result = f"work: {_amount(self.whole)} multiply-accumulates an inference"
        if self.length > 3:
            result += (
                f", the whole {self.length} positions of its input for a text of three words too: "
                "shapes are fixed; the same for its arena. A graph that is converted for fewer "
                "positions costs less"
            )
        return [result]


def _amount(count: int) -> str:
    return f"{count / 1e6:,.2f} million" if count >= 100_000 else f"{count:,}"


def _elements(tensor: graph_lib.Tensor | None) -> int:
    return math.prod(tensor.shape) if tensor is not None else 0


def _of(op: graph_lib.Op) -> int:
    """Multiply-accumulates of one builtin operator, or of a selective scan."""
    out = _elements(op.outputs[0]) if op.outputs else 0
    shapes = [t.shape if t is not None else () for t in op.inputs]
    if op.kind == "FULLY_CONNECTED":
        return out * shapes[1][-1]
    if op.kind == "CONV_2D":
        return out * math.prod(shapes[1][1:])
    if op.kind == "DEPTHWISE_CONV_2D":
        return out * shapes[1][1] * shapes[1][2]
    if op.kind == "TRANSPOSE_CONV":
        return _elements(op.inputs[2]) * math.prod(shapes[1][:3])
    if op.kind == "BATCH_MATMUL":
        return out * shapes[0][-2 if op.options.adjX else -1]
    if op.kind == "SVDF":
        return _elements(op.inputs[1]) + _elements(op.inputs[2])
    if op.kind == "UNIDIRECTIONAL_SEQUENCE_LSTM":
        steps = _elements(op.inputs[0]) // shapes[0][-1]
        return steps * sum(_elements(t) for t in op.inputs[1:9])
    if op.custom_code == selective_scan.OPERATOR:
        # Two for the next state and one for y; the decays themselves are no multiplications.
        return 3 * out * shapes[4][1]
    return 0


def _of_embbert(op: graph_lib.Op, n: int) -> int:
    """Multiply-accumulates of one operator of this project for `n` tokens."""
    if op.custom_code == "EMBBERT_EMBED":
        return n * _elements(op.inputs[4])
    if op.custom_code == "EMBBERT_HEAD":
        return _elements(op.inputs[1])
    hidden, expansion, taps = struct.unpack_from("<3i", op.custom_options, 8)
    rows = 1 if op.outputs[0].shape[0] == 1 else n
    gate = taps * expansion * hidden + expansion * hidden * hidden
    return rows * (2 * hidden * hidden + 2 * n * hidden + gate)


def count(graphs: list[graph_lib.Graph]) -> Work:
    """Counts the work of a file; operators that cannot be understood count as none."""
    bounds = probe_inputs.allowed(graphs)
    texts = [t for t, found in zip(graphs[0].inputs, bounds, strict=True) if found is not None]
    length = max((_elements(t) for t in texts), default=0)
    ops = [op for graph in graphs for op in graph.ops]
    own = [op for op in ops if op.custom_code in application.EMBBERT_OPERATORS]
    whole = 0
    by_length: dict[int, int] = {}
    try:
        if own and len(own) == len(ops):
            for n in sorted({min(3, length), -(-length // 4), -(-length // 2), length}):
                by_length[n] = sum(_of_embbert(op, n) for op in own)
            whole = by_length[length]
        else:
            whole = sum(_of(op) for op in ops)
    except (IndexError, AttributeError, struct.error):
        whole, by_length = 0, {}
    return Work(length, whole, by_length)
